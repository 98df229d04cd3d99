// Package supervisor runs one command in a jail and answers for every file that
// it opens: [Run].
//
// # The life of one open
//
//  1. The kernel stops a task in open(2) or a relative because the jail's filter
//     (package filter) says so, and notify.Listener.Receive returns a Request.
//  2. notify.Reader.Read copies the arguments out of the task's memory, once, and
//     checks that the task still waits: a Call of bytes, not of pointers.
//  3. locate.Locator.Locate finds the file that the path names under the task's own
//     root and working directory, with an O_PATH descriptor: a FileID.
//  4. allowlist.List decides about the FileID, or about the canonical name where
//     only a tree can tell: a Verdict with the rule behind it.
//  5. The access is recorded (tracer.Recorder), while the task still waits and
//     /proc can tell who it is.
//  6. notify.Listener answers: continue, EACCES or ENOENT.
//
// What cannot be read or located continues, and the kernel gives its own answer:
// every errno stays native. That is no hole, because the answer is not what
// enforces. A task can change its memory between our look and the kernel's; the
// guard (package guard) is bound to inodes, in the kernel, and holds all the same.
// The supervisor never opens anything for the jail.
//
// # Who runs where
//
// Run keeps its thread until the jail has ended (see jail.Start). One goroutine
// serves the listener, locked to its thread, and owns the listener, the locator and
// their buffers; nothing it touches is shared but the recorder, which has its own
// lock. The jail package has a goroutine that reads what init says. With a terminal,
// package console has two that copy. The kernel witness has one that reads the ring
// buffer.
//
// # Ends
//
// The order is fixed: the command ends; init ends every process of the jail and
// then itself; the listener reads as hung up, and serving ends; the terminal is
// drained and set back; the witness is stopped and drained; the trace is finished.
// An error of serving kills the jail first, and the same order follows.
package supervisor
