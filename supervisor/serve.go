package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/supervisor/locate"
	"github.com/depguard/depguard/supervisor/notify"
	"github.com/depguard/depguard/tracer"
)

// server answers the notifications of one jail. Its methods stand in the order
// in which an open passes through them; the package comment numbers the stages.
type server struct {
	listener *notify.Listener
	locator  *locate.Locator
	list     *allowlist.List // nil without a policy
	granted  map[allowlist.FileID]policy.Access
	recorder *tracer.Recorder
	witness  *tracer.KernelWitness // nil without one
	enforce  bool
	args     []string // the command's

	reader  notify.Reader
	request notify.Request
	call    notify.Call
	begun   bool // the command's own exec was seen
}

// serve answers until no task is left under the filter.
func (s *server) serve() error {
	for {
		err := s.listener.Receive(&s.request)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		errno, err := s.judge()
		if err != nil {
			return err
		}
		if err := s.answer(errno); err != nil {
			return err
		}
	}
}

// answer sends what judge said. A task that was killed meanwhile is none of our
// concern: nothing was done for it.
func (s *server) answer(errno unix.Errno) (err error) {
	if errno == 0 {
		_, err = s.listener.Continue(&s.request)
	} else {
		_, err = s.listener.Refuse(&s.request, errno)
	}
	return err
}

// judge reads the call, and returns the errno with which it is to fail, or 0.
func (s *server) judge() (unix.Errno, error) {
	switch s.reader.Read(s.listener, &s.request, &s.call) {
	case notify.Hidden:
		s.recorder.Lose(tracer.Losses{Unreadable: 1})
		return 0, nil
	case notify.Native:
		return 0, nil
	}
	switch s.call.Op {
	case notify.Open, notify.Open2:
		return s.open(), nil
	case notify.Exec, notify.ExecAt:
		return s.exec()
	case notify.Connect:
		if s.call.Address.IsValid() {
			s.recorder.Connect(s.request.PID, s.call.Address)
		}
	case notify.Root:
		s.locator.Moved()
	case notify.IOUring:
		s.recorder.Lose(tracer.Losses{IOUring: 1})
	case notify.FileHandle:
		s.recorder.Lose(tracer.Losses{FileHandles: 1})
	}
	return 0, nil
}

// open judges an open.
func (s *server) open() unix.Errno {
	flags := s.call.Flags
	if flags&unix.O_PATH != 0 {
		return 0 // neither reads nor writes; opening it again is another open
	}
	name := locate.Name{
		TID: s.request.PID, Dir: s.call.Dir, Path: s.call.Path, Resolve: s.call.Resolve,
		NoFollow: flags&unix.O_NOFOLLOW != 0 || flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL,
		Create:   flags&unix.O_CREAT != 0,
	}
	var file locate.File
	s.locator.Locate(&name, &file)
	defer file.Release()
	op := operation(flags, &file)
	return s.access(&file, op, name.Create, s.native(&file, flags, op))
}

// native returns the errno with which the kernel will refuse an open of its own
// accord, or 0. Such an open uses no file, and is not ours to judge.
func (s *server) native(file *locate.File, flags uint64, op policy.Access) unix.Errno {
	located := file.State == locate.Located
	switch {
	case located && flags&(unix.O_CREAT|unix.O_EXCL) == unix.O_CREAT|unix.O_EXCL:
		return unix.EEXIST
	case located && file.Mode&unix.S_IFMT == unix.S_IFLNK:
		return unix.ELOOP // of O_NOFOLLOW: others see what the link leads to
	case located && flags&unix.O_DIRECTORY != 0 && !file.Directory():
		return unix.ENOTDIR
	case !s.locator.Permitted(file, op):
		return unix.EACCES
	}
	return 0
}

// operation says how an open with these flags uses a file.
func operation(flags uint64, file *locate.File) policy.Access {
	var op policy.Access
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		op = policy.Read
		if file.State == locate.Located && file.Directory() {
			op = policy.List
		}
	case unix.O_WRONLY:
		op = policy.Write
	default:
		op = policy.Read | policy.Write
	}
	if flags&unix.O_TRUNC != 0 || file.State == locate.Creatable {
		op |= policy.Write
	}
	return op
}

// access decides about one use of a file, records it, and returns the errno
// with which the call is to fail. A call that the kernel will refuse goes on, and
// is recorded with native, the errno expected.
func (s *server) access(file *locate.File, op policy.Access, create bool, native unix.Errno) unix.Errno {
	o := tracer.Observation{TID: s.request.PID, Op: op, Asked: file.Asked, ID: file.ID, Mode: file.Mode}
	switch file.State {
	case locate.Absent:
		o.Outcome = tracer.Missing
	case locate.Unlocated:
		o.Outcome = tracer.Unknown
	case locate.Creatable:
		o.Outcome = tracer.Creating
		o.Canonical = s.locator.Canonical(file)
	case locate.Located:
		o.Outcome = tracer.Found
		if !s.recorder.Known(file.ID) {
			o.Canonical = s.locator.Canonical(file)
		}
	}
	var verdict allowlist.Verdict
	if s.list != nil && (file.State == locate.Located || file.State == locate.Creatable) {
		verdict = s.decide(file, op, o.Canonical)
	}
	denied := verdict.Action != allowlist.Allow && verdict.Rule != nil
	if native != 0 && !denied { // a rule that denies is told all the same
		o.Errno = native
		s.recorder.Access(&o)
		return 0
	}
	o.Verdict = verdict.Action
	if verdict.Rule != nil {
		o.Rule = verdict.Rule.Text
	}
	if s.enforce && verdict.Action != allowlist.Allow {
		o.Errno = refusal(verdict.Action, file, op, create)
	}
	s.recorder.Access(&o)
	return o.Errno
}

// decide asks the allowlist: by identity, and where that does not settle it, by
// canonical name.
func (s *server) decide(file *locate.File, op policy.Access, canonical []byte) allowlist.Verdict {
	if file.State == locate.Located {
		if verdict, decided := s.list.ByID(file.ID, op); decided {
			return verdict
		}
		if s.granted[file.ID].Has(op) {
			return allowlist.Verdict{Action: allowlist.Allow}
		}
	}
	if len(canonical) == 0 {
		canonical = s.locator.Canonical(file)
	}
	if len(canonical) == 0 {
		// Deleted, or never had a name (a memfd): it came from the jail
		// itself, which could not have read it from elsewhere.
		return allowlist.Verdict{Action: allowlist.Allow}
	}
	return s.list.ByPath(canonical, op)
}

// refusal is the errno of a verdict. Under hide a file is absent; a call that
// would create it must not be told so, and neither must one that writes to it:
// what is read-only in the jail's view answers for itself.
func refusal(action allowlist.Action, file *locate.File, op policy.Access, create bool) unix.Errno {
	switch {
	case file.State == locate.Creatable:
		return 0 // the view is read-only there: EROFS, from the kernel
	case action == allowlist.Hide && !create:
		return unix.ENOENT
	}
	return unix.EACCES
}

// maxInterpreters is how many interpreters of interpreters the kernel follows
// before it gives up with ELOOP (fs/exec.c, exec_binprm).
const maxInterpreters = 5

// exec judges an exec with all the files that the kernel opens for it: the
// file itself, interpreters of scripts, the loader.
func (s *server) exec() (unix.Errno, error) {
	name := locate.Name{
		TID: s.request.PID, Dir: s.call.Dir, Path: s.call.Path,
		NoFollow: s.call.Flags&unix.AT_SYMLINK_NOFOLLOW != 0,
		Empty:    s.call.Flags&unix.AT_EMPTY_PATH != 0,
	}
	executes, last := false, false
	for range 1 + maxInterpreters + 1 { // the file, interpreters, a loader
		var file locate.File
		s.locator.Locate(&name, &file)
		if !s.begun {
			if err := s.begin(&file); err != nil {
				return 0, err
			}
		}
		errno := s.access(&file, policy.Exec, false, s.native(&file, 0, policy.Exec))
		next, script := s.locator.Interpreter(&file)
		executes = executes || file.State == locate.Located && file.Regular()
		file.Release()
		if errno != 0 {
			return errno, nil
		}
		if last || len(next) == 0 {
			break
		}
		last = !script // a loader is loaded by the kernel alone
		// The kernel resolves interpreters from the task's working directory.
		name = locate.Name{TID: s.request.PID, Dir: unix.AT_FDCWD, Path: next}
	}
	if executes {
		s.recorder.Executed(s.request.PID)
	}
	return 0, nil
}

// begin takes note of the command's own exec, the first of the jail: from here
// on the witness watches.
func (s *server) begin(file *locate.File) error {
	s.begun = true
	exe := string(bytes.Clone(file.Asked))
	if file.State == locate.Located {
		exe = string(s.locator.Canonical(file))
	}
	s.recorder.Begin(s.request.PID, exe, slices.Clone(s.args))
	if s.witness == nil {
		return nil
	}
	fd, err := unix.PidfdOpen(s.request.PID, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(fd)
	if err := s.witness.Track(fd); err != nil {
		return fmt.Errorf("point the witness at the command: %w", err)
	}
	return nil
}
