package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/depguard/depguard/supervisor/probe"
	"github.com/depguard/depguard/tracer"
)

var (
	seeing   = []string{probe.Audit, probe.Enforce}
	guarding = []string{probe.Enforce}
)

func TestDoctorExitStatus(t *testing.T) {
	for _, c := range []struct {
		see, guard probe.Outcome
		exit       int
		says       []string
	}{
		{probe.Yes, probe.Yes, 0, []string{"\naudit: possible\n", "\nenforce: possible\n"}},
		{probe.Yes, probe.No, 1, []string{"\naudit: possible\n", "\nenforce: not possible: guard\n"}},
		{probe.Yes, probe.Unknown, 1, []string{"\nenforce: could not tell: guard\n"}},
		{probe.No, probe.Yes, 2, []string{"\naudit: not possible: see\n", "\nenforce: not possible: see\n"}},
		{probe.Unknown, probe.No, 2, []string{"\naudit: could not tell: see\n", "\nenforce: not possible: guard\n"}},
	} {
		report := examine([]probe.Feature{
			{Name: "see", Outcome: c.see, Needed: seeing},
			{Name: "guard", Outcome: c.guard, Needed: guarding},
		})
		if got := report.exitStatus(); got != c.exit {
			t.Errorf("see %v, guard %v: exit status %d, want %d", c.see, c.guard, got, c.exit)
		}
		var out strings.Builder
		if err := report.writeTable(&out, false); err != nil {
			t.Fatal(err)
		}
		for _, line := range c.says {
			if !strings.Contains(out.String(), line) {
				t.Errorf("see %v, guard %v: no line %q in\n%s", c.see, c.guard, line, out.String())
			}
		}
	}
}

func TestDoctorTable(t *testing.T) {
	report := doctorReport{Kernel: "6.1", User: 7, Features: []probe.Feature{
		{Name: "short", Outcome: probe.Yes, Detail: "fine"},
		{Name: "longer name", Outcome: probe.No, Detail: "a \x1b[2J screen", Consequence: "less works", Remedy: "change it"},
	}}
	const want = `Linux 6.1, user 7

short        yes             fine
longer name  no              a ` + "\uFFFD" + `[2J screen
    without it  less works
    remedy      change it

`
	var plain, colored strings.Builder
	if err := errors.Join(report.writeTable(&plain, false), report.writeTable(&colored, true)); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := strings.Cut(plain.String(), "witness:"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !strings.Contains(colored.String(), "\x1b[31mno            \x1b[m") || strings.Contains(plain.String(), "\x1b") {
		t.Errorf("color is on a terminal and nowhere else:\n%q\n%q", colored.String(), plain.String())
	}
}

func TestTraced(t *testing.T) {
	feature := probe.Feature{Name: "programs", Consequence: "less works", Remedy: "change it"}
	for _, c := range []struct {
		found tracer.Support
		want  probe.Feature
	}{
		{tracer.Support{Tried: true, Loads: true}, probe.Feature{Name: "programs", Outcome: probe.Yes, Detail: "one was loaded"}},
		{tracer.Support{Tried: true, Reason: "refused"}, probe.Feature{Name: "programs", Outcome: probe.No, Detail: "refused", Consequence: "less works", Remedy: "change it"}},
		{tracer.Support{Reason: "no privileges"}, probe.Feature{Name: "programs", Detail: "no privileges", Consequence: "less works", Remedy: "change it"}},
	} {
		got := traced(c.found, feature)
		if got.Outcome != c.want.Outcome || got.Detail != c.want.Detail || got.Remedy != c.want.Remedy || got.Consequence != c.want.Consequence {
			t.Errorf("%+v: %+v, want %+v", c.found, got, c.want)
		}
	}
}

// TestDoctorJSON runs the command on this machine and reads what it printed
// back. Its exit status says what the object says.
func TestDoctorJSON(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "findings"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	exit, err := (&DoctorCmd{JSON: true}).Run(t.Context(), out, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	var report doctorReport
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if report.exitStatus() != exit || report.Kernel == "" || len(report.Features) < 20 {
		t.Errorf("exit status %d with %+v", exit, report)
	}
}

func TestDoctorFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, c := range []DoctorCmd{{}, {JSON: true}} {
		if _, err := c.Run(t.Context(), full, nil); err == nil {
			t.Errorf("%+v: the findings got lost without an error", c)
		}
	}
}
