// Package probe finds out what this kernel lets this user do, for `depguard
// doctor`.
//
// Every feature is tried, never concluded from a version number: distributions
// backport, containers filter system calls, sysctls switch things off. A trial
// uses the feature the way depguard does (a notification is received and
// answered, a Landlock domain refuses an open, a procfs is mounted in new
// namespaces) and ends in one of three outcomes: [Yes], [No] with the reason,
// or [Unknown] with the reason, when the trial itself could not be carried out.
//
// Trials that would change the process for good run elsewhere:
//
//   - per-thread state (no_new_privs, seccomp filters, Landlock domains) on an
//     operating system thread that is locked to its goroutine and never
//     unlocked, so that the runtime ends it with the goroutine;
//   - per-process state (user and pid namespaces, another process's memory, a
//     cgroup) in a child: this executable run again, see [Child].
//
// So [All] leaves nothing behind: no process, thread, mount, cgroup or
// descriptor. The probes for tracing programs are not here but in package bpf,
// which this package may not import; the command appends them as [Feature]
// values of its own.
package probe

import (
	"context"
	"fmt"
	"slices"
)

// Outcome is what a trial found out.
type Outcome int

// The three outcomes. The zero value is Unknown: nothing has been tried.
const (
	Unknown Outcome = iota // the trial could not be carried out
	Yes                    // tried, and it works
	No                     // tried, and it was refused
)

// String returns the outcome as the doctor prints it.
func (o Outcome) String() string {
	switch o {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "could not tell"
}

// MarshalText writes the outcome as [Outcome.String] does.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what [Outcome.MarshalText] writes. Any other text is an
// error.
func (o *Outcome) UnmarshalText(text []byte) error {
	for _, known := range []Outcome{Unknown, Yes, No} {
		if string(text) == known.String() {
			*o = known
			return nil
		}
	}
	return fmt.Errorf("outcome %q: want %q, %q or %q", text, Yes, No, Unknown)
}

// What a feature can be needed for.
const (
	Audit   = "audit"   // recording what a command opens
	Enforce = "enforce" // refusing what it did not declare
	Witness = "witness" // comparing with what the kernel itself saw
)

// Feature is one thing depguard asks of the kernel, the machine or the user's
// privileges, and whether it is there.
type Feature struct {
	Name        string   `json:"name"`
	Since       string   `json:"since,omitempty"` // first Linux version that has it; empty when it isn't the kernel's
	Outcome     Outcome  `json:"outcome"`
	Detail      string   `json:"detail,omitempty"`      // what was found; the reason when the outcome isn't Yes
	Consequence string   `json:"consequence,omitempty"` // what depguard can't do; empty when the outcome is Yes
	Remedy      string   `json:"remedy,omitempty"`      // what to change; empty when the outcome is Yes
	Needed      []string `json:"needed"`                // Audit, Enforce, Witness; empty: depguard does without
}

// All tries every feature, in the order of the table in features.go. When ctx
// ends, the features not tried yet are Unknown. It takes some ten milliseconds.
//
// Preconditions: main has called [Child]. Without it the trials that need a
// child process are Unknown.
func All(ctx context.Context) []Feature {
	m := newMachine(ctx)
	features := make([]Feature, 0, len(table))
	for _, p := range table {
		features = append(features, p.run(m))
	}
	return features
}

// Possible reports whether every feature needed for mode is there. A feature
// that could not be tried counts as missing, and a mode that no feature is
// needed for is not known, hence not possible.
func Possible(features []Feature, mode string) bool {
	needs := func(f Feature) bool { return slices.Contains(f.Needed, mode) }
	return slices.ContainsFunc(features, needs) && len(Missing(features, mode)) == 0
}

// Missing returns the features needed for mode that are not there or could not
// be tried, in order.
func Missing(features []Feature, mode string) []Feature {
	var missing []Feature
	for _, f := range features {
		if f.Outcome != Yes && slices.Contains(f.Needed, mode) {
			missing = append(missing, f)
		}
	}
	return missing
}
