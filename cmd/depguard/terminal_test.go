package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// screen is a terminal as a person has it: depguard on the slave, the test at
// the master's keyboard and glass.
type screen struct {
	t      *testing.T
	master *os.File
	slave  *os.File

	mu    sync.Mutex
	shown bytes.Buffer
}

// newScreen opens a terminal of a size that no default has.
func newScreen(t *testing.T) *screen {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, master: master, slave: slave}
	s.resize(31, 97)
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return // EIO: the last slave is closed
			}
			s.mu.Lock()
			s.shown.Write(buf[:n])
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		slave.Close()
		<-copied
		master.Close()
	})
	return s
}

func (s *screen) resize(rows, columns uint16) {
	s.t.Helper()
	if err := pty.Setsize(s.master, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		s.t.Fatal(err)
	}
}

// start starts a run on the terminal, as the leader of a session of its own.
func (s *screen) start(cmd *exec.Cmd) {
	s.t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.slave, s.slave, s.slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	start(s.t, cmd)
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

// awaitText waits until the terminal shows what matches, and returns the first
// group of it.
func (s *screen) awaitText(expression string) string {
	s.t.Helper()
	re := regexp.MustCompile(expression)
	var found []string
	await(s.t, "the terminal shows "+expression, func() bool {
		found = re.FindStringSubmatch(s.text())
		return found != nil
	})
	return found[len(found)-1]
}

func (s *screen) modes() unix.Termios {
	s.t.Helper()
	modes, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return *modes
}

// TestTerminal: on a terminal the command has another one, of its own session,
// whose size follows; the exit status is kept, and the terminal's modes are as
// before.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			s := newScreen(t)
			before := s.modes()
			cmd := newRun(t, mode.flags, "sh", "-c", `
				trap 'echo "now $(stty size)"; exit 7' WINCH
				echo "on $(tty)"
				echo "session $(cut -d " " -f 6 /proc/$$/stat) of $$"
				echo "size $(stty size)"
				stty raw
				while :; do sleep 0.01; done`)
			s.start(cmd)
			if name := s.awaitText(`on (\S+)\r`); name == s.slave.Name() || !strings.HasPrefix(name, "/dev/pts/") {
				if mode.name == "audit" || name != s.slave.Name() {
					t.Errorf("the command is on the terminal %s, depguard on %s", name, s.slave.Name())
				}
			}
			leader, self, _ := strings.Cut(s.awaitText(`session (\d+ of \d+)`), " of ")
			if leader != self {
				t.Errorf("the command (pid %s) is in the session of %s", self, leader)
			}
			if size := s.awaitText(`size (\d+ \d+)`); size != "31 97" {
				t.Errorf("size %s, want 31 97", size)
			}
			s.resize(41, 123)
			if size := s.awaitText(`now (\d+ \d+)`); size != "41 123" {
				t.Errorf("after the change, size %s, want 41 123", size)
			}
			if status := exitStatus(t, cmd); status != 7 {
				t.Errorf("exit status %d, want 7: %s", status, s.text())
			}
			if after := s.modes(); after != before {
				t.Errorf("modes of the terminal: before %+v, after %+v", before, after)
			}
		})
	}
}

// TestTerminalKeys: what is typed reaches the command, ^C as a signal of its own
// terminal, and the modes are restored however the run ends.
func TestTerminalKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		end    func(s *screen, cmd *exec.Cmd) error
		status int
	}{
		{"typed", func(s *screen, _ *exec.Cmd) error { return s.write("over\r") }, 3},
		{"interrupted", func(s *screen, _ *exec.Cmd) error { return s.write("\x03") }, 128 + 2},
		{"terminated", func(_ *screen, cmd *exec.Cmd) error { return cmd.Process.Signal(unix.SIGTERM) }, 128 + 15},
	} {
		for _, mode := range modes {
			t.Run(mode.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				s := newScreen(t)
				before := s.modes()
				cmd := newRun(t, mode.flags, "sh", "-c", `echo "ready"; read -r line; echo "read $line"; exit 3`)
				s.start(cmd)
				s.awaitText("ready")
				await(t, "depguard passes keys on unchanged", func() bool { return s.modes() != before })
				if err := c.end(s, cmd); err != nil {
					t.Fatal(err)
				}
				if status := exitStatus(t, cmd); status != c.status {
					t.Errorf("exit status %d, want %d: %s", status, c.status, s.text())
				}
				if after := s.modes(); after != before {
					t.Errorf("modes of the terminal: before %+v, after %+v", before, after)
				}
				if c.name == "typed" {
					s.awaitText("read over")
				}
			})
		}
	}
}

func (s *screen) write(keys string) error {
	_, err := s.master.WriteString(keys)
	return err
}

// TestTerminalTail: the trace of a run on a terminal has its last lines.
func TestTerminalTail(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	cmd := newRun(t, []string{"--trace", "t.trace"}, "sh", "-c", "seq 1 1000; echo last words")
	s.start(cmd)
	if status := exitStatus(t, cmd); status != 0 {
		t.Fatalf("exit status %d: %s", status, s.text())
	}
	s.awaitText("last words")
	if tail := load(t, cmd, "t.trace").Run.Tail; !strings.Contains(tail, "1000") || !strings.Contains(tail, "last words") {
		t.Errorf("the trace's last lines: %q", tail)
	}
	if missing := s.missing(1000); missing > 0 {
		t.Errorf("the terminal does not show the line %d", missing)
	}
}

// missing returns the first number up to n that has no line on the screen, or 0.
func (s *screen) missing(n int) int {
	text := "\n" + s.text()
	for i := 1; i <= n; i++ {
		if !strings.Contains(text, fmt.Sprintf("\n%d\r\n", i)) {
			return i
		}
	}
	return 0
}

// TestNoTerminal: where standard output is no terminal, the command gets what
// depguard was given, even when its standard input is one.
func TestNoTerminal(t *testing.T) {
	t.Parallel()
	s := newScreen(t)
	cmd := newRun(t, []string{"-q"}, "sh", "-c", "echo out; echo err >&2; test -t 1 && echo a terminal; tty")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.slave, &out, &errs
	start(t, cmd)
	if status := exitStatus(t, cmd); status != 0 {
		t.Errorf("exit status %d: %s", status, errs.String())
	}
	if want := "out\n" + s.slave.Name() + "\n"; out.String() != want || errs.String() != "err\n" {
		t.Errorf("stdout %q, stderr %q, want %q and %q", out.String(), errs.String(), want, "err\n")
	}
	if names, err := filepath.Glob(filepath.Join(cmd.Dir, "typescript*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v %v", names, err)
	}
}
