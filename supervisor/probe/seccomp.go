package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// trialCall is the system call that the trial filters act on: no argument, no
// effect, an answer that can be checked, and nothing in the runtime makes it.
const trialCall = unix.SYS_GETPPID

// trialFilter returns a program that takes action on trialCall and lets every
// other call through. It does not look at the architecture: the one thread that
// carries it makes native calls only.
func trialFilter(action uint32) []unix.SockFilter {
	const number = 0 // offsetof(struct seccomp_data, nr)
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: trialCall},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
}

// makeTrialCall makes the call. It goes through the scheduler (Syscall, not
// RawSyscall): the call may wait for an answer that another goroutine gives.
func makeTrialCall() (result uintptr, err error) {
	result, _, errno := unix.Syscall(trialCall, 0, 0, 0)
	return result, asError(errno)
}

// noNewPrivs gives up privileges by exec on the calling thread, which lets a
// user without CAP_SYS_ADMIN install a filter (PR_SET_NO_NEW_PRIVS, prctl(2)).
func noNewPrivs() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }

// tryFilter installs a filter that refuses one call with an errno of its own,
// and makes the call.
func tryFilter(*machine) finding {
	found := unknown("the trial thread ended early")
	onThrowawayThread(func() {
		if err := noNewPrivs(); err != nil {
			found = failure("prctl(PR_SET_NO_NEW_PRIVS)", err)
			return
		}
		if _, err := loadFilter(trialFilter(unix.SECCOMP_RET_ERRNO|uint32(unix.EXDEV)), 0); err != nil {
			found = failure("seccomp(SECCOMP_SET_MODE_FILTER)", err)
			return
		}
		if _, err := makeTrialCall(); !errors.Is(err, unix.EXDEV) {
			found = no("a filter was installed but did not act (%v)", err)
			return
		}
		found = yes("a filter was installed and refused a call")
	})
	return found
}

// listenerReport is what a trial of the notification found out. An error of
// one stage leaves the later stages untried.
type listenerReport struct {
	listen   stage // sizes, filter, listener
	killable error // WAIT_KILLABLE_RECV with the listener
	wakeUp   error // SYNC_WAKE_UP on the listener
	deliver  stage // a notification arrived
	answer   stage // it was answered with CONTINUE and the call gave its own result
	sizes    notifSizes
}

// stage is a step of a trial: the call that failed, and how.
type stage struct {
	call string
	err  error
}

// tryListener plays both sides of a notification: a throwaway thread makes a
// call that notifies, this goroutine receives it and lets it continue. The
// listener is closed on every way out, and that alone ends the other side: a
// call that waits on a closed listener gets ENOSYS.
func tryListener(ctx context.Context) (r listenerReport) {
	sizes, err := askNotifSizes()
	if err != nil {
		return listenerReport{listen: stage{"seccomp(SECCOMP_GET_NOTIF_SIZES)", err}}
	}
	ready, done := make(chan int, 1), make(chan trialResult, 1)
	go onThrowawayThread(func() {
		var listener int
		if listener, r = listen(); r.listen.err != nil {
			close(ready)
			return
		}
		ready <- listener
		parent, err := makeTrialCall()
		done <- trialResult{parent, err}
	})
	listener, ok := <-ready
	if !ok {
		return r
	}
	r.sizes = sizes
	r.wakeUp = unix.IoctlSetInt(listener, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	r.deliver, r.answer = serve(ctx, listener, sizes)
	_ = unix.Close(listener)
	r.answer = checkResult(r.answer, <-done)
	return r
}

// trialResult is what the call gave on the thread that carries the filter.
type trialResult struct {
	parent uintptr
	err    error
}

// listen puts the notifying filter on the calling thread. The kernel allows a
// task one listener, so the flag is asked for first and left out when it is
// what the kernel does not know.
func listen() (listener int, r listenerReport) {
	if err := noNewPrivs(); err != nil {
		r.listen = stage{"prctl(PR_SET_NO_NEW_PRIVS)", err}
		return -1, r
	}
	program := trialFilter(unix.SECCOMP_RET_USER_NOTIF)
	listener, err := loadFilter(program, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if errors.Is(err, unix.EINVAL) {
		r.killable = err
		listener, err = loadFilter(program, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	}
	if err != nil {
		r.listen = stage{"seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)", err}
		return -1, r
	}
	return listener, r
}

// serve receives one notification and answers it with CONTINUE.
func serve(ctx context.Context, listener int, sizes notifSizes) (deliver, answer stage) {
	if err := awaitReadable(ctx, listener); err != nil {
		return stage{"poll(listener)", err}, stage{}
	}
	// A kernel's structure may be larger than the fields known here, never smaller.
	request := make([]byte, max(int(sizes.notif), 80))
	if err := exchange(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, request); err != nil {
		return stage{"ioctl(SECCOMP_IOCTL_NOTIF_RECV)", err}, stage{}
	}
	response := make([]byte, max(int(sizes.resp), 24))
	copy(response, request[:8]) // id, the first field of both
	binary.NativeEndian.PutUint32(response[20:], unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
	if err := exchange(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, response); err != nil {
		return stage{}, stage{"ioctl(SECCOMP_IOCTL_NOTIF_SEND, SECCOMP_USER_NOTIF_FLAG_CONTINUE)", err}
	}
	return stage{}, stage{}
}

// awaitReadable waits for fd until ctx ends, for five seconds at most.
func awaitReadable(ctx context.Context, fd int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		// Short waits: poll(2) does not see the context end.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return ctx.Err()
}

// checkResult holds an answered call to the result it gives without a filter.
func checkResult(answer stage, got trialResult) stage {
	switch {
	case answer.err != nil:
		return answer
	case got.err != nil:
		return stage{"the continued call", got.err}
	case int(got.parent) != unix.Getppid():
		return stage{"the continued call", fmt.Errorf("gave %d instead of %d", got.parent, unix.Getppid())}
	}
	return stage{}
}

// notification says whether a listener can be had and a call arrives on it.
func (r listenerReport) notification() finding {
	switch {
	case errors.Is(r.listen.err, unix.EBUSY):
		found := failure(r.listen.call, r.listen.err)
		found.detail = r.listen.call + ": EBUSY (a supervisor around this process holds the one listener that the kernel allows)"
		found.remedy = "run depguard outside the other supervisor: a container manager that intercepts system calls, or another depguard"
		return found
	case r.listen.err != nil:
		return failure(r.listen.call, r.listen.err)
	case r.deliver.err != nil:
		return failure(r.deliver.call, r.deliver.err)
	}
	return yes("a call was delivered (%d-byte notification); injecting descriptors (ADDFD) is not needed", r.sizes.notif)
}

// carryOn says whether a call can be handed back to the kernel.
func (r listenerReport) carryOn() finding {
	if r.answer.err != nil {
		return failure(r.answer.call, r.answer.err)
	}
	return r.after(nil, "", "the call went on and gave its own result")
}

// waitKillable says whether a received call is left alone by signals.
func (r listenerReport) waitKillable() finding {
	return r.after(r.killable, "seccomp(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)", "accepted with the listener")
}

// syncWakeUp says whether caller and supervisor can take turns on one CPU.
func (r listenerReport) syncWakeUp() finding {
	return r.after(r.wakeUp, "ioctl(SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP)", "accepted by the listener")
}

// after is the finding about a property of the listener: it could not be tried
// when there is no listener.
func (r listenerReport) after(err error, call, works string) finding {
	if without := r.notification(); without.outcome != Yes {
		return unknown("not tried: no notification (%s)", without.detail)
	}
	if err != nil {
		return failure(call, err)
	}
	return yes("%s", works)
}
