package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/depguard/depguard/supervisor/probe"
	"github.com/depguard/depguard/tracer"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// DoctorCmd is `depguard doctor`: what this kernel and this user can do.
type DoctorCmd struct {
	JSON bool `name:"json" help:"Print the findings as one JSON object."`
}

// What the exit status of doctor says.
const (
	doctorAll       = 0 // audit and enforce are possible
	doctorAuditOnly = 1
	doctorNothing   = 2
)

// Help is the long help text (kong.HelpProvider).
func (DoctorCmd) Help() string {
	return `Each feature that depguard uses is tried, not concluded from the kernel's version,
and is "yes", "no" or "could not tell", with the reason. Where it isn't "yes", the
lines below it say what depguard can't do without it and what to change. Nothing is
changed, and nothing is left behind.

Exit status: 0 when audit and enforce are possible, 1 when only audit is, 2 when
neither is. "Could not tell" counts as not possible.

Examples:
  depguard doctor                                # as the user who will build
  depguard doctor --json | jq '.features[] | select(.outcome != "yes")'
  depguard doctor >/dev/null || exec make        # enforce only where it holds`
}

// Run prints the findings and returns the exit status that stands for them. The
// error is that of writing to stdout. Every message goes to stdout; stderr is
// there for the shape that all commands share.
//
// Preconditions: main has called probe.Child.
func (c *DoctorCmd) Run(ctx context.Context, stdout, _ *os.File) (exit int, err error) {
	report := examine(c.features(ctx))
	if c.JSON {
		err = report.writeJSON(stdout)
	} else {
		err = report.writeTable(stdout, isColorTerminal(stdout))
	}
	if err != nil {
		return doctorNothing, fmt.Errorf("write the findings: %w", err)
	}
	return report.exitStatus(), nil
}

// features tries everything: what the supervisor asks of the machine, then what
// the tracer does.
func (c *DoctorCmd) features(ctx context.Context) []probe.Feature {
	return append(probe.All(ctx),
		traced(tracer.WitnessSupport(), probe.Feature{
			Name:        "tracing programs",
			Since:       "5.12",
			Needed:      []string{probe.Witness},
			Consequence: "there is no witness beside the notifications, and the head of a trace says so",
			Remedy:      "CAP_BPF and CAP_PERFMON (or root) in the initial user namespace; Linux 5.12 or later with CONFIG_BPF_SYSCALL=y, CONFIG_BPF_EVENTS=y and CONFIG_DEBUG_INFO_BTF=y",
		}),
		traced(tracer.LSMSupport(), probe.Feature{
			Name:        "LSM programs",
			Since:       "5.7",
			Needed:      []string{},
			Consequence: "nothing today: the witness uses tracepoints",
			Remedy:      "none is needed; otherwise the same privileges and a kernel with CONFIG_BPF_LSM=y that is not locked down and has BPF trampolines",
		}))
}

// traced fills in what the tracer found out about f.
func traced(s tracer.Support, f probe.Feature) probe.Feature {
	switch {
	case s.Loads:
		f.Outcome, f.Detail = probe.Yes, "one was loaded"
		f.Consequence, f.Remedy = "", ""
	case s.Tried:
		f.Outcome, f.Detail = probe.No, s.Reason
	default:
		f.Detail = s.Reason
	}
	return f
}

// doctorReport is what doctor found out. Its JSON form is part of depguard's
// interface.
type doctorReport struct {
	Kernel   string          `json:"kernel"` // uname -r
	User     int             `json:"user"`   // effective user id
	Audit    bool            `json:"audit"`  // possible
	Enforce  bool            `json:"enforce"`
	Witness  bool            `json:"witness"`
	Features []probe.Feature `json:"features"`
}

// examine draws the conclusions from the findings.
func examine(features []probe.Feature) doctorReport {
	return doctorReport{
		Kernel:   kernelRelease(),
		User:     os.Geteuid(),
		Audit:    probe.Possible(features, probe.Audit),
		Enforce:  probe.Possible(features, probe.Enforce),
		Witness:  probe.Possible(features, probe.Witness),
		Features: features,
	}
}

// kernelRelease is what `uname -r` prints, and empty when that is refused.
func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

func (r doctorReport) exitStatus() int {
	switch {
	case r.Audit && r.Enforce:
		return doctorAll
	case r.Audit:
		return doctorAuditOnly
	}
	return doctorNothing
}

func (r doctorReport) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// writeTable prints one line per feature, two more for each that is not there,
// and the conclusions last.
func (r doctorReport) writeTable(w io.Writer, color bool) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "Linux %s, user %d\n\n", visible(r.Kernel), r.User)
	width := 0
	for _, f := range r.Features {
		width = max(width, len(f.Name))
	}
	for _, f := range r.Features {
		fmt.Fprintf(out, "%-*s  %s  %s\n", width, f.Name, paint(f.Outcome, color), visible(f.Detail))
		if f.Consequence != "" {
			fmt.Fprintf(out, "    without it  %s\n", visible(f.Consequence))
		}
		if f.Remedy != "" {
			fmt.Fprintf(out, "    remedy      %s\n", visible(f.Remedy))
		}
	}
	fmt.Fprintln(out)
	for _, mode := range []string{probe.Witness, probe.Audit, probe.Enforce} {
		fmt.Fprintf(out, "%s: %s\n", mode, conclusion(r.Features, mode))
	}
	return out.Flush()
}

// conclusion says in words whether mode is possible, and what is in its way.
func conclusion(features []probe.Feature, mode string) string {
	if probe.Possible(features, mode) {
		return "possible"
	}
	var refused, untried []string
	for _, f := range probe.Missing(features, mode) {
		if f.Outcome == probe.No {
			refused = append(refused, f.Name)
		} else {
			untried = append(untried, f.Name)
		}
	}
	if refused != nil {
		return "not possible: " + strings.Join(refused, ", ")
	}
	return "could not tell: " + strings.Join(untried, ", ")
}

// paint pads an outcome to the widest and, on a terminal, colors it: green,
// red, yellow (ECMA-48 SGR).
func paint(o probe.Outcome, color bool) string {
	word := fmt.Sprintf("%-*s", len(probe.Unknown.String()), o)
	if !color {
		return word
	}
	code := map[probe.Outcome]int{probe.Yes: 32, probe.No: 31, probe.Unknown: 33}[o]
	return fmt.Sprintf("\x1b[%dm%s\x1b[m", code, word)
}

// isColorTerminal reports whether f is a terminal whose user wants color
// (https://no-color.org).
func isColorTerminal(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// visible replaces what a terminal would act on: a finding can quote a path.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
