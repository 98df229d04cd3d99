// Package notify is the listener of a seccomp filter: receive a notification,
// read the arguments of the call out of the task's memory, answer. Stages 1,
// 2 and 6 of the life of one open (package supervisor tells all of it).
//
// Every errno of the kernel's interface is sorted here, once:
//
//   - Receive: EINTR and ENOENT (the task died in between) mean "next";
//     a hang-up of the descriptor means that no task is left under the filter.
//   - Read: memory that cannot be read is not an error of ours. The call goes
//     on, and the kernel gives EFAULT or ENAMETOOLONG itself. Only memory that
//     the kernel does not let us see (EPERM) is a loss, and is counted.
//   - Continue and Refuse: ENOENT means that the task was killed while it
//     waited. Nothing has to be undone, because nothing was done for it.
//
// The listener is used by one goroutine, locked to its thread: two receivers
// fight over the wake-ups and cost more than one.
//
// Sources: seccomp_unotify(2), Linux kernel/seccomp.c.
package notify
