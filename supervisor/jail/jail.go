package jail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/supervisor/filter/inherited"
)

// Config is what the jail runs and in which surroundings.
type Config struct {
	Args []string // the command; Args[0] is looked up along PATH of Env
	Dir  string   // its working directory in an isolated jail; else it is the one of this process
	Env  []string

	// Isolate gives the jail namespaces of its own (user, mount, pid, ipc, uts)
	// with the view below. Without it, it has the host's.
	Isolate bool
	// NoNetwork gives it a network namespace with nothing but a loopback.
	NoNetwork bool
	// Writable are the absolute paths, without symbolic links, that stay
	// writable in the view: directories with all below them, or files.
	Writable []string
	// Masks are paths of the view behind which nothing can be read.
	Masks []Mask

	// Terminal runs the command on a new pseudo-terminal, as the leader of a
	// new session. Replace says which of the descriptors 0 to 2 it takes over.
	Terminal bool
	Replace  [3]bool

	// Signals are what the command inherits as ignored and blocked.
	Signals inherited.Signals

	// Keep are the descriptors that the command inherits besides 0 to 2, under
	// the same numbers.
	Keep []int

	Filter []byte // the seccomp program, filter.Encode
	Guard  bool   // proceed brings a Landlock ruleset
}

// ownSession reports whether the command leads a session of its own: on a
// pseudo-terminal, and in every isolated jail.
func (c *Config) ownSession() bool { return c.Terminal || c.Isolate }

// Mask hides what a path leads to.
type Mask struct {
	Path      string
	Directory bool
}

// Jail is a started jail, seen from the supervisor.
type Jail struct {
	PID      int // of init
	Terminal int // master of the pseudo-terminal, or -1; the caller's to close

	exit chan outcome

	mu      sync.Mutex // closing; receiving goes on without it until init has ended
	control channel    // -1 once closed
	pidfd   int        // of init; -1 once closed
}

// outcome is how the command ended.
type outcome struct {
	status unix.WaitStatus
	noexec syscall.Errno
	err    error
}

// stageName is the argv[0] under which depguard executes itself.
const stageName = "depguard-jail"

// Start starts init and waits until the view stands. The command does not run
// before Proceed.
//
// The calling goroutine has to be locked to its thread until Wait returns: the
// parent death signal comes when the thread that forked ends (prctl(2)).
func Start(c *Config) (_ *Jail, err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a child subreaper: %w", err)
	}
	ours, theirs, err := newPair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(int(theirs))
	config, err := writeConfig(c)
	if err != nil {
		unix.Close(int(ours))
		return nil, err
	}
	defer unix.Close(config)

	j := &Jail{pidfd: -1, Terminal: -1, control: ours, exit: make(chan outcome, 1)}
	defer func() {
		if err != nil {
			j.Close()
		}
	}()
	files, internal := descriptors([]int{0, 1, 2}, c.Keep, int(theirs), config)
	attr := &syscall.ProcAttr{
		Files: files,
		Env:   []string{},
		Sys:   &syscall.SysProcAttr{PidFD: &j.pidfd},
	}
	if c.Isolate {
		// Only here: the kernel ends a pid namespace with its init. In plain
		// audit init has to outlive us, and ends its descendants itself when
		// it reads end-of-file.
		attr.Sys.Pdeathsig = syscall.SIGKILL
		if err := isolate(attr.Sys, c.NoNetwork); err != nil {
			return nil, err
		}
	}
	args := []string{stageName, "init", strconv.Itoa(internal[0]), strconv.Itoa(internal[1])}
	j.PID, err = syscall.ForkExec("/proc/self/exe", args, attr)
	if err != nil {
		return nil, explainStart(err, c)
	}
	if err := j.awaitReady(); err != nil {
		return nil, err
	}
	return j, nil
}

// descriptors lays out the descriptors of a child: std at 0 to 2, keep under
// their own numbers, and internal at the lowest numbers that are free. Numbers
// between that are not named are closed.
func descriptors(std, keep []int, internal ...int) (files []uintptr, at []int) {
	const closed = ^uintptr(0)
	size := 3 + len(keep) + len(internal)
	for _, fd := range keep {
		size = max(size, fd+1+len(internal))
	}
	files = make([]uintptr, size)
	for i := range files {
		files[i] = closed
	}
	for i, fd := range std {
		files[i] = uintptr(fd)
	}
	for _, fd := range keep {
		files[fd] = uintptr(fd)
	}
	next := 3
	for _, fd := range internal {
		for files[next] != closed || slices.Contains(keep, next) {
			next++
		}
		files[next] = uintptr(fd)
		at = append(at, next)
	}
	last := len(files)
	for files[last-1] == closed {
		last--
	}
	return files[:last], at
}

func (j *Jail) awaitReady() error {
	m, fds, err := j.control.receive()
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the jail ended before it was ready: was its process killed?")
	case err != nil:
		return err
	case m.Kind == failed:
		return errors.New(m.Text)
	case m.Kind != ready:
		closeAll(fds)
		return fmt.Errorf("BUG: the jail said %d before it was ready", m.Kind)
	}
	if len(fds) > 0 {
		j.Terminal = fds[0]
	}
	return nil
}

// Proceed starts the command under the ruleset of descriptor guard (-1 for
// none) and returns the listener of its filter, which is the caller's. From
// then on Wait has to be called.
func (j *Jail) Proceed(guard int) (listenerFD int, err error) {
	var fds []int
	if guard >= 0 {
		fds = append(fds, guard)
	}
	if err := j.control.send(message{Kind: proceed}, fds...); err != nil {
		return -1, fmt.Errorf("the jail is gone: %w", err)
	}
	m, fds, err := j.control.receive()
	switch {
	case errors.Is(err, io.EOF):
		return -1, errors.New("the jail ended before the command was started: was its process killed?")
	case err != nil:
		return -1, err
	case m.Kind == noexec:
		go j.follow(outcome{noexec: syscall.Errno(m.Number), err: errors.New(m.Text)})
		return -1, nil
	case m.Kind == failed:
		return -1, errors.New(m.Text)
	case m.Kind != listener || len(fds) != 1:
		closeAll(fds)
		return -1, fmt.Errorf("BUG: the jail said %d instead of sending its listener", m.Kind)
	}
	go j.follow(outcome{})
	return fds[0], nil
}

// follow reads what the jail says until it ends.
func (j *Jail) follow(o outcome) {
	ended := false
	for {
		m, fds, err := j.control.receive()
		closeAll(fds)
		if err != nil {
			break
		}
		switch m.Kind {
		case noexec:
			o.noexec, o.err = syscall.Errno(m.Number), errors.New(m.Text)
		case failed:
			o.err = errors.New(m.Text)
		case exited:
			o.status, ended = unix.WaitStatus(m.Number), true
		}
	}
	if !ended && o.err == nil {
		o.err = errors.New("the jail's first process was killed, and the command with it")
	}
	j.exit <- o
}

// Wait waits until the command has ended and no process of the jail is left.
// The error is a *NotExecuted when the command never ran.
func (j *Jail) Wait() (unix.WaitStatus, error) {
	o := <-j.exit
	j.reap()
	if o.noexec != 0 {
		return 0, &NotExecuted{Errno: o.noexec, Text: o.err.Error()}
	}
	return o.status, o.err
}

// NotExecuted says that the command could not be executed.
type NotExecuted struct {
	Errno syscall.Errno
	Text  string
}

func (e *NotExecuted) Error() string { return e.Text }

// Signal forwards a signal to the command. It may be called from any goroutine,
// after Close too.
func (j *Jail) Signal(sig syscall.Signal) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.control < 0 {
		return os.ErrProcessDone
	}
	return j.control.send(message{Kind: forward, Number: int(sig)})
}

// Kill ends the jail at once. Wait still has to be called after a Proceed. It is
// safe to call at any time and from any goroutine, after Close too.
func (j *Jail) Kill() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.pidfd >= 0 {
		// ESRCH: it is gone already.
		_ = unix.PidfdSendSignal(j.pidfd, unix.SIGKILL, nil, 0)
	}
}

// Close ends the jail if it still runs, and closes the supervisor's side of it,
// but for the terminal.
func (j *Jail) Close() {
	j.Kill()
	j.reap()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.pidfd >= 0 {
		unix.Close(j.pidfd)
		j.pidfd = -1
	}
	if j.control >= 0 {
		unix.Close(int(j.control))
		j.control = -1
	}
}

// reap waits for init. If it was killed in plain audit, the orphans are ours to
// end: they cannot be told from other children that this process may have, so
// a process that runs a jail has no others.
func (j *Jail) reap() {
	if j.PID == 0 {
		return
	}
	if status, err := waitFor(j.PID); err == nil && status.Signaled() {
		endDescendants()
	}
	j.PID = 0
}

// Inherited returns the descriptors from 3 on that the caller of this process
// meant it to have: all that are open and not close-on-exec. It is to be called
// before anything else opens some.
func Inherited() ([]int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("list the inherited descriptors (is /proc mounted?): %w", err)
	}
	var fds []int
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd < 3 {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return fds, nil
}
