package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/policy/owner"
	"github.com/depguard/depguard/tracer"
	"github.com/depguard/depguard/tracer/store"
)

// PolicyCmd is `depguard policy`.
type PolicyCmd struct {
	Learn LearnCmd `cmd:"" help:"Write a policy that allows what a trace shows."`
	Check CheckCmd `cmd:"" help:"Say whether a policy is valid on this machine."`
	Add   AddCmd   `cmd:"" help:"Declare packages in a policy."`
	Base  BaseCmd  `cmd:"" help:"Print the set base: files that every program touches."`
}

// LearnCmd is `depguard policy learn`.
type LearnCmd struct {
	Trace string `arg:"" optional:"" default:"${defaultTrace}" placeholder:"TRACE" help:"A trace that \"depguard exec --trace\" wrote. Default: ${defaultTrace}."`
	Mode  string `enum:"enforce,audit" default:"enforce" placeholder:"MODE" help:"Mode of the policy: enforce or audit."`
}

// Help is the long help text (kong.HelpProvider).
func (LearnCmd) Help() string {
	return `The policy goes to standard output. It names packages first, then few groups of files
that no package owns; each line says what it covers. Read it before you commit it.

Example:
  depguard exec --trace build.trace -- make
  depguard policy learn build.trace > depguard.yaml`
}

// Run prints the policy.
func (c *LearnCmd) Run(_ context.Context, stdout, stderr *os.File) (int, error) {
	t, err := store.Load(c.Trace)
	if err != nil {
		return statusFailed, err
	}
	if t.Run.End.IsZero() {
		note(stderr, "%s is the trace of a run that has not ended: the policy may lack what came after", c.Trace)
	} else if !t.Run.Losses.Complete() {
		note(stderr, "%s is incomplete: the policy may lack what was lost", c.Trace)
	}
	db, err := owner.Open("/", "auto")
	if err != nil {
		return statusFailed, err
	}
	// The packages of today: the trace may have come from a run that was cut
	// short, before its files had owners.
	if err := t.Attribute(db); err != nil {
		return statusFailed, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	network := policy.NetworkNone
	if slices.ContainsFunc(t.Connects, func(c tracer.Connect) bool { return !loopback(c.Address) }) {
		network = policy.NetworkHost
	}
	_, err = stdout.Write(policy.Learn(observed(t), graph{db}, policy.LearnOptions{
		Workspace: t.Run.Workspace, Dir: t.Run.Dir, Home: home, Network: network, Mode: policy.Mode(c.Mode), Command: t.Run.Command,
	}))
	return 0, err
}

// loopback reports whether an address is one of the machine's own, which a jail
// without network has, too.
func loopback(address string) bool {
	ap, err := netip.ParseAddrPort(address)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// observed sums up the accesses of t, file by file.
func observed(t *tracer.Trace) []policy.Observed {
	files := make([]policy.Observed, len(t.Files))
	for i, f := range t.Files {
		files[i] = policy.Observed{Path: f.Path, Owners: f.Owners}
	}
	scanned := scannedFiles(t)
	base := make(map[int]string, len(files)) // files asked for by names in base only, with one of them
	for i := range t.Accesses {
		a := &t.Accesses[i]
		if a.File < 0 || a.Unused() {
			continue
		}
		f := &files[a.File]
		if name, known := base[a.File]; !policy.InBase(a.Asked, a.Op) {
			base[a.File] = ""
		} else if !known || name != "" {
			base[a.File] = a.Asked
		}
		f.Access |= a.Op
		f.Count += a.Count
		if a.Op != policy.List { // many packages have a link such as /bin; listing it needs none of them
			f.NameOwners = append(f.NameOwners, t.NameOwners[a.Asked]...)
		}
	}
	for i := range scanned {
		files[i].Scanned = true
	}
	for i, name := range base {
		if name != "" && len(files[i].Owners) > 0 {
			files[i].Path, files[i].Owners, files[i].NameOwners = name, nil, nil // such as /etc/localtime
		}
	}
	return files
}

// A process has scanned a directory when it has read so many of its files, at
// least so large a part of what is in it.
const (
	scanFiles = 8
	scanPart  = 3.0 / 4
)

// scannedFiles returns the files that were only ever read by processes that had
// listed their directory and read through it, and those directories.
func scannedFiles(t *tracer.Trace) map[int]bool {
	type visit struct {
		process int
		dir     string
	}
	listed, directory := map[visit]time.Time{}, map[string]int{}
	for i := range t.Accesses {
		a := &t.Accesses[i]
		if a.File < 0 || a.Op != policy.List {
			continue
		}
		v := visit{a.Process, t.Files[a.File].Path}
		if first, ok := listed[v]; !ok || a.First.Before(first) {
			listed[v] = a.First
		}
		directory[v.dir] = a.File
	}
	read, direct := map[visit]map[int]bool{}, map[int]bool{}
	for i := range t.Accesses {
		a := &t.Accesses[i]
		if a.File < 0 || a.Op == policy.List || a.Unused() {
			continue
		}
		v := visit{a.Process, filepath.Dir(t.Files[a.File].Path)}
		if first, ok := listed[v]; !ok || a.Op != policy.Read || a.First.Before(first) {
			direct[a.File] = true
			continue
		}
		if read[v] == nil {
			read[v] = map[int]bool{}
		}
		read[v][a.File] = true
	}
	scanned := map[int]bool{}
	for v, files := range read {
		entries, _ := os.ReadDir(v.dir) // what is gone has no entries: then all were read
		through := len(files) >= scanFiles && float64(len(files)) >= scanPart*float64(len(entries))
		for file := range files {
			switch {
			case !through:
				direct[file] = true
			case !direct[file]:
				scanned[file] = true
				scanned[directory[v.dir]] = true
			}
		}
	}
	for file := range direct {
		delete(scanned, file)
	}
	return scanned
}

// graph answers what learning asks about packages.
type graph struct{ owner.DB }

// Installed reports whether the package is installed.
func (g graph) Installed(name string) bool {
	_, ok := g.Lookup(name)
	return ok
}

// CheckCmd is `depguard policy check`.
type CheckCmd struct {
	File string `arg:"" optional:"" default:"${defaultPolicy}" placeholder:"FILE" help:"The policy. Default: ${defaultPolicy}."`
	JSON bool   `help:"Print what the policy allows as JSON."`
}

// Help is the long help text (kong.HelpProvider).
func (CheckCmd) Help() string {
	return `Every error is printed with file, line and column. A valid policy is summed up: how
many packages, files and trees it allows on this machine.

Examples:
  depguard policy check
  depguard policy check ci/depguard.yaml && echo fine`
}

// checked is what check says of a valid policy.
type checked struct {
	File       string            `json:"file"`
	Mode       policy.Mode       `json:"mode"`
	Undeclared policy.Undeclared `json:"undeclared"`
	Network    policy.Network    `json:"network"`
	Packages   int               `json:"packages"`
	Files      int               `json:"files"`
	Trees      int               `json:"trees"`
}

// Run checks the policy against this machine.
func (c *CheckCmd) Run(_ context.Context, stdout, _ *os.File) (int, error) {
	p, err := readPolicy(c.File)
	if err != nil {
		return statusFailed, err
	}
	full, err := filepath.Abs(c.File)
	if err != nil {
		return statusFailed, err
	}
	options := allowlist.Options{Root: "/", Policy: p, Dir: filepath.Dir(full)}
	if options.Home, err = os.UserHomeDir(); err != nil {
		options.Home = ""
	}
	if len(p.Packages.Depend)+len(p.Packages.System) > 0 {
		if options.DB, err = owner.Open("/", p.Packages.Manager); err != nil {
			return statusFailed, err
		}
	}
	list, err := allowlist.Compile(options)
	if err != nil {
		return statusFailed, err
	}
	stats := list.Stats()
	result := checked{c.File, p.Mode, p.Undeclared, p.Network, stats.Packages, stats.Files, stats.Trees}
	if c.JSON {
		return 0, writeJSON(stdout, result)
	}
	_, err = fmt.Fprintf(stdout, "%s is valid: mode %s, undeclared: %s, network: %s\n  allows      %d files of %d packages, %d trees\n",
		result.File, result.Mode, result.Undeclared, result.Network, result.Files, result.Packages, result.Trees)
	return 0, err
}

// AddCmd is `depguard policy add`.
type AddCmd struct {
	Packages []string `arg:"" placeholder:"PACKAGE" help:"Packages to declare."`
	File     string   `short:"f" default:"${defaultPolicy}" placeholder:"FILE" help:"The policy to edit. Default: ${defaultPolicy}."`
}

// Help is the long help text (kong.HelpProvider).
func (AddCmd) Help() string {
	return `The packages are added to packages.depend; comments and layout of the file stay as
they are. A package that is not installed is refused.

Example:
  depguard policy add zlib1g-dev libssl-dev`
}

// Run edits the policy.
func (c *AddCmd) Run(_ context.Context, stdout, _ *os.File) (int, error) {
	data, err := readPolicyFile(c.File)
	if err != nil {
		return statusFailed, err
	}
	p, err := policy.Parse(c.File, data)
	if err != nil {
		return statusFailed, err
	}
	db, err := owner.Open("/", p.Packages.Manager)
	if err != nil {
		return statusFailed, err
	}
	var missing []error
	for _, name := range c.Packages {
		if _, ok := db.Lookup(name); !ok {
			message := fmt.Sprintf("the package %s is not installed", name)
			if near := policy.Suggest(name, db.Names()); near != "" {
				message += "; did you mean " + near + "?"
			}
			missing = append(missing, errors.New(message))
		}
	}
	if len(missing) > 0 {
		return statusFailed, errors.Join(missing...)
	}
	edited, err := policy.AddDepend(c.File, data, c.Packages)
	if err != nil {
		return statusFailed, err
	}
	if string(edited) == string(data) {
		_, err = fmt.Fprintf(stdout, "%s declares %s already\n", c.File, strings.Join(c.Packages, ", "))
		return 0, err
	}
	if err := writeFile(c.File, edited); err != nil {
		return statusFailed, fmt.Errorf("write the policy: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "%s declares %s now\n", c.File, strings.Join(c.Packages, ", "))
	return 0, err
}

// BaseCmd is `depguard policy base`.
type BaseCmd struct {
	JSON bool `help:"Print the set as JSON."`
}

// Run prints the set.
func (c *BaseCmd) Run(_ context.Context, stdout, _ *os.File) (int, error) {
	if c.JSON {
		type entry struct {
			Path   string `json:"path"`
			Access string `json:"access"`
			Why    string `json:"why"`
		}
		entries := []entry{}
		for _, e := range policy.Base() {
			entries = append(entries, entry{basePath(e), e.Access.Letters(), e.Why})
		}
		return 0, writeJSON(stdout, entries)
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, e := range policy.Base() {
		fmt.Fprintf(table, "%s\t%s\t%s\n", basePath(e), e.Access.Letters(), e.Why)
	}
	return 0, table.Flush()
}

// basePath writes an entry as a policy would.
func basePath(e policy.BaseEntry) string {
	if e.Tree {
		return filepath.Join(e.Path, "**")
	}
	return e.Path
}

func writeJSON(f *os.File, value any) error {
	encoder := json.NewEncoder(f)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
