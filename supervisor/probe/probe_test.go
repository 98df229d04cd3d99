package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestThisMachine pins what depguard's development and CI machines must have.
func TestThisMachine(t *testing.T) {
	for _, f := range All(t.Context()) {
		t.Logf("%-40s %-14s %s", f.Name, f.Outcome, f.Detail)
		if len(f.Needed) > 0 {
			requires(t, f.Outcome == Yes, f.Name+": "+f.Detail)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range All(ctx) {
		if f.Outcome != Unknown || f.Detail != "not tried: interrupted" || f.Remedy == "" {
			t.Errorf("%s: %v, %q, remedy %q; want an untried feature", f.Name, f.Outcome, f.Detail, f.Remedy)
		}
	}
}

// TestRows holds the table to what the doctor prints of it.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range table {
		if p.name == "" || p.consequence == "" || p.remedy == "" || p.try == nil {
			t.Errorf("row %q is not complete", p.name)
		}
		if seen[p.name] {
			t.Errorf("two rows are named %q", p.name)
		}
		seen[p.name] = true
		for _, mode := range p.needed {
			if !slices.Contains([]string{Audit, Enforce, Witness}, mode) {
				t.Errorf("%s is needed for %q, which is nothing", p.name, mode)
			}
		}
		if slices.Contains(p.needed, Audit) && !slices.Contains(p.needed, Enforce) {
			t.Errorf("%s is needed for audit but not for enforce, which audits too", p.name)
		}
	}
}

func TestPossible(t *testing.T) {
	for _, c := range []struct {
		name     string
		features []Feature
		want     bool
	}{
		{"nothing known", nil, false},
		{"nothing known about this mode", []Feature{{Outcome: Yes, Needed: []string{Audit}}}, false},
		{"there", []Feature{{Outcome: Yes, Needed: []string{Audit, Enforce}}}, true},
		{"refused", []Feature{{Outcome: Yes, Needed: []string{Enforce}}, {Outcome: No, Needed: []string{Enforce}}}, false},
		{"untried", []Feature{{Outcome: Yes, Needed: []string{Enforce}}, {Needed: []string{Enforce}}}, false},
		{"refused, not needed", []Feature{{Outcome: Yes, Needed: []string{Enforce}}, {Outcome: No}}, true},
	} {
		if got := Possible(c.features, Enforce); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestOutcomeText(t *testing.T) {
	for _, o := range []Outcome{Unknown, Yes, No} {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var back Outcome
		if err := json.Unmarshal(text, &back); err != nil || back != o {
			t.Errorf("%s came back as %v, %v", text, back, err)
		}
	}
	var o Outcome
	if err := o.UnmarshalText([]byte("perhaps")); err == nil {
		t.Error("an outcome that is none was taken")
	}
}

func TestFailure(t *testing.T) {
	for _, c := range []struct {
		err  error
		want finding
	}{
		{unix.ENOSYS, finding{outcome: No, detail: "call: ENOSYS (not in this kernel, or hidden by a seccomp filter around this process)"}},
		{fmt.Errorf("start: %w", unix.EPERM), finding{outcome: No, detail: "call: EPERM (not permitted to this user, or refused by a security module or a seccomp filter)"}},
		{unix.EMFILE, finding{detail: "call: EMFILE (too many open files)"}},
		{os.ErrDeadlineExceeded, finding{detail: "call: i/o timeout"}},
	} {
		if got := failure("call", c.err); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.err, got, c.want)
		}
	}
}

func TestLandlockLacks(t *testing.T) {
	if got := landlockLacks(7); got != "" {
		t.Errorf("ABI 7 lacks %q", got)
	}
	if got := landlockLacks(99); got != "" {
		t.Errorf("an ABI to come lacks %q", got)
	}
	if got := landlockLacks(5); got != ", without: signals and abstract sockets (6.12), denials in the audit log (6.15)" {
		t.Errorf("ABI 5: %q", got)
	}
}

// state is what a trial could leave behind in the process and on the machine.
type state struct {
	descriptors, children, mounts, cgroups, hostname string
}

func TestLeavesNothing(t *testing.T) {
	All(t.Context()) // the runtime opens descriptors of its own once
	before := look(t)
	for range 5 {
		All(t.Context())
	}
	if after := look(t); after != before {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
	// The end of a thread follows the end of its goroutine by a moment.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		tainted := taintedThreads(t)
		if len(tainted) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("threads keep their filters: %v", tainted)
		}
	}
}

func look(t *testing.T) state {
	t.Helper()
	var s state
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if strings.Contains(target, "/fd") { // the directory being read
			continue
		}
		s.descriptors += fd.Name() + "=" + target + " "
	}
	s.mounts = read(t, "/proc/self/mountinfo")
	s.hostname = read(t, "/proc/sys/kernel/hostname")
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		children, _ := os.ReadFile(list) // a thread may be gone
		s.children += string(children)
	}
	if own, _ := ownCgroup(); own != "" {
		left, _ := filepath.Glob(filepath.Join(own, "depguard-probe-*"))
		s.cgroups = strings.Join(left, " ")
	}
	return s
}

// taintedThreads returns those that carry no_new_privs or a filter of a trial.
// A test that runs under either from the start has it on every thread, and
// leaves it out.
func taintedThreads(t *testing.T) (tainted []string) {
	t.Helper()
	clean := marks(read(t, "/proc/self/status"))
	threads, _ := filepath.Glob("/proc/self/task/*/status")
	for _, file := range threads {
		status, err := os.ReadFile(file)
		if err == nil && marks(string(status)) != clean {
			tainted = append(tainted, filepath.Dir(file)+" "+marks(string(status)))
		}
	}
	return tainted
}

// marks picks from a status file what a trial sets on its thread.
func marks(status string) string {
	var s string
	for line := range strings.Lines(status) {
		for _, name := range []string{"NoNewPrivs:", "Seccomp:", "Seccomp_filters:"} {
			if strings.HasPrefix(line, name) {
				s += strings.Join(strings.Fields(line), " ") + " "
			}
		}
	}
	return s
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestChildByHand starts the children as a curious person would: outside any
// jail. As root that must not touch the machine's mounts or name, and a part
// that does not exist must not run the program.
func TestChildByHand(t *testing.T) {
	before := look(t)
	for _, part := range []string{"namespaces", "memory", "", "no such part"} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Args = []string{childName, part}
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", part, err, output)
		}
	}
	if after := look(t); after != before {
		t.Errorf("before %+v\nafter  %+v", before, after)
	}
}

// TestUnhooked: a program that does not call Child is not run again.
func TestUnhooked(t *testing.T) {
	hooked.Store(false)
	defer hooked.Store(true)
	m := newMachine(t.Context())
	for name, found := range map[string]finding{"memory": tryMemory(m), "jail": m.jail().user()} {
		if found.outcome != Unknown || !strings.Contains(found.detail, "probe.Child") {
			t.Errorf("%s: %+v, want an untried feature", name, found)
		}
	}
}

// TestThrowawayThread lets the trial land on every thread, the first included.
func TestThrowawayThread(t *testing.T) {
	for range 200 {
		var thread int
		onThrowawayThread(func() { thread = unix.Gettid() })
		if thread == unix.Getpid() {
			t.Fatal("the trial ran on the process's first thread, which can't end")
		}
	}
}

func BenchmarkAll(b *testing.B) {
	for b.Loop() {
		All(b.Context())
	}
}
