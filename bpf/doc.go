// Package bpf is the witness: tracing programs that report, from the kernel's
// side, each file that a process of the jail opened or executed.
//
// The programs (witness.bpf.c) run on raw tracepoints with typed arguments
// (tp_btf). The life of one event, in order:
//
//  1. A task is marked, in BPF task storage. [Witness.Track] marks the first
//     task by its pidfd; on_fork copies the mark to every child, threads
//     included, before the child runs. A mark dies with its task. Other
//     processes of the machine cost one comparison per system call.
//  2. A marked task returns from an open. on_sys_exit takes the file from the
//     new descriptor (task, file table, file, inode) and reads the path out
//     of the task's memory, at exit because then its page has just been used.
//  3. The event is built in place in a ring buffer. A ring without room is
//     counted: nothing is lost silently.
//  4. [Witness.Read] returns it, in the order of the ring.
//  5. [Witness.Stop] detaches the programs and waits for those that run; Read
//     returns what is left and then io.EOF. [Witness.Close] frees everything and returns
//     the [Ledger], which tells whether the account is complete.
//
// One goroutine calls Read. Any goroutine may call Track and Stop. Close is
// called once Read has returned io.EOF; called earlier it makes Read return io.EOF, and
// the Ledger counts what was not read.
//
// # What each hook sees
//
//   - sys_exit: open, creat, openat, openat2 and open_by_handle_at that
//     succeeded, from all three ABIs of an x86-64 kernel (64-bit, x32, and
//     32-bit calls, int 0x80 in 64-bit code included).
//   - sched_process_exec: the file that was executed. For a script that is
//     its interpreter; the script itself follows as an open, by the
//     interpreter. The ELF interpreter (ld.so), which the kernel opens
//     itself, is found through the mapping at AT_BASE and reported as
//     [KindLoader] (Linux 5.17).
//   - sched_process_fork, sched_process_exit: processes. A process ends when
//     its last thread does.
//
// # What none of them sees
//
//   - Opens that failed.
//   - Opens by io_uring. [Ledger.IOUrings] counts the rings that were set up.
//   - Descriptors that another process opened and passed on (SCM_RIGHTS,
//     pidfd_getfd).
//   - The file of a script whose interpreter does not open it, and the inner
//     scripts of a chain of them.
//   - The first file behind a descriptor that another thread replaced between
//     the open and its return. One that was closed is counted
//     ([Ledger.Gone]).
//
// So the witness is an observer and never a guard.
//
// # Identity
//
// Event.Dev is super_block.s_dev in the kernel's own encoding. It equals
// st_dev (see allowlist.FileID.KernelDev) except on btrfs subvolumes and on
// overlays whose layers lie on different filesystems; field 3 of
// /proc/PID/mountinfo is s_dev everywhere.
//
// # Kernels
//
// Linux 5.12 with BTF (CONFIG_DEBUG_INFO_BTF), x86-64: task storage in tracing
// programs and atomic fetches set the floor. No trampolines, kprobes or BPF
// LSM are needed. On Linux before 6.2 a task's mark is looked up under a lock
// that a preempted holder on the same CPU makes fail, and the event is then
// missed without a count; that needs a fully preemptible kernel and another
// user of task storage. Needed privileges: CAP_BPF and CAP_PERFMON, in the
// initial user namespace.
package bpf
