package supervisor

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/supervisor/console"
	"github.com/depguard/depguard/supervisor/jail"
)

func init() { runtime.LockOSThread() }

// TestMain lets the test binary stand in for depguard: it is what /proc/self/exe
// leads to, so it is executed as the jail's stages, and as the commands below.
func TestMain(m *testing.M) {
	switch {
	case jail.Invoked():
		os.Exit(jail.Main())
	case os.Getenv(victimEnv) != "":
		victim(os.Getenv(victimEnv))
	default:
		os.Exit(m.Run())
	}
}

// victimEnv makes the test binary a command that opens one file a number of
// times and prints the CPU-bound time of one open and close in nanoseconds:
// "PATH COUNT".
const victimEnv = "DEPGUARD_TEST_VICTIM"

func victim(order string) {
	path, count, _ := strings.Cut(order, " ")
	n, err := strconv.Atoi(count)
	if err != nil {
		panic(err)
	}
	for range 100 {
		openOnce(path)
	}
	// Chunks, and the best of them: what else the machine does only ever
	// makes one slower.
	const chunk = 500
	best := time.Duration(1 << 62)
	for range n / chunk {
		start := time.Now()
		for range chunk {
			openOnce(path)
		}
		best = min(best, time.Since(start))
	}
	fmt.Println(best.Nanoseconds() / chunk)
}

func openOnce(path string) {
	if fd, err := syscall.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		syscall.Close(fd)
	}
}

// run runs the test binary as victim, under supervision, and returns what it
// prints.
func runVictim(tb testing.TB, order string, change func(*Config)) string {
	tb.Helper()
	out, err := os.CreateTemp(tb.TempDir(), "out")
	if err != nil {
		tb.Fatal(err)
	}
	defer out.Close()
	c := Config{
		Args: []string{"/proc/self/exe"}, Dir: "/", Env: []string{victimEnv + "=" + order}, NoWitness: true,
		Streams: console.Streams{In: os.Stdin, Out: out, Err: os.Stderr},
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	c.Args[0] = self
	change(&c)
	// The jail inherits descriptor 1 of this process.
	saved, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		tb.Fatal(err)
	}
	if err := unix.Dup2(int(out.Fd()), 1); err != nil {
		tb.Fatal(err)
	}
	result, err := Run(context.Background(), c)
	if dup := unix.Dup2(saved, 1); dup != nil {
		tb.Fatal(dup)
	}
	unix.Close(saved)
	if err != nil {
		tb.Fatal(err)
	}
	if result.Status != 0 {
		tb.Fatalf("the command ended with status %d: %v", result.Status, result.NotExecuted)
	}
	data, err := os.ReadFile(out.Name())
	if err != nil {
		tb.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestRunSeesTheCommand(t *testing.T) {
	c := Config{Args: []string{"cat", "/etc/hostname"}, Dir: "/", Env: os.Environ(), NoWitness: true,
		Streams: console.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}}
	result, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, a := range result.Trace.Accesses {
		found = found || a.Asked == "/etc/hostname" && a.Op == policy.Read && a.File >= 0
	}
	if !found {
		t.Errorf("the trace lacks the file that was read: %+v", result.Trace.Accesses)
	}
	if got := result.Trace.Processes[0].Args; len(got) != 2 || got[0] != "cat" {
		t.Errorf("the first process is %q", got)
	}
}

func TestCancelKillsTheJail(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	c := Config{Args: []string{"sleep", "1000"}, Dir: "/", Env: os.Environ(), NoWitness: true,
		Streams: console.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}}
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := Run(ctx, c); err == nil {
		t.Error("a cancelled run has no error")
	}
	if entries, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())); err == nil && len(entries) > 0 {
		t.Errorf("processes are left: %s", entries)
	}
}

func TestRunLeavesNoDescriptor(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	run := func() {
		c := Config{Args: []string{"true"}, Dir: "/", Env: os.Environ(),
			Streams: console.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}}
		if _, err := Run(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	run() // what is opened once and kept
	before := count()
	for range 5 {
		run()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before five runs, %d after", before, after)
	}
}

// BenchmarkOpen measures open and close of one file in a process of its own,
// natively and under supervision, in turn and in one run.
func BenchmarkOpen(b *testing.B) {
	const count = 20000
	for _, target := range []struct{ name, path string }{{"present", "/etc/passwd"}, {"missing", "/etc/depguard-missing"}} {
		enforced, err := policy.Parse("bench.yaml", []byte("version: 1\nmode: enforce\nfiles:\n  - {set: base}\nworkspace: ["+os.TempDir()+"]\n"))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(target.name, func(b *testing.B) {
			order := target.path + " " + strconv.Itoa(count)
			var native, audit, enforce float64
			rounds := 0.0
			for b.Loop() {
				native += number(b, nativeVictim(b, order))
				audit += number(b, runVictim(b, order, func(*Config) {}))
				enforce += number(b, runVictim(b, order, func(c *Config) {
					// A test binary is linked dynamically and lives in a
					// temporary directory: the tree holds it.
					c.Policy, c.Enforce, c.NoGuard, c.PolicyDir = enforced, false, true, "/"
				}))
				rounds++
			}
			b.ReportMetric(native/rounds, "native-ns/open")
			b.ReportMetric((audit-native)/rounds, "audit-added-ns/open")
			b.ReportMetric((enforce-native)/rounds, "judged-added-ns/open")
			b.ReportMetric(audit/native, "audit/native")
		})
	}
}

func number(b *testing.B, s string) float64 {
	b.Helper()
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// nativeVictim runs the victim without supervision.
func nativeVictim(b *testing.B, order string) string {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	process, err := os.StartProcess(self, []string{self}, &os.ProcAttr{
		Env: []string{victimEnv + "=" + order}, Files: []*os.File{os.Stdin, w, os.Stderr},
	})
	w.Close()
	if err != nil {
		b.Fatal(err)
	}
	var out [64]byte
	n, _ := r.Read(out[:])
	if _, err := process.Wait(); err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(string(out[:n]))
}
