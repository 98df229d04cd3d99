package probe

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onThrowawayThread runs f on an operating system thread that ends with it, and
// waits for it. no_new_privs, seccomp filters and Landlock domains belong to a
// thread and can't be taken off again; a goroutine that ends while locked takes
// its thread along, and the runtime starts no new thread from a locked one
// (runtime.LockOSThread), so nothing inherits them.
//
// The process's first thread can't end so: the runtime only parks it, and
// /proc/PID/status would show its state for good. When the goroutine lands
// there it holds on to that thread until another goroutine is done.
func onThrowawayThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onThrowawayThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}
