package notify

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Request is one notification: a task that waits in a system call for an
// answer (struct seccomp_notif).
type Request struct {
	ID   uint64
	PID  int // thread id of the task, in the pid namespace of the receiver
	Nr   int32
	Arch uint32 // AUDIT_ARCH_*
	Args [6]uint64
}

// Listener is the descriptor that seccomp(2) returns with
// SECCOMP_FILTER_FLAG_NEW_LISTENER. It owns the descriptor. It is not safe
// for concurrent use, but for Close.
type Listener struct {
	fd    int
	polls []unix.PollFd
	notif rawNotif // kept here so that receiving allocates nothing
	resp  rawResp
}

// New takes over fd. It asks for synchronous wake-ups (Linux 6.6), with
// which the supervisor runs on the CPU that the task just gave up; kernels
// before that refuse with EINVAL, and the run is slower and no weaker.
func New(fd int) (*Listener, error) {
	if err := checkSizes(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	l := &Listener{fd: fd, polls: []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}}
	if errno := l.setSyncWakeUp(); errno != 0 && errno != unix.EINVAL {
		unix.Close(fd)
		return nil, fmt.Errorf("ask the seccomp listener for synchronous wake-ups: %w", errno)
	}
	return l, nil
}

// Close closes the descriptor. Calls that wait for an answer fail with ENOSYS
// in their tasks, so the jail is ended first. A Receive of another goroutine
// is not unblocked by it: end the jail, and Receive returns io.EOF.
func (l *Listener) Close() error { return unix.Close(l.fd) }

// Receive waits for a notification. It returns io.EOF when no task is left
// under the filter.
//
// It polls first: before Linux 6.11 SECCOMP_IOCTL_NOTIF_RECV blocks for ever
// once the last task is gone, and only poll tells (POLLHUP, Linux 5.9).
func (l *Listener) Receive(req *Request) error {
	for {
		l.polls[0].Revents = 0
		if _, err := unix.Poll(l.polls, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return fmt.Errorf("poll the seccomp listener: %w", err)
		}
		events := l.polls[0].Revents
		if events&unix.POLLIN == 0 {
			if events&unix.POLLHUP != 0 {
				return io.EOF
			}
			return fmt.Errorf("BUG: the seccomp listener polls as %#x", events)
		}
		switch errno := l.receive(); errno {
		case 0:
			n := &l.notif
			*req = Request{ID: n.id, PID: int(n.pid), Nr: n.nr, Arch: n.arch, Args: n.args}
			return nil
		case unix.EINTR, unix.ENOENT:
			// The task was killed between poll and receive, or a signal
			// came to this thread.
		default:
			return fmt.Errorf("receive a seccomp notification: %w", errno)
		}
	}
}

// Continue lets the kernel do the call. It reports false when the task was
// killed meanwhile.
func (l *Listener) Continue(req *Request) (bool, error) {
	return l.answer(rawResp{id: req.ID, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
}

// Refuse makes the call fail with errno. It reports false when the task was
// killed meanwhile.
func (l *Listener) Refuse(req *Request, errno unix.Errno) (bool, error) {
	return l.answer(rawResp{id: req.ID, errno: -int32(errno)})
}

func (l *Listener) answer(resp rawResp) (bool, error) {
	l.resp = resp
	for {
		switch errno := l.send(); errno {
		case 0:
			return true, nil
		case unix.EINTR:
		case unix.ENOENT:
			return false, nil
		default:
			return false, fmt.Errorf("answer a seccomp notification: %w", errno)
		}
	}
}

// Valid reports whether the task of req still waits. Whatever was read from
// /proc or the memory of its thread id before may stem from another task if
// it does not (seccomp_unotify(2), SECCOMP_IOCTL_NOTIF_ID_VALID).
func (l *Listener) Valid(req *Request) bool { return l.idValid(req.ID) == 0 }
