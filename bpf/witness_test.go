//go:build amd64

package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unavailable ends a test that this machine can't run, and says why. Under
// DEPGUARD_MUST_WORK=1 that is a failure.
func unavailable(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("DEPGUARD_MUST_WORK") == "1" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}

// openWitness returns a witness with a ring of the given size. A user without
// privileges can't have one; what such a user gets is TestOpenUnprivileged.
func openWitness(tb testing.TB, ringBytes uint32) *Witness {
	tb.Helper()
	w, err := open(ringBytes)
	if errors.Is(err, errors.ErrUnsupported) {
		if !privileged() {
			tb.Skip("needs CAP_BPF and CAP_PERFMON; TestOpenUnprivileged covers this user")
		}
		unavailable(tb, "this kernel has no tracing programs: %v", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

var victim struct {
	sync.Once
	dir, path string
	err       error
}

// victimPath returns the compiled testdata/victim.c.
func victimPath(tb testing.TB) string {
	tb.Helper()
	victim.Do(func() {
		if victim.dir, victim.err = os.MkdirTemp("", "depguard-bpf-"); victim.err != nil {
			return
		}
		victim.path = filepath.Join(victim.dir, "victim")
		out, err := exec.Command("gcc", "-O1", "-Wall", "-Werror", "-static", "-no-pie", "-pthread",
			"-o", victim.path, "testdata/victim.c").CombinedOutput()
		if err != nil {
			victim.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if errors.Is(victim.err, exec.ErrNotFound) {
		unavailable(tb, "gcc is missing: %v", victim.err)
	}
	if victim.err != nil {
		tb.Fatal(victim.err)
	}
	return victim.path
}

func TestMain(m *testing.M) {
	m.Run()
	if victim.dir != "" {
		os.RemoveAll(victim.dir)
	}
}

// seen is an event with names of its own.
type seen struct {
	Event
	path, interp string
}

// account is what a witness said about a run.
type account struct {
	events []seen
	ledger Ledger
	root   int // pid of the first process
	status unix.WaitStatus
	output string
}

// start starts the victim, whose first argument is "wait", tracked by w unless
// that is nil. It does nothing until release writes to the pipe that start
// returns.
func start(tb testing.TB, w *Witness, cmd *exec.Cmd) io.WriteCloser {
	tb.Helper()
	pidfd := -1
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.PidFD = &pidfd
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	running, ready, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	defer running.Close()
	cmd.ExtraFiles = []*os.File{ready}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	// Start returns while the exec is still under way; the exec would be an
	// event.
	ready.Close()
	io.Copy(io.Discard, running)
	if w != nil {
		if err := w.Track(pidfd); err != nil {
			tb.Fatal(err)
		}
	}
	unix.Close(pidfd)
	return stdin
}

// release lets a victim that waits go on.
func release(tb testing.TB, stdin io.Writer) {
	tb.Helper()
	if _, err := stdin.Write([]byte{1}); err != nil {
		tb.Fatal(err)
	}
}

// drain reads a witness to its end.
func drain(tb testing.TB, w *Witness) []seen {
	var events []seen
	var ev Event
	for {
		err := w.Read(&ev)
		if err == io.EOF {
			return events
		}
		if err != nil {
			tb.Error(err)
			return events
		}
		events = append(events, seen{ev, string(ev.Path), string(ev.Interp)})
	}
}

// watch runs the victim with the arguments under w, to the end.
func watch(t *testing.T, w *Witness, args ...string) account {
	t.Helper()
	cmd := exec.Command(victimPath(t), append([]string{"wait"}, args...)...)
	var output strings.Builder
	cmd.Stdout = &output
	events := make(chan []seen)
	go func() { events <- drain(t, w) }()
	release(t, start(t, w, cmd))
	cmd.Wait() // the status is compared below
	var a account
	a.root = cmd.Process.Pid
	a.output = output.String()
	a.status = unix.WaitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus))
	if err := w.Stop(); err != nil {
		t.Error(err)
	}
	a.events = <-events
	ledger, err := w.Close()
	if err != nil {
		t.Error(err)
	}
	a.ledger = ledger
	if ledger.Unread != 0 || ledger.Read != uint64(len(a.events)) {
		t.Errorf("ledger %+v after %d events", ledger, len(a.events))
	}
	return a
}

// story returns the events as lines, processes numbered in the order in which
// they appear, so that runs can be compared.
func (a account) story() []string {
	number := map[int]int{a.root: 0}
	name := func(pid int) int {
		if _, ok := number[pid]; !ok {
			number[pid] = len(number)
		}
		return number[pid]
	}
	var lines []string
	for _, e := range a.events {
		line := fmt.Sprintf("%d %v", name(e.PID), e.Kind)
		switch e.Kind {
		case KindFork:
			line = fmt.Sprintf("%d fork %d", name(e.Parent), name(e.PID))
		case KindExit:
			line += fmt.Sprintf(" %d", uint32(e.Status))
		case KindExec:
			line += " " + filepath.Base(e.path)
			if e.interp != "" {
				line += " by " + filepath.Base(e.interp)
			}
		case KindOpen:
			line += " " + filepath.Base(e.path)
		}
		lines = append(lines, line)
	}
	return lines
}

// checkStory compares a's events with the lines, in order.
func (a account) checkStory(t *testing.T, want ...string) {
	t.Helper()
	if got := a.story(); !slices.Equal(got, want) {
		t.Fatalf("events:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	if !a.ledger.Complete() {
		t.Errorf("the account is not complete: %+v", a.ledger)
	}
}

// checkFile compares the identity that the kernel reported with stat's.
func (e seen) checkFile(t *testing.T, path string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	dev := unix.Major(st.Dev)<<20 | unix.Minor(st.Dev)
	if e.Dev != dev || e.Ino != st.Ino || e.Mode != st.Mode {
		t.Errorf("%v %s: device %#x inode %d mode %o, want %#x %d %o",
			e.Kind, e.path, e.Dev, e.Ino, e.Mode, dev, st.Ino, st.Mode)
	}
}

// files makes files of the given names in a new directory, and returns their
// paths.
func files(t *testing.T, names ...string) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// padded returns path with "/./" in it until it has the given length.
func padded(t *testing.T, path string, length int) string {
	t.Helper()
	dir, base := filepath.Split(path)
	fill := length - len(path)
	padded := dir + strings.Repeat("./", fill/2) + strings.Repeat("/", fill%2) + base
	if len(padded) != length {
		t.Fatalf("%d bytes instead of %d", len(padded), length)
	}
	return padded
}

func TestOpenCalls(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "open", "creat", "openat2", "relative")
	dir := filepath.Dir(f[0])
	created := filepath.Join(dir, "created")
	a := watch(t, w, "calls", f[0], f[1], created, f[2], dir, "relative", filepath.Join(dir, "absent"))
	a.checkStory(t, "0 open open", "0 open creat", "0 open created", "0 open openat2",
		"0 open "+filepath.Base(dir), "0 open relative", "0 exit 0")

	want := []struct {
		path           string
		dirfd          int32
		flags          uint32
		read, write, c bool
	}{
		{f[0], unix.AT_FDCWD, unix.O_RDWR, true, true, false},
		{f[1], unix.AT_FDCWD, unix.O_WRONLY, false, true, false},
		{created, unix.AT_FDCWD, unix.O_WRONLY, false, true, true},
		{f[2], unix.AT_FDCWD, unix.O_PATH, false, false, false},
		{dir, unix.AT_FDCWD, unix.O_RDONLY | unix.O_DIRECTORY, true, false, false},
		{"relative", 77, unix.O_RDONLY, true, false, false},
	}
	const largefile = 0x8000 // O_LARGEFILE: every 64-bit open has it
	for i, want := range want {
		e := a.events[i]
		if e.path != want.path || e.Dirfd != want.dirfd || e.Flags&^largefile != want.flags || e.ABI != ABINative {
			t.Errorf("%q at %d, flags %#x, %v; want %q at %d, flags %#x", e.path, e.Dirfd, e.Flags, e.ABI, want.path, want.dirfd, want.flags)
		}
		if e.Readable() != want.read || e.Writable() != want.write || e.Created() != want.c {
			t.Errorf("%s: read %v write %v created %v", e.path, e.Readable(), e.Writable(), e.Created())
		}
		if e.PID != a.root || e.TID != a.root || e.Time == 0 {
			t.Errorf("%s: process %d thread %d time %v, want process %d", e.path, e.PID, e.TID, e.Time, a.root)
		}
		e.checkFile(t, filepath.Join(dir, filepath.Base(strings.TrimPrefix(want.path, dir))))
	}
}

func TestCompatCallsFrom64BitCode(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "open", "creat", "openat", "openat2")
	a := watch(t, w, append([]string{"int80"}, f...)...)
	if a.status.ExitStatus() == 99 {
		unavailable(t, "this kernel makes no 32-bit calls (CONFIG_IA32_EMULATION)")
	}
	a.checkStory(t, "0 open open", "0 open creat", "0 open openat", "0 open openat2", "0 exit 0")
	for i, path := range f {
		e := a.events[i]
		e.checkFile(t, path)
		if e.ABI != ABICompat32 || e.path != path || e.Dirfd != unix.AT_FDCWD {
			t.Errorf("%v %q at %d", e.ABI, e.path, e.Dirfd)
		}
	}
}

func TestPaths(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "plain", "not-utf8-\xff\xfe\n", "name with spaces")
	f = append(f, padded(t, f[0], 126), padded(t, f[0], 127), padded(t, f[0], 128), padded(t, f[0], 300),
		padded(t, f[0], 511), padded(t, f[0], 512), padded(t, f[0], 4095), filepath.Dir(f[0]))
	a := watch(t, w, append([]string{"open"}, f...)...)
	if len(a.events) != len(f)+1 || !a.ledger.Complete() {
		t.Fatalf("events:\n%s\nledger %+v", strings.Join(a.story(), "\n"), a.ledger)
	}
	for i, path := range f {
		if a.events[i].path != path {
			t.Errorf("%q (%d bytes), want %q (%d bytes)", a.events[i].path, len(a.events[i].path), path, len(path))
		}
		a.events[i].checkFile(t, path)
	}
}

func TestUnreadablePath(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	a := watch(t, w, "vanishing-path", fifo)
	var ends int
	for _, e := range a.events {
		if e.Kind != KindOpen || e.Mode&unix.S_IFMT != unix.S_IFIFO {
			continue
		}
		ends++
		e.checkFile(t, fifo)
		if e.PathUnreadable != (e.path == "") || e.PathUnreadable != (e.TID != e.PID) {
			t.Errorf("%q unreadable %v", e.path, e.PathUnreadable)
		}
	}
	if ends != 2 || a.ledger.Unreadable != 1 || a.ledger.Complete() {
		t.Errorf("%d opens of the FIFO, ledger %+v", ends, a.ledger)
	}
}

func TestThreads(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "a", "b", "c", "d")
	a := watch(t, w, append([]string{"threads"}, f...)...)
	opened := map[string]bool{}
	tids := map[int]bool{}
	for _, e := range a.events {
		if e.PID != a.root {
			t.Errorf("%v %s by process %d, want %d", e.Kind, e.path, e.PID, a.root)
		}
		if e.Kind == KindOpen && slices.Contains(f, e.path) {
			opened[e.path] = true
			tids[e.TID] = true
		}
	}
	if len(opened) != len(f) || len(tids) != len(f) || tids[a.root] || !a.ledger.Complete() {
		t.Errorf("files %v by threads %v\nledger %+v", slices.Sorted(maps.Keys(opened)), tids, a.ledger)
	}
}

// TestProcessTree pins fork, vfork, exec of a script, and who did what: the
// script's image is its interpreter, which then opens the script.
func TestProcessTree(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "inchild", "script")
	script := "#!" + victimPath(t) + " open\n"
	if err := os.WriteFile(f[1], []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(f[1], 0o700); err != nil {
		t.Fatal(err)
	}
	a := watch(t, w, "forks", f[0], f[1])
	a.checkStory(t,
		"0 fork 1",
		"1 open inchild",
		"1 fork 2",
		"2 exec script by victim",
		"2 open script",
		"2 exit 0",
		"1 exit 9", // SIGKILL
		"0 exit 0")
	for _, e := range a.events {
		switch e.Kind {
		case KindExec:
			e.checkFile(t, victimPath(t))
			if e.path != f[1] || e.interp != victimPath(t) {
				t.Errorf("exec of %q by %q", e.path, e.interp)
			}
		case KindFork:
			if e.Parent == a.root && fmt.Sprintln(e.PID) != a.output {
				t.Errorf("fork of process %d, which calls itself %s", e.PID, a.output)
			}
		case KindOpen:
			e.checkFile(t, e.path)
		}
	}
}

func TestExecLongNames(t *testing.T) {
	for _, length := range []int{126, 127, 128, 200, 4000} {
		w := openWitness(t, ringBytes(1))
		name := padded(t, victimPath(t), length)
		a := watch(t, w, "exec", name, "open")
		a.checkStory(t, "0 exec victim", "0 exit 0")
		if len(a.events) > 0 && a.events[0].path != name {
			t.Errorf("%d bytes: %q", length, a.events[0].path)
		}
	}
}

// TestExecFromThread pins that the mark survives an exec by a thread that is
// not the first: the process keeps its id, the other threads make no exit.
func TestExecFromThread(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "after")
	a := watch(t, w, "thread-exec", victimPath(t), "open", f[0])
	a.checkStory(t, "0 exec victim", "0 open after", "0 exit 0")
	for _, e := range a.events {
		if e.PID != a.root || e.TID != a.root {
			t.Errorf("%v by process %d thread %d, want %d", e.Kind, e.PID, e.TID, a.root)
		}
	}
}

func TestExitIsTheLastThreads(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "late")
	a := watch(t, w, "leader-exit", f[0])
	a.checkStory(t, "0 open late", "0 exit 1792")
	if e := a.events[len(a.events)-1]; e.Status != a.status || e.Status.ExitStatus() != 7 {
		t.Errorf("status %#x, wait says %#x", e.Status, a.status)
	}
}

// TestLoader pins that the dynamic loader, which the kernel opens itself, is
// reported: by its identity, after the exec.
func TestLoader(t *testing.T) {
	const shell = "/bin/sh"
	loader := interpreterOf(t, shell)
	w := openWitness(t, ringBytes(1))
	a := watch(t, w, "exec", shell, "-c", ":")
	if a.ledger.LostLoaders > 0 {
		unavailable(t, "this kernel can't look up mappings (Linux 5.17): %+v", a.ledger)
	}
	if len(a.events) < 2 || a.events[0].Kind != KindExec || a.events[1].Kind != KindLoader {
		t.Fatalf("events:\n%s", strings.Join(a.story(), "\n"))
	}
	a.events[0].checkFile(t, shell)
	a.events[1].checkFile(t, loader)
}

func TestHandles(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "file")
	a := watch(t, w, "handle", f[0])
	if a.status.ExitStatus() == 99 {
		unavailable(t, "open_by_handle_at is refused here (CAP_DAC_READ_SEARCH)")
	}
	a.checkStory(t, "0 open file", "0 handle", "0 exit 0")
	a.events[1].checkFile(t, f[0])
	if a.ledger.Handles != 1 {
		t.Errorf("ledger %+v", a.ledger)
	}
}

func TestIOUringIsCounted(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	a := watch(t, w, "io-uring")
	if a.status.ExitStatus() == 99 {
		unavailable(t, "io_uring_setup is refused here (kernel.io_uring_disabled)")
	}
	a.checkStory(t, "0 exit 0")
	if a.ledger.IOUrings != 1 {
		t.Errorf("ledger %+v", a.ledger)
	}
}

func TestUntrackedIsNotReported(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "tracked", "untracked")
	stranger := exec.Command(victimPath(t), "wait", "open", f[1])
	release(t, start(t, nil, stranger))
	if err := stranger.Wait(); err != nil {
		t.Fatal(err)
	}
	a := watch(t, w, "open", f[0])
	a.checkStory(t, "0 open tracked", "0 exit 0")
}

// TestPidNamespace pins that ids are the supervisor's, not the jail's: there
// the first process has id 1.
func TestPidNamespace(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "a", "b")
	cmd := exec.Command(victimPath(t), "wait", "forks", f[0], victimPath(t), "open", f[1])
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	release(t, start(t, w, cmd))
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	a := account{root: cmd.Process.Pid, events: drain(t, w)}
	var err error
	if a.ledger, err = w.Close(); err != nil {
		t.Fatal(err)
	}
	a.checkStory(t, "0 fork 1", "1 open a", "1 fork 2", "2 exec victim", "2 open b",
		"2 exit 0", "1 exit 9", "0 exit 0")
	for _, e := range a.events {
		if e.PID < a.root {
			t.Errorf("%v by process %d, before %d", e.Kind, e.PID, a.root)
		}
	}
}

// TestSupervisorInPidNamespace repeats a test in a pid namespace of its own,
// where the kernel's global ids are not the supervisor's.
func TestSupervisorInPidNamespace(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	w.Close()
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		unavailable(t, "util-linux is missing: %v", err)
	}
	cmd := exec.Command(unshare, "--pid", "--fork", "--mount-proc", os.Args[0],
		"-test.run=^TestProcessTree$|^TestPidNamespace$", "-test.v")
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("--- PASS")) != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestLedgerAddsUp floods a ring that nobody reads, and one that somebody
// reads: each event is either read or counted as dropped.
func TestLedgerAddsUp(t *testing.T) {
	const count, threads = 5000, 4
	f := files(t, "file")
	long := padded(t, f[0], 600)
	for _, path := range []string{f[0], long} {
		for _, readWhileRunning := range []bool{false, true} {
			w := openWitness(t, 64<<10)
			cmd := exec.Command(victimPath(t), "wait", "flood", path, fmt.Sprint(count), fmt.Sprint(threads))
			stdin := start(t, w, cmd)
			events := make(chan []seen, 1)
			read := func() { events <- drain(t, w) }
			if readWhileRunning {
				go read()
			}
			release(t, stdin)
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if err := w.Stop(); err != nil {
				t.Fatal(err)
			}
			if !readWhileRunning {
				read()
			}
			got := uint64(len(<-events))
			l, err := w.Close()
			if err != nil {
				t.Fatal(err)
			}
			const produced = count*threads + 1 // the exit
			if got != l.Read || l.Unread != 0 || l.Read+l.Dropped+l.Missed != produced {
				t.Errorf("reading %v, %d bytes: %d events of %d, ledger %+v", readWhileRunning, len(path), got, produced, l)
			}
			if !readWhileRunning && (l.Dropped == 0 || l.Complete()) {
				t.Errorf("nothing was dropped: %+v", l)
			}
		}
	}
}

func TestManyShortProcesses(t *testing.T) {
	const count = 10_000
	w := openWitness(t, ringBytes(runtime.NumCPU()))
	a := watch(t, w, "fork-flood", fmt.Sprint(count))
	forks, exits := 0, 0
	alive := map[int]bool{a.root: true}
	for _, e := range a.events {
		switch e.Kind {
		case KindFork:
			forks++
			alive[e.PID] = true
		case KindExit:
			exits++
			if !alive[e.PID] {
				t.Errorf("process %d ended without having begun", e.PID)
			}
			delete(alive, e.PID)
		}
	}
	if forks != count || exits != count+1 || len(alive) != 0 || !a.ledger.Complete() {
		t.Errorf("%d forks, %d exits, %d left alive, ledger %+v", forks, exits, len(alive), a.ledger)
	}
}

// TestFullRingWakesReader pins that a reader that would sleep on is woken once
// enough events wait.
func TestFullRingWakesReader(t *testing.T) {
	w := openWitness(t, 64<<10)
	w.poll = time.Hour
	w.reader.SetDeadline(time.Now().Add(w.poll))
	f := files(t, "file")
	cmd := exec.Command(victimPath(t), "wait", "flood", f[0], "5000", "1")
	stdin := start(t, w, cmd)
	first := make(chan error, 1)
	go func() {
		var ev Event
		first <- w.Read(&ev)
		drain(t, w)
		close(first)
	}()
	release(t, stdin)
	select {
	case err := <-first:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the reader slept through a full ring")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := w.Stop(); err != nil {
		t.Error(err)
	}
	for range first { // until it is closed
	}
	if _, err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestStopUnderFire pins that nothing enters the ring behind the reader's back
// when the programs are detached while they run.
func TestStopUnderFire(t *testing.T) {
	f := files(t, "file")
	for range 10 {
		w := openWitness(t, ringBytes(1))
		cmd := exec.Command(victimPath(t), "wait", "flood", f[0], "100000000", "2")
		stdin := start(t, w, cmd)
		release(t, stdin)
		var ev Event
		if err := w.Read(&ev); err != nil {
			t.Error(err)
		}
		if err := w.Stop(); err != nil {
			t.Error(err)
		}
		drain(t, w)
		l, err := w.Close()
		if err != nil || l.Unread != 0 || l.Read == 0 {
			t.Errorf("ledger %+v, %v", l, err)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// TestCloseWithoutReader pins that Close hangs on nobody, and counts what
// nobody read.
func TestCloseWithoutReader(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "a", "b")
	cmd := exec.Command(victimPath(t), "wait", "open", f[0], f[1])
	release(t, start(t, w, cmd))
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	l, err := w.Close()
	if err != nil || l.Unread != 3 || l.Complete() {
		t.Errorf("ledger %+v, %v", l, err)
	}
	var ev Event
	if err := w.Read(&ev); err != io.EOF {
		t.Errorf("Read after Close: %v", err)
	}
}

func TestTrackErrors(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	defer w.Close()
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	pidfd := -1
	cmd := exec.Command(victimPath(t), "open")
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := w.Track(-1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no descriptor: %v", err)
	}
	if err := w.Track(int(file.Fd())); err == nil || !strings.Contains(err.Error(), "not a pidfd") {
		t.Errorf("a file: %v", err)
	}
	if err := w.Track(pidfd); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a process that has ended: %v", err)
	}
}

func TestRingBytes(t *testing.T) {
	for cpus, want := range map[int]uint32{1: 4 << 20, 2: 8 << 20, 3: 16 << 20, 4: 16 << 20, 9: 64 << 20, 16: 64 << 20, 512: 64 << 20} {
		if got := ringBytes(cpus); got != want {
			t.Errorf("%d CPUs: %d, want %d", cpus, got, want)
		}
	}
}

// TestReadAllocatesNothing holds the reader to its buffer.
func TestReadAllocatesNothing(t *testing.T) {
	w := openWitness(t, ringBytes(1))
	f := files(t, "file")
	cmd := exec.Command(victimPath(t), "wait", "flood", f[0], "1000", "1")
	release(t, start(t, w, cmd))
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	var ev Event
	allocs := testing.AllocsPerRun(900, func() {
		if err := w.Read(&ev); err != nil || !bytes.Equal(ev.Path, []byte(f[0])) {
			t.Fatalf("%q %v", ev.Path, err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per event", allocs)
	}
	if _, err := w.Close(); err != nil {
		t.Error(err)
	}
}

// interpreterOf returns the ELF interpreter of a program.
func interpreterOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"} {
		if bytes.Contains(text, []byte(name+"\x00")) {
			return name
		}
	}
	if os.Getenv("DEPGUARD_MUST_WORK") == "1" {
		t.Fatalf("%s names no loader that this test knows", path)
	}
	t.Skipf("%s names no loader that this test knows", path)
	return ""
}
