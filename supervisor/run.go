package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/policy/owner"
	"github.com/depguard/depguard/supervisor/console"
	"github.com/depguard/depguard/supervisor/filter"
	"github.com/depguard/depguard/supervisor/filter/inherited"
	"github.com/depguard/depguard/supervisor/guard"
	"github.com/depguard/depguard/supervisor/jail"
	"github.com/depguard/depguard/supervisor/locate"
	"github.com/depguard/depguard/supervisor/notify"
	"github.com/depguard/depguard/tracer"
)

// Config is one run. The zero value of every field is its default.
type Config struct {
	Args []string
	Dir  string   // working directory of the command, absolute; without isolation it is this process's
	Env  []string // its environment

	Policy    *policy.Policy // nil: nothing is declared, everything is recorded
	PolicyDir string         // directory that the policy's relative paths are relative to
	Packages  owner.DB       // of this machine; nil when the policy names none
	Home      string         // what ~ means in the policy
	Enforce   bool           // refuse what is undeclared; needs a policy
	Isolate   bool           // the jail of enforce, in audit
	Workspace []string       // directories that stay writable in an isolated jail; absolute, without symbolic links
	Network   policy.Network // of an isolated jail
	NoGuard   bool           // accept enforce without Landlock
	NoIOUring bool           // refuse io_uring in audit too
	NoWitness bool           // do without the tracing programs
	Keep      []int          // descriptors that the command inherits besides 0 to 2
	Streams   console.Streams

	// Started is called with the recorder once everything stands and before
	// the command runs; its error ends the run.
	Started func(*tracer.Recorder) error
}

// Result is how a run ended.
type Result struct {
	Trace *tracer.Trace
	// Status is the command's exit status, or 128+n when signal n ended it.
	Status int
	// NotExecuted says why the command could not be executed: Status is then
	// 126 or 127, as in sh(1).
	NotExecuted error
}

func (c *Config) isolated() bool { return c.Isolate || c.Enforce }

// Run runs the command and returns when no process of it is left. The error
// says what depguard itself could not do; the trace up to then comes with it
// where there is one. Cancelling ctx kills the jail.
func Run(ctx context.Context, c Config) (*Result, error) {
	if len(c.Args) == 0 {
		return nil, errors.New("no command was given")
	}
	// The jail's init gets SIGKILL when the thread that forked it ends
	// (prctl(2), PR_SET_PDEATHSIG): this one stays until it has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &run{config: &c, streams: c.Streams}
	defer r.close()
	if err := r.prepare(); err != nil {
		return nil, err
	}
	return r.execute(ctx)
}

// run holds what a run has made, for close to take down.
type run struct {
	config   *Config
	streams  console.Streams
	signals  chan os.Signal
	jail     *jail.Jail
	terminal *console.Terminal
	guard    *guard.Ruleset
	loading  <-chan witnessStart // until awaitWitness has taken the outcome
	witness  *tracer.KernelWitness
	list     *allowlist.List
	locator  *locate.Locator
	recorder *tracer.Recorder
	granted  map[allowlist.FileID]policy.Access // files that the command was given as descriptors

	mechanisms []tracer.Mechanism
}

// prepare makes everything that has to stand before the command starts.
func (r *run) prepare() error {
	c := r.config
	if c.isolated() {
		if err := c.checkDescriptors(); err != nil {
			return err
		}
	}
	r.signals = make(chan os.Signal, 64)
	for _, sig := range jail.Forwarded {
		if !signal.Ignored(sig) { // nohup(1)
			signal.Notify(r.signals, sig)
		}
	}
	r.startWitness()
	if c.Enforce && !c.NoGuard {
		var err error
		if r.guard, err = guard.New(); err != nil {
			return fmt.Errorf("enforce needs a guard in the kernel: %w; --guard=none accepts verdicts that a hostile build can race", err)
		}
	}
	settings, err := r.jailConfig()
	if err != nil {
		return err
	}
	if r.jail, err = jail.Start(settings); err != nil {
		return err
	}
	if r.jail.Terminal >= 0 {
		if r.terminal, err = console.Attach(r.jail.Terminal, r.streams); err != nil {
			return err
		}
	}
	if err := r.compile(); err != nil {
		return err
	}
	if r.locator, err = locate.New(r.root()); err != nil {
		return err
	}
	r.awaitWitness()
	r.describe()
	r.recorder = tracer.NewRecorder(r.head())
	if c.Started != nil {
		return c.Started(r.recorder)
	}
	return nil
}

// root is the jail's root directory as we see it.
func (r *run) root() string {
	if r.config.isolated() {
		return fmt.Sprintf("/proc/%d/root", r.jail.PID)
	}
	return "/"
}

func (r *run) allowlistOptions(root string) allowlist.Options {
	c := r.config
	return allowlist.Options{Root: root, Policy: c.Policy, DB: c.Packages, Home: c.Home, Dir: c.PolicyDir}
}

func (r *run) jailConfig() (*jail.Config, error) {
	c := r.config
	calls := filter.Observe()
	if c.Enforce {
		calls = filter.Enforce()
	} else if c.NoIOUring {
		calls = calls.RefuseIOUring()
	}
	program, err := calls.Compile()
	if err != nil {
		return nil, err
	}
	terminals := r.streams.Terminals()
	settings := &jail.Config{
		Args: c.Args, Dir: c.Dir, Env: c.Env,
		Isolate: c.isolated(), Keep: c.Keep, Signals: inherited.AtStart(),
		NoNetwork: c.isolated() && c.Network == policy.NetworkNone,
		// An isolated jail gets no hold of the user's terminal at all.
		Terminal: terminals[1] || c.isolated() && (terminals[0] || terminals[2]), Replace: terminals,
		Filter: filter.Encode(program), Guard: r.guard != nil,
	}
	if !c.isolated() {
		return settings, nil
	}
	settings.Writable = c.Workspace
	if c.Policy == nil {
		return settings, nil
	}
	writable, err := allowlist.Writable(r.allowlistOptions("/"))
	if err != nil {
		return nil, err
	}
	settings.Writable = append(settings.Writable, writable...)
	if !c.Enforce {
		return settings, nil // audit refuses nothing
	}
	masks, err := allowlist.Masks(r.allowlistOptions("/"))
	if err != nil {
		return nil, err
	}
	for _, m := range masks {
		settings.Masks = append(settings.Masks, jail.Mask{Path: m.Path, Directory: m.Dir})
	}
	return settings, nil
}

// compile makes the allowlist of the view that the jail now has, and with it,
// entry by entry and from the same descriptors, the guard.
func (r *run) compile() error {
	if r.config.Policy == nil {
		return nil
	}
	options := r.allowlistOptions(r.root())
	if r.guard != nil {
		options.Visit = func(g allowlist.Grant) error {
			if err := r.guard.Allow(g.FD, g.Access, g.Tree); err != nil {
				return fmt.Errorf("%s: %w", g.Path, err)
			}
			return nil
		}
	}
	var err error
	if r.list, err = allowlist.Compile(options); err != nil {
		return err
	}
	return r.grantDescriptors()
}

// grantDescriptors lets the command open again, through /dev/stderr and the like,
// the files that it was given as descriptors, with the access it has already.
func (r *run) grantDescriptors() error {
	r.granted = map[allowlist.FileID]policy.Access{}
	for _, fd := range append([]int{0, 1, 2}, r.config.Keep...) {
		id, access, err := descriptorAccess(fd)
		if err != nil || access == 0 {
			continue // closed, or a directory, which checkDescriptors refuses
		}
		r.granted[id] |= access
		if r.guard == nil {
			continue
		}
		// EBADFD: a pipe without a name, which Landlock leaves alone.
		if err := r.guard.Allow(fd, access, false); err != nil && !errors.Is(err, unix.EBADFD) {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return nil
}

// descriptorAccess returns the identity of the file behind a descriptor and what
// the descriptor allows; no access for a directory.
func descriptorAccess(fd int) (allowlist.FileID, policy.Access, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return allowlist.FileID{}, 0, err
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR || flags&unix.O_PATH != 0 {
		return allowlist.FileID{}, 0, err
	}
	access := map[int]policy.Access{
		unix.O_RDONLY: policy.Read, unix.O_WRONLY: policy.Write, unix.O_RDWR: policy.Read | policy.Write,
	}[flags&unix.O_ACCMODE]
	return allowlist.IdentityOf(&st), access, nil
}

// checkDescriptors refuses to hand a directory into an isolated jail: by a
// descriptor on the host's own mounts, modes and owners could be changed behind
// the read-only view.
func (c *Config) checkDescriptors() error {
	for _, fd := range append([]int{0, 1, 2}, c.Keep...) {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return fmt.Errorf("descriptor %d is a directory: an isolated jail cannot be given one of the host's; redirect it from /dev/null", fd)
		}
	}
	return nil
}

// witnessStart is the outcome of loading the tracing programs.
type witnessStart struct {
	witness *tracer.KernelWitness
	err     error
}

// startWitness loads the tracing programs beside everything else: reading the
// kernel's types takes longer than making a jail.
func (r *run) startWitness() {
	started := make(chan witnessStart, 1)
	r.loading = started
	if r.config.NoWitness {
		started <- witnessStart{err: errors.New("switched off by --no-witness")}
		return
	}
	go func() {
		w, err := tracer.StartKernelWitness()
		started <- witnessStart{w, err}
	}()
}

func (r *run) awaitWitness() {
	s := <-r.loading
	r.loading, r.witness = nil, s.witness
	m := tracer.Mechanism{Name: "witness", Active: s.err == nil, Detail: "tp_btf"}
	if s.err != nil {
		m.Detail = s.err.Error()
	}
	r.mechanisms = append(r.mechanisms, m)
}

// execute starts the command, serves it to its end, and takes stock.
func (r *run) execute(ctx context.Context) (*Result, error) {
	ruleset := -1
	if r.guard != nil {
		ruleset = r.guard.FD()
	}
	if r.witness != nil {
		r.witness.Feed(r.recorder)
	}
	fd, err := r.jail.Proceed(ruleset)
	if err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	if fd >= 0 {
		listener, err := notify.New(fd)
		if err != nil {
			r.jail.Kill()
			_, _ = r.jail.Wait() // it was killed
			return nil, err
		}
		go r.serve(listener, served)
	} else {
		served <- nil // the command was not found
	}
	stop := context.AfterFunc(ctx, r.jail.Kill)
	defer stop()
	go r.forwardSignals()

	status, err := r.jail.Wait()
	if serveErr := <-served; serveErr != nil {
		err = serveErr
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r.finish(status, err)
}

// serve runs the server on a thread of its own. If it fails, the jail is ended:
// no call must go on unseen.
func (r *run) serve(listener *notify.Listener, served chan<- error) {
	// One thread waits for the tasks: synchronous wake-ups run it on the CPU
	// that the task just gave up.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := &server{
		listener: listener, locator: r.locator, list: r.list, recorder: r.recorder, witness: r.witness,
		granted: r.granted, enforce: r.config.Enforce, args: r.config.Args,
	}
	err := s.serve()
	if err != nil {
		r.jail.Kill()
	}
	// After the kill: the calls that wait fail in tasks that are dying.
	listener.Close()
	served <- err
}

func (r *run) forwardSignals() {
	for sig := range r.signals {
		if s, ok := sig.(syscall.Signal); ok {
			_ = r.jail.Signal(s) // init is gone: there is nothing to signal
		}
	}
}

// finish takes everything down in order and completes the trace.
func (r *run) finish(status unix.WaitStatus, err error) (*Result, error) {
	result := &Result{Status: exitStatus(status)}
	var notExecuted *jail.NotExecuted
	if errors.As(err, &notExecuted) {
		result.NotExecuted, err = notExecuted, nil
		result.Status = jail.NotExecutable
		if notExecuted.Errno == unix.ENOENT {
			result.Status = jail.NotFound
		}
	}
	var tail []byte
	if r.terminal != nil {
		r.terminal.Close()
		tail = r.terminal.Tail(tailLines)
	}
	if r.witness != nil {
		losses, stopErr := r.witness.Stop()
		r.witness = nil
		r.recorder.Lose(losses)
		err = errors.Join(err, stopErr)
	}
	result.Trace = r.recorder.Finish(func(head *tracer.Run) {
		head.End = time.Now()
		head.Status = result.Status
		head.Tail = string(tail)
	})
	return result, err
}

// tailLines is how many of the last lines of output a trace keeps.
const tailLines = 200

func exitStatus(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// close takes down what is left after an error.
func (r *run) close() {
	if r.jail != nil {
		r.jail.Close()
	}
	if r.terminal != nil {
		r.terminal.Close()
	}
	if r.loading != nil {
		r.awaitWitness()
	}
	if r.witness != nil {
		_, _ = r.witness.Stop() // the run has failed already, with a better reason
	}
	if r.guard != nil {
		r.guard.Close()
	}
	if r.locator != nil {
		r.locator.Close()
	}
	if r.signals != nil {
		signal.Stop(r.signals)
		close(r.signals)
	}
}
