package jail

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Forwarded are the signals that the supervisor forwards to the command.
var Forwarded = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGCONT,
}

// runInit is the jail's first process.
func runInit(control channel, config int, c *Config) int {
	if c.Isolate {
		closeOnExecBut(c.Keep)
		if err := buildView(c); err != nil {
			return fail(control, fmt.Errorf("build the jail's view: %w", err))
		}
	} else if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fail(control, fmt.Errorf("become a child subreaper: %w", err))
	}
	if c.NoNetwork {
		if err := raiseLoopback(); err != nil {
			return fail(control, fmt.Errorf("set up the jail's network: %w", err))
		}
	}
	terminal, err := openTerminal(control, c)
	if err != nil {
		return fail(control, err)
	}
	m, fds, err := control.receive()
	if err != nil || m.Kind != proceed {
		return stageFailed // the supervisor is gone, or gave up
	}
	guard := config // any descriptor will do where no guard is wanted
	if c.Guard {
		if len(fds) != 1 {
			return fail(control, errors.New("BUG: no guard came with the order to proceed"))
		}
		guard = fds[0]
	}
	// Before the command exists: a signal between its start and ours would
	// end init.
	signals := newRelay(c.ownSession())
	pid, err := startEnter(terminal, int(control), config, guard, c)
	if err != nil {
		return fail(control, fmt.Errorf("start the command: %w", err))
	}
	if terminal >= 0 {
		unix.Close(terminal)
	}
	ended, orphaned := make(chan unix.WaitStatus, 1), make(chan struct{})
	go func() { ended <- reapUntil(pid) }()
	go func() {
		signals.run(control, pid)
		close(orphaned)
	}()
	code := stageFailed
	select {
	case status := <-ended:
		if control.send(message{Kind: exited, Number: int(status)}) == nil {
			code = 0
		}
	case <-orphaned:
	}
	if !c.Isolate {
		endDescendants()
	}
	return code // at the end of a pid namespace's pid 1 the kernel kills the rest
}

// openTerminal makes the pseudo-terminal in the jail's own devpts and sends its
// master to the supervisor; it returns the slave.
func openTerminal(control channel, c *Config) (int, error) {
	if !c.Terminal {
		return -1, control.send(message{Kind: ready})
	}
	master, slave, err := pty.Open()
	if err != nil {
		return -1, fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	defer master.Close()
	defer slave.Close()
	if err := control.send(message{Kind: ready}, int(master.Fd())); err != nil {
		return -1, err
	}
	fd, err := unix.FcntlInt(slave.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return -1, fmt.Errorf("duplicate the pseudo-terminal: %w", err)
	}
	return fd, nil
}

// startEnter forks the second stage.
func startEnter(terminal, control, config, guard int, c *Config) (int, error) {
	std := []int{0, 1, 2}
	// A session of its own has no controlling terminal but the one it is given:
	// no input can be pushed into the user's (TIOCSTI, ioctl_tty(2)).
	sys := &syscall.SysProcAttr{Setsid: c.ownSession()}
	if terminal >= 0 {
		for i := range std {
			if c.Replace[i] {
				std[i] = terminal
				sys.Setctty, sys.Ctty = true, i
			}
		}
	}
	files, internal := descriptors(std, c.Keep, control, config, guard)
	args := []string{stageName, "enter"}
	for _, fd := range internal {
		args = append(args, strconv.Itoa(fd))
	}
	return syscall.ForkExec("/proc/self/exe", args, &syscall.ProcAttr{Files: files, Env: []string{}, Sys: sys})
}

// reapUntil reaps children until pid has ended, and returns its status.
func reapUntil(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return unix.WaitStatus(stageFailed << 8) // ECHILD: someone else reaped it, which cannot be
		case got == pid && (status.Exited() || status.Signaled()):
			return status
		}
	}
}

// relay forwards signals to the command, once. A signal that a terminal sends
// to its foreground process group reaches the supervisor, init and, unless it has
// a session of its own, the command alike: what init got itself, the command got
// too. To a session of its own it is forwarded as it came, to the whole group.
type relay struct {
	apart    bool // the command has a session of its own
	incoming chan os.Signal

	mu  sync.Mutex
	own map[os.Signal]time.Time // when init itself got it last
}

func newRelay(apart bool) *relay {
	r := &relay{apart: apart, incoming: make(chan os.Signal, 64), own: map[os.Signal]time.Time{}}
	for _, sig := range Forwarded {
		// What is ignored stays ignored, in the command too (nohup(1)).
		if !signal.Ignored(sig) {
			signal.Notify(r.incoming, sig)
		}
	}
	return r
}

// run forwards until the supervisor is gone.
func (r *relay) run(control channel, pid int) {
	go func() {
		for sig := range r.incoming {
			r.mu.Lock()
			r.own[sig] = time.Now()
			r.mu.Unlock()
		}
	}()
	for {
		m, fds, err := control.receive()
		closeAll(fds)
		if err != nil {
			return
		}
		if m.Kind == forward {
			r.forward(pid, syscall.Signal(m.Number))
		}
	}
}

// sameSignal is how far apart the arrivals of one signal at two members of a
// process group can lie.
const sameSignal = 50 * time.Millisecond

func (r *relay) forward(pid int, sig syscall.Signal) {
	time.Sleep(sameSignal / 2)
	r.mu.Lock()
	shared := time.Since(r.own[sig]) < 2*sameSignal
	delete(r.own, sig)
	r.mu.Unlock()
	switch {
	case !shared:
		_ = unix.Kill(pid, sig) // ESRCH: it has ended
	case r.apart:
		_ = unix.Kill(-pid, sig)
	}
}

func closeOnExec(fds ...int) {
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
}

// closeOnExecBut marks all descriptors from 3 on, but those of keep.
func closeOnExecBut(keep []int) {
	first := 3
	for _, fd := range slices.Sorted(slices.Values(keep)) {
		if fd > first {
			_ = unix.CloseRange(uint(first), uint(fd-1), unix.CLOSE_RANGE_CLOEXEC)
		}
		first = fd + 1
	}
	_ = unix.CloseRange(uint(first), ^uint(0)>>32, unix.CLOSE_RANGE_CLOEXEC)
}
