package tracer

import (
	"time"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
)

// Trace is everything one run did, folded: equal accesses of one process are
// one Access with a count. Every name keeps its bytes exactly; a Go string
// here need not be UTF-8.
type Trace struct {
	Run       Run
	Processes []Process
	Files     []File
	Accesses  []Access
	Connects  []Connect
	Packages  []Package

	// NameOwners has, for an asked name whose last component is a symbolic
	// link, the packages that own the links it leads through: libz.so belongs
	// to zlib1g-dev, the libz.so.1 behind it to zlib1g. Sorted; filled in
	// when the run ends.
	NameOwners map[string][]string
}

// Run is the head of a trace: what was run, under which policy, with which
// mechanisms in force, and what the trace lost.
type Run struct {
	Command    []string
	Dir        string // working directory of the command
	Workspace  []string
	Mode       policy.Mode
	PolicyFile string // empty without a policy
	PolicyText string
	Network    policy.Network
	Start, End time.Time // End is zero while the run goes on
	Status     int       // exit status as depguard returns it; -1 while the run goes on
	Kernel     string    // uname -r
	Version    string    // of depguard
	Mechanisms []Mechanism
	Losses     Losses
	Tail       string // the last lines of output, when they passed through a pseudo-terminal
}

// Mechanism is one part of depguard that was in force during a run, or was
// not, and why.
type Mechanism struct {
	Name   string // "notify", "guard", "witness", "view" …
	Active bool
	Detail string // version or tier when active, the reason when not
}

// Losses counts what a trace does not have. A trace with any loss is
// incomplete, and says so.
type Losses struct {
	KernelDropped uint64 // events that found the ring buffer full
	KernelMissed  uint64 // recursion misses of the tracing programs
	Unreadable    uint64 // calls whose arguments could not be read
	Unrecorded    uint64 // accesses beyond the recorder's memory limit
	IOUring       uint64 // io_uring_setup calls: what the rings open, no notification shows
	FileHandles   uint64 // open_by_handle_at calls
	Foreign       uint64 // kernel-side opens of which the supervisor saw nothing
}

// Complete reports whether nothing was lost.
func (l Losses) Complete() bool { return l == Losses{} }

// Process is one image of one process: fork and exec both make a new one, so
// that what a shell opened before it executed a compiler stays the shell's.
type Process struct {
	PID    int // thread group id in depguard's pid namespace
	Parent int // index into Trace.Processes of the image this one was forked or executed from; -1 for the first
	Exe    string
	Args   []string
	Start  time.Time
}

// File is one file by identity, with the canonical name under which it was
// found first.
type File struct {
	ID     allowlist.FileID
	Path   string
	Mode   uint32   // st_mode: type and permission bits
	Owners []string // packages, "name" or "name:arch"; filled in when the run ends
}

// Witness says who saw an access.
type Witness uint8

// The two witnesses.
const (
	BySupervisor Witness = 1 << iota
	ByKernel
)

// Access is one way in which one process used one file, or tried to use one
// that does not exist (a miss).
type Access struct {
	Process int    // index into Trace.Processes
	File    int    // index into Trace.Files; -1 when the name led to no file that could be located
	Asked   string // the path as asked, made absolute against the task's directory
	Op      policy.Access
	Verdict allowlist.Action
	Rule    string // the rule behind the verdict, as the policy names it; empty when no policy was loaded
	Created bool   // the name did not exist and the call asked to create it
	Errno   int    // what depguard answered with; with verdict allow, what the kernel was expected to answer; 0 otherwise
	Count   uint64
	First   time.Time
	Seen    Witness
}

// Unused reports whether the kernel was to refuse the access of its own accord
// (permissions, O_EXCL), and was not seen to grant it: no file was used.
func (a *Access) Unused() bool {
	return a.Verdict == allowlist.Allow && a.Errno != 0 && a.Seen&ByKernel == 0
}

// Miss reports whether the name that was asked for did not exist.
func (a *Access) Miss() bool { return a.File < 0 && !a.Created }

// Connect is one use of the network: connect(2) on an Internet address.
type Connect struct {
	Process int
	Family  string // "inet" or "inet6"
	Address string // host:port
	Count   uint64
}

// Package is a package that owns at least one file of the trace.
type Package struct {
	Name, Version string
}
