// Package report turns a trace into what people read. [Summarize] sorts the
// accesses of a trace into the questions a person has (what was used and whose
// is it, what went past depguard, what was refused and how to allow it), once
// for all forms; a [Summary] prints itself as text and marshals as JSON.
//
// Everything in a trace is chosen by the build and therefore hostile. Text
// passes through [Escape]; in JSON a string that is not UTF-8 has a companion
// with the suffix _bytes, in base64.
package report

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/tracer"
)

// Summary is what one run did. Its order is deterministic: lists are sorted
// by name, refusals by time.
type Summary struct {
	Command      []string       `json:"command"`
	CommandBytes [][]byte       `json:"command_bytes,omitempty"`
	Dir          Name           `json:"dir"`
	Mode         policy.Mode    `json:"mode"`
	Policy       string         `json:"policy,omitempty"` // its file name
	Network      policy.Network `json:"network"`
	Start        time.Time      `json:"start"`
	Duration     time.Duration  `json:"duration_ns"`
	Ended        bool           `json:"ended"` // false: depguard was killed, or the run goes on
	Status       int            `json:"status"`
	Kernel       string         `json:"kernel"`
	Version      string         `json:"version"`

	Complete   bool        `json:"complete"` // nothing was lost, and the run ended
	Losses     []Loss      `json:"losses"`
	Mechanisms []Mechanism `json:"mechanisms"`

	Processes int    `json:"processes"`
	Files     int    `json:"files"`    // distinct files used
	Accesses  uint64 `json:"accesses"` // of existing files
	Misses    uint64 `json:"misses"`   // of names that don't exist

	Bypassed  []Use     `json:"bypassed"`  // what only the kernel's witness saw
	Refusals  []Refusal `json:"refusals"`  // what the policy does not declare; refused in enforce
	Packages  []Package `json:"packages"`  // read or executed, by package
	Unowned   []Use     `json:"unowned"`   // read or executed, of no package, outside the workspace and base
	Base      []Use     `json:"base"`      // read or executed, of the set base
	Workspace int       `json:"workspace"` // files of the workspace that were used
	Writes    []Use     `json:"writes"`    // written outside the workspace and base
	Connects  []Connect `json:"connects"`
	Tail      string    `json:"tail,omitempty"`
}

// Name is a path with its exact bytes.
type Name struct {
	Path      string `json:"path"`
	PathBytes []byte `json:"path_bytes,omitempty"` // when Path is not UTF-8
}

func name(path string) Name { return Name{path, raw(path)} }

// Loss is one kind of thing the trace does not have.
type Loss struct {
	What  string `json:"what"`
	Count uint64 `json:"count"`
}

// Mechanism is one part of depguard that was in force, or was not, and why.
type Mechanism struct {
	Name   string `json:"name"`
	Active bool   `json:"active"`
	Detail string `json:"detail,omitempty"`
}

// Use is all that a run did with one file in one respect.
type Use struct {
	Name
	Owners []string `json:"owners,omitempty"`
	Count  uint64   `json:"count"`
	By     Process  `json:"by"` // the first process that did
}

// Process is who did something.
type Process struct {
	PID       int      `json:"pid"`
	Args      []string `json:"args"`
	ArgsBytes [][]byte `json:"args_bytes,omitempty"` // all arguments, when one is not UTF-8
}

// Package is what a run read and executed of one package.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Reads   uint64 `json:"reads"`
	Files   []Use  `json:"files"`
}

// Connect is one address that was connected to.
type Connect struct {
	Family  string  `json:"family"`
	Address string  `json:"address"`
	Count   uint64  `json:"count"`
	By      Process `json:"by"` // the first process that did
}

// Summarize sorts t, which should be attributed. The paths of base are those
// that need no owner.
func Summarize(t *tracer.Trace, base []policy.BaseEntry) Summary {
	s := &sorter{trace: t, base: base, versions: map[string]string{}}
	for _, p := range t.Packages {
		s.versions[p.Name] = p.Version
	}
	for _, m := range t.Run.Mechanisms {
		s.notify = s.notify || m.Name == "notify" && m.Active
	}
	if p, err := policy.Parse(t.Run.PolicyFile, []byte(t.Run.PolicyText)); err == nil {
		s.closure = p.Packages.Closure
	}
	sum := head(t)
	s.sort(&sum)
	return sum
}

// head returns the part of a summary that is not about files.
func head(t *tracer.Trace) Summary {
	r := &t.Run
	s := Summary{
		Command: r.Command, CommandBytes: rawArgs(r.Command), Dir: name(r.Dir), Mode: r.Mode, Policy: r.PolicyFile, Network: r.Network,
		Start: r.Start, Ended: !r.End.IsZero(), Status: r.Status, Kernel: r.Kernel, Version: r.Version,
		Complete: r.Losses.Complete() && !r.End.IsZero(), Losses: losses(r.Losses), Mechanisms: []Mechanism{},
		Processes: len(t.Processes), Tail: r.Tail,
	}
	if s.Ended {
		s.Duration = r.End.Sub(r.Start)
	}
	for _, m := range r.Mechanisms {
		s.Mechanisms = append(s.Mechanisms, Mechanism(m))
	}
	return s
}

// losses returns what was lost, in words.
func losses(l tracer.Losses) []Loss {
	all := []Loss{
		{"kernel events dropped, the ring buffer was full", l.KernelDropped},
		{"tracing programs skipped by the kernel", l.KernelMissed},
		{"calls whose arguments could not be read", l.Unreadable},
		{"accesses beyond the recorder's memory limit", l.Unrecorded},
		{"io_uring set up, whose opens cannot be seen", l.IOUring},
		{"files opened by handle", l.FileHandles},
		{"opens that bypassed the supervisor", l.Foreign},
	}
	return slices.DeleteFunc(all, func(l Loss) bool { return l.Count == 0 })
}

func rawArgs(args []string) [][]byte {
	if !slices.ContainsFunc(args, func(a string) bool { return raw(a) != nil }) {
		return nil
	}
	all := make([][]byte, len(args))
	for i, a := range args {
		all[i] = []byte(a)
	}
	return all
}

// sorter sorts the accesses of one trace.
type sorter struct {
	trace    *tracer.Trace
	base     []policy.BaseEntry
	versions map[string]string
	closure  bool // the policy follows dependencies
	notify   bool // the supervisor was to see every open

	bypassed, unowned, baseUses, writes uses
	packages                            map[string]uses
	used                                map[int]bool // files
	workspace                           map[int]bool
	refused                             []refused
}

// uses folds accesses by path.
type uses map[string]*Use

func (u uses) add(s *sorter, path string, owners []string, a *tracer.Access) {
	if use, ok := u[path]; ok {
		use.Count += a.Count
		return
	}
	u[path] = &Use{Name: name(path), Owners: owners, Count: a.Count, By: s.process(a.Process)}
}

func (u uses) sorted() []Use {
	list := make([]Use, 0, len(u))
	for _, p := range slices.Sorted(maps.Keys(u)) {
		list = append(list, *u[p])
	}
	return list
}

// sort fills in what s says of files and of the network.
func (s *sorter) sort(sum *Summary) {
	s.bypassed, s.unowned, s.baseUses, s.writes = uses{}, uses{}, uses{}, uses{}
	s.packages, s.used, s.workspace = map[string]uses{}, map[int]bool{}, map[int]bool{}
	for i := range s.trace.Accesses {
		a := &s.trace.Accesses[i]
		if a.Miss() {
			sum.Misses += a.Count
			continue
		}
		if a.Unused() {
			continue
		}
		sum.Accesses += a.Count
		s.access(a)
	}
	sum.Files, sum.Workspace = len(s.used), len(s.workspace)
	sum.Bypassed, sum.Unowned, sum.Base, sum.Writes = s.bypassed.sorted(), s.unowned.sorted(), s.baseUses.sorted(), s.writes.sorted()
	sum.Packages = s.sortedPackages()
	sum.Connects = s.connects()
	sum.Refusals = s.refusals()
}

// access sorts one access of a file that exists or was created.
func (s *sorter) access(a *tracer.Access) {
	path, owners, mode := s.file(a)
	if a.File >= 0 {
		s.used[a.File] = true
	}
	if s.notify && a.Seen == tracer.ByKernel {
		s.bypassed.add(s, path, owners, a)
	}
	if a.Verdict != allowlist.Allow {
		s.refused = append(s.refused, refused{a, path, owners})
		if s.trace.Run.Mode == policy.Enforce {
			return // it did not happen
		}
	}
	if s.inWorkspace(path) {
		if a.File >= 0 {
			s.workspace[a.File] = true
		}
		return
	}
	if a.Created || a.Op&policy.Write != 0 {
		s.write(a, path, owners)
	}
	if a.Op&(policy.Read|policy.Exec) != 0 && !a.Created && regular(path, mode) {
		s.read(a, path, owners)
	}
}

// write sorts a write outside the workspace; /dev and /proc are not places
// where a build leaves something.
func (s *sorter) write(a *tracer.Access, path string, owners []string) {
	if !under(path, "/dev") && !under(path, "/proc") && strings.HasPrefix(path, "/") && !s.inBase(path, policy.Write) {
		s.writes.add(s, path, owners, a)
	}
}

// read sorts a read or an execution outside the workspace.
func (s *sorter) read(a *tracer.Access, path string, owners []string) {
	for _, o := range owners {
		if s.packages[o] == nil {
			s.packages[o] = uses{}
		}
		s.packages[o].add(s, path, owners, a)
	}
	switch {
	case len(owners) > 0:
	case s.inBase(path, a.Op&(policy.Read|policy.Exec)):
		s.baseUses.add(s, path, nil, a)
	default:
		s.unowned.add(s, path, nil, a)
	}
}

// file returns what is known of the file of a.
func (s *sorter) file(a *tracer.Access) (path string, owners []string, mode uint32) {
	if a.File < 0 || a.File >= len(s.trace.Files) {
		return filepath.Clean(a.Asked), nil, 0
	}
	f := &s.trace.Files[a.File]
	return f.Path, f.Owners, f.Mode
}

// regular reports whether a file can be a dependency: it has a name and is a
// regular file (inode(7)), or one that was created and not looked at.
func regular(path string, mode uint32) bool {
	const typeMask, typeRegular = 0o170000, 0o100000
	kind := mode & typeMask
	return strings.HasPrefix(path, "/") && (kind == typeRegular || kind == 0)
}

func (s *sorter) inWorkspace(path string) bool {
	return slices.ContainsFunc(s.trace.Run.Workspace, func(tree string) bool { return under(path, tree) })
}

func (s *sorter) inBase(path string, access policy.Access) bool {
	return slices.ContainsFunc(s.base, func(e policy.BaseEntry) bool { return e.Covers(path, access) })
}

// under reports whether path is tree or in it.
func under(path, tree string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(tree, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// process returns who stands at index in the trace.
func (s *sorter) process(index int) Process {
	if index < 0 || index >= len(s.trace.Processes) {
		return Process{Args: []string{}}
	}
	p := &s.trace.Processes[index]
	args := p.Args
	if len(args) == 0 {
		args = []string{p.Exe}
	}
	return Process{p.PID, args, rawArgs(args)}
}

func (s *sorter) sortedPackages() []Package {
	list := make([]Package, 0, len(s.packages))
	for _, p := range slices.Sorted(maps.Keys(s.packages)) {
		pkg := Package{Name: p, Version: s.versions[p], Files: s.packages[p].sorted()}
		for _, f := range pkg.Files {
			pkg.Reads += f.Count
		}
		list = append(list, pkg)
	}
	return list
}

// connects folds the connections by address.
func (s *sorter) connects() []Connect {
	list := []Connect{}
	at := map[[2]string]int{}
	for _, c := range s.trace.Connects {
		key := [2]string{c.Family, c.Address}
		if i, ok := at[key]; ok {
			list[i].Count += c.Count
			continue
		}
		at[key] = len(list)
		list = append(list, Connect{c.Family, c.Address, c.Count, s.process(c.Process)})
	}
	slices.SortStableFunc(list, func(a, b Connect) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Family, b.Family))
	})
	return list
}
