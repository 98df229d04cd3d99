package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/tracer"
	"github.com/depguard/depguard/tracer/store"
)

// The tests of this file are about processes: what a txtar script cannot kill,
// count or name.

// patience bounds the waits for what has to happen; how long it takes is not
// tested.
const patience = 40 * time.Second

// modes are the two jails: what holds for one holds for the other.
var modes = []struct {
	name  string
	flags []string
}{
	{"audit", nil},
	{"enforce", []string{"--enforce"}},
}

// policyOfAll declares what these tests need, for the default workspace.
const policyOfAll = `version: 1
mode: enforce
packages: {system: build-essential}
files: [{set: base}]
workspace: [.]
`

// newRun prepares `depguard exec FLAGS -- COMMAND` in a directory of its own,
// which has a policy and copies of the C programs.
func newRun(t *testing.T, flags []string, command ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"daemon", "signals", "storm"} {
		data, err := os.ReadFile(filepath.Join(tools(t), "programs", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "depguard.yaml"), []byte(policyOfAll), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"exec"}, flags...)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(tools(t), "bin", "depguard"), append(append(args, "--"), command...)...)
	cmd.WaitDelay = patience // what outlives depguard can hold its output open
	cmd.Dir = dir
	cmd.Stderr = &bytes.Buffer{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// start starts a run, and sees to it that it is gone when the test ends.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // os.ErrProcessDone in a test that passed
		_ = cmd.Wait()
	})
}

// await waits until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still waiting: %s", patience, what)
		}
	}
}

// awaitFile waits until the run has made a file.
func awaitFile(t *testing.T, cmd *exec.Cmd, name string) {
	t.Helper()
	await(t, "the command makes "+name, func() bool {
		_, err := os.Stat(filepath.Join(cmd.Dir, name))
		return err == nil
	})
}

// exitStatus waits for a run and returns its exit status, -1 for a signal.
func exitStatus(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// process is one process, told from a later one with the same number.
type process struct {
	pid     int
	started string // field 22 of /proc/PID/stat, in clock ticks since boot
	name    string
}

// readProcess reads /proc/PID/stat (proc_pid_stat(5)). It reports false for a
// process that is gone, or dead and not yet reaped.
func readProcess(pid int) (p process, parent int, alive bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, 0, false
	}
	// The name stands in parentheses and can hold any; the last one closes it.
	open, closing := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[closing+1:]))
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return p, 0, false
	}
	return process{pid, fields[19], string(data[open+1 : closing])}, parent, fields[0] != "Z" && fields[0] != "X"
}

// alive reports whether p still runs.
func (p process) alive() bool {
	now, _, ok := readProcess(p.pid)
	return ok && now.started == p.started
}

// descendants returns all processes below pid, as of one look.
func descendants(t *testing.T, pid int) (list []process) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]process{}
	for _, entry := range entries {
		if child, err := strconv.Atoi(entry.Name()); err == nil {
			if p, parent, ok := readProcess(child); ok {
				children[parent] = append(children[parent], p)
			}
		}
	}
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		for _, p := range children[next[0]] {
			list = append(list, p)
			next = append(next, p.pid)
		}
	}
	return list
}

// jailed returns the processes of a running jail, as soon as those named are
// among them: a process that was just forked still has the name of the other.
func jailed(t *testing.T, cmd *exec.Cmd, names ...string) []process {
	t.Helper()
	var list []process
	await(t, fmt.Sprintf("the jail has processes named %v", names), func() bool {
		list = descendants(t, cmd.Process.Pid)
		missing := slices.Clone(names)
		for _, p := range list {
			if i := slices.Index(missing, p.name); i >= 0 {
				missing = slices.Delete(missing, i, i+1)
			}
		}
		return len(missing) == 0
	})
	t.Cleanup(func() {
		for _, p := range list {
			if p.alive() { // the test has failed
				_ = unix.Kill(p.pid, unix.SIGKILL)
			}
		}
	})
	return list
}

// TestSupervisorKilled: when depguard is killed with SIGKILL, every process of
// the jail ends, a daemon in a session of its own included.
func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			cmd := newRun(t, mode.flags, "sh", "-c", "./daemon ready; sleep 1000 & sleep 1000; true")
			start(t, cmd)
			awaitFile(t, cmd, "ready")
			all := jailed(t, cmd, "daemon", "sleep", "sleep", "sh")
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if status := exitStatus(t, cmd); status != -1 {
				t.Errorf("exit status %d of a process that was killed", status)
			}
			for _, p := range all {
				await(t, fmt.Sprintf("%s (pid %d) ends with its supervisor", p.name, p.pid), func() bool { return !p.alive() })
			}
		})
	}
}

// TestInitKilled: when the jail's first process is killed, everything ends, and
// depguard says why and fails.
func TestInitKilled(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			cmd := newRun(t, mode.flags, "sh", "-c", "./daemon ready; sleep 1000; true")
			start(t, cmd)
			awaitFile(t, cmd, "ready")
			all := jailed(t, cmd, "daemon", "sh")
			for _, p := range all {
				if _, parent, _ := readProcess(p.pid); parent == cmd.Process.Pid {
					if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
						t.Fatal(err)
					}
				}
			}
			if status := exitStatus(t, cmd); status != 125 {
				t.Errorf("exit status %d, want 125", status)
			}
			if says := fmt.Sprint(cmd.Stderr); !strings.Contains(says, "the jail's first process was killed") {
				t.Errorf("no word about it in: %s", says)
			}
			for _, p := range all {
				if p.alive() {
					t.Errorf("%s (pid %d) outlived depguard", p.name, p.pid)
				}
			}
		})
	}
}

// TestDaemonsEnd: when depguard returns, no process of the jail is left.
func TestDaemonsEnd(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			cmd := newRun(t, mode.flags, "sh", "-c", "./daemon ready; read -r line; exit 5")
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			start(t, cmd)
			awaitFile(t, cmd, "ready")
			all := jailed(t, cmd, "daemon", "sh")
			if err := stdin.Close(); err != nil {
				t.Fatal(err)
			}
			if status := exitStatus(t, cmd); status != 5 {
				t.Errorf("exit status %d, want 5: %s", status, cmd.Stderr)
			}
			for _, p := range all {
				if p.alive() {
					t.Errorf("%s (pid %d) outlived depguard", p.name, p.pid)
				}
			}
		})
	}
}

// TestSignals: a signal to depguard reaches the command, and one to the whole
// process group, as of ^C, reaches it once.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		for _, c := range []struct {
			name string
			send func(depguard int) error
			want string
		}{
			{"to depguard", func(pid int) error { return unix.Kill(pid, unix.SIGINT) }, "SIGINT 1 times, then SIGTERM\n"},
			{"to the group", func(pid int) error { return unix.Kill(-pid, unix.SIGINT) }, "SIGINT 1 times, then SIGTERM\n"},
			{"none", func(int) error { return nil }, "SIGINT 0 times, then SIGTERM\n"},
		} {
			t.Run(mode.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				cmd := newRun(t, mode.flags, "./signals", "ready", "interrupted")
				var out bytes.Buffer
				cmd.Stdout = &out
				start(t, cmd)
				awaitFile(t, cmd, "ready")
				if err := c.send(cmd.Process.Pid); err != nil {
					t.Fatal(err)
				}
				if c.name != "none" {
					awaitFile(t, cmd, "interrupted")
				}
				// Forwarded in order: a second SIGINT would come before it.
				if err := unix.Kill(cmd.Process.Pid, unix.SIGTERM); err != nil {
					t.Fatal(err)
				}
				if status := exitStatus(t, cmd); status != 7 {
					t.Errorf("exit status %d, want the trap's 7: %s", status, cmd.Stderr)
				}
				if out.String() != c.want {
					t.Errorf("the command says %q, want %q", out.String(), c.want)
				}
			})
		}
	}
}

// TestManyProcesses: of ten thousand processes, none of which lives long, every
// one and its open are in the trace.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	const children = 10_000
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			cmd := newRun(t, append([]string{"--trace", "storm.trace"}, mode.flags...), "./storm", strconv.Itoa(children), "depguard.yaml")
			start(t, cmd)
			if status := exitStatus(t, cmd); status != 0 {
				t.Fatalf("exit status %d: %s", status, cmd.Stderr)
			}
			trace := load(t, cmd, "storm.trace")
			if !trace.Run.Losses.Complete() {
				t.Errorf("incomplete: %+v", trace.Run.Losses)
			}
			openers := map[int]bool{}
			for _, a := range trace.Accesses {
				if filepath.Base(a.Asked) == "depguard.yaml" {
					openers[a.Process] = true
				}
			}
			if len(openers) != children {
				t.Errorf("%d processes opened the file, want %d", len(openers), children)
			}
		})
	}
}

func load(t *testing.T, cmd *exec.Cmd, name string) *tracer.Trace {
	t.Helper()
	trace, err := store.Load(filepath.Join(cmd.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

// TestStrangeNames: file names and arguments are bytes. The trace has them as
// they are; the terminal gets nothing that it would act on.
func TestStrangeNames(t *testing.T) {
	t.Parallel()
	outside, err := outsideDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(outside) })
	for _, name := range []string{"latin-1 caf\xe9", "escape \x1b[2Jscreen", "line\nbreak", "\xff\xfe", "quo\"te'\\", " "} {
		t.Run(strconv.QuoteToASCII(name), func(t *testing.T) {
			t.Parallel()
			full := filepath.Join(outside, name)
			if err := os.WriteFile(full, []byte("content"), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := newRun(t, []string{"--full", "--trace", "t.trace"}, "cat", full)
			var out bytes.Buffer
			cmd.Stdout = &out
			start(t, cmd)
			if status := exitStatus(t, cmd); status != 0 || out.String() != "content" {
				t.Fatalf("exit status %d, %q: %s", status, out.String(), cmd.Stderr)
			}
			trace := load(t, cmd, "t.trace")
			if got := trace.Run.Command[1]; got != full {
				t.Errorf("the trace's command has %q, want %q", got, full)
			}
			if !hasFile(trace, full) {
				t.Errorf("no access to %q in the trace", full)
			}
			says := fmt.Sprint(cmd.Stderr)
			if !strings.Contains(says, outside) {
				t.Errorf("the report does not name the file: %s", says)
			}
			if strings.ToValidUTF8(says, "") != says || strings.Contains(says, "\x1b") || strings.Contains(says, "line\nbreak") {
				t.Errorf("the report has bytes that are not for terminals: %q", says)
			}
		})
	}
}

// hasFile reports whether an access of the trace was asked for by that name and
// led to a file of that name.
func hasFile(trace *tracer.Trace, name string) bool {
	for _, a := range trace.Accesses {
		if a.Asked == name && a.File >= 0 && trace.Files[a.File].Path == name {
			return true
		}
	}
	return false
}

// What a shell, nohup or a daemon told depguard to ignore, the command ignores
// too; and nothing else.
func TestIgnoredSignals(t *testing.T) {
	depguard := filepath.Join(tools(t), "bin", "depguard")
	for _, ignored := range []string{"", "PIPE QUIT USR1 CHLD TERM"} {
		script := fmt.Sprintf("trap '' %s; ", ignored) + `grep -E "SigIgn|SigBlk" /proc/self/status; "$1" exec -q -- grep -E "SigIgn|SigBlk" /proc/self/status`
		if ignored == "" {
			script = strings.TrimPrefix(script, "trap '' ; ")
		}
		out, err := exec.Command("env", "--block-signal=INT,CHLD,USR2", "bash", "-c", script, "bash", depguard).Output()
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.Fields(string(out)); len(lines) != 8 || lines[1] != lines[5] || lines[3] != lines[7] {
			t.Errorf("ignoring %q: natively and under depguard:\n%s", ignored, out)
		}
	}
}

// The view is the jail's own: no mount of it is left on, or ever seen by, the host.
func TestNoMountIsLeft(t *testing.T) {
	depguard := filepath.Join(tools(t), "bin", "depguard")
	mounts := func() string {
		t.Helper()
		data, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("depguard.yaml", []byte("version: 1\nfiles: [{set: base}]\npackages: {depend: [dash, coreutils]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := mounts()
	// The command sees its own mounts while the host is looked at from here.
	cmd := exec.Command(depguard, "exec", "-q", "--enforce", "--", "sh", "-c", "read _ && echo kept > /tmp/x && cat /tmp/x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	during := mounts()
	fmt.Fprintln(in, "go")
	if err := cmd.Wait(); err != nil || out.String() != "kept\n" {
		t.Fatalf("%v, output %q", err, &out)
	}
	if during != before || mounts() != before {
		t.Errorf("the host's mounts changed:\nbefore\n%s\nduring\n%s\nafter\n%s", before, during, mounts())
	}
}
