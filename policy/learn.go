package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Observed is one file that a build used, with everything it did with it.
type Observed struct {
	Path       string   // canonical and absolute; need not be UTF-8
	Owners     []string // packages that the file belongs to
	NameOwners []string // packages that the links belong to by which it was asked for: of libz.so, which led to libz.so.1.2.13
	Access     Access   // files with none are left out
	Count      uint64   // how often

	// Scanned says that every use came from a process that had listed the
	// directory and then read nearly all of it, as pkg-config does when it does
	// not find what it looks for: which packages have files there is chance. Of
	// a directory it says that it was listed for that.
	Scanned bool
}

// PackageGraph is what [Learn] asks about packages. owner.DB answers it, with
// a little help.
type PackageGraph interface {
	Installed(name string) bool
	Closure(names []string) []string // the packages and all they depend on
	Essential() []string             // what every machine of the distribution has
}

// LearnOptions says how to write a learned policy.
type LearnOptions struct {
	Workspace []string // absolute; Dir when empty
	Dir       string   // where the policy will stand: absolute; the first workspace when empty
	Home      string   // absolute; what ~ stands for, when not empty
	Network   Network  // NetworkHost when the build used the network; otherwise the build gets none
	Mode      Mode     // Enforce when empty
	Command   []string // for the comment at the top
}

// systemPackage is Debian's name for what every build may count on (Debian
// Policy, section 4.2): with the essential packages the @system of a policy.
const systemPackage = "build-essential"

// maxLearned bounds, in bytes, each of the lists of a learned policy, with its
// comments, so that Parse takes the whole.
const maxLearned = maxSize / 4

// Learn writes the policy under which the observed build would have been
// allowed everything it did, in the shape in which a person would have
// written it: packages before paths, few paths, all of it explained in
// comments. [Parse] accepts what Learn returns.
//
// A file is covered by the first of these that grants what was done with it:
// the workspace; the set base; the package that owns it, and the package that
// owns the name it was asked by; a rule with its path. Of the packages those
// that others need anyway are not named. Paths that no package owns become
// dir/** where four of them share a directory that is theirs.
//
// What can't be said in a policy is said in a comment: names that are not
// absolute paths, and what is beyond the size of a policy.
func Learn(files []Observed, graph PackageGraph, opts LearnOptions) []byte {
	l := newLearner(graph, opts)
	for _, f := range sortedFiles(files) {
		l.observe(f)
	}
	l.choosePackages()
	return l.write()
}

// learner sorts observed files into the lines of a policy.
type learner struct {
	LearnOptions
	graph PackageGraph

	total     tally
	inside    tally           // of the workspace
	base      tally           // of the set base
	unnamed   []string        // no absolute paths
	trees     map[string]bool // the workspaces
	holders   map[string]bool // the directories above them
	noTree    []string        // workspaces that can't be written down
	candidate []Observed
	owned     map[string]tally // by package: what its files were used for
	ownedDirs map[string]bool  // directories with a packaged file somewhere beneath
	paths     map[string]*used // what needs a rule of its own
	scans     map[string]*used // directories that were read through

	depend, system []string
	cover          map[string]string // from every covered package to the declared one that covers it
}

// tally counts files and the times they were used.
type tally struct {
	files    int
	accesses uint64
}

func (t *tally) add(f Observed) {
	t.files++
	t.accesses += f.Count
}

func (t tally) plus(o tally) tally { return tally{t.files + o.files, t.accesses + o.accesses} }

func (t tally) String() string {
	return plural(uint64(t.files), "file", "files") + ", " + plural(t.accesses, "access", "accesses")
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatUint(n, 10) + " " + many
}

func newLearner(graph PackageGraph, opts LearnOptions) *learner {
	l := &learner{
		LearnOptions: opts,
		graph:        graph,
		owned:        make(map[string]tally),
		ownedDirs:    make(map[string]bool),
		paths:        make(map[string]*used),
		scans:        make(map[string]*used),
		trees:        make(map[string]bool),
		holders:      make(map[string]bool),
	}
	if len(l.Workspace) == 0 && l.Dir != "" {
		l.Workspace = []string{l.Dir}
	}
	if l.Dir == "" && len(l.Workspace) > 0 {
		l.Dir = l.Workspace[0]
	}
	if l.Mode != Audit {
		l.Mode = Enforce
	}
	if !path.IsAbs(l.Home) || l.Home != path.Clean(l.Home) || l.Home == "/" {
		l.Home = ""
	}
	l.checkWorkspaces()
	return l
}

// checkWorkspaces leaves out the workspaces that a policy can't name.
func (l *learner) checkWorkspaces() {
	var good []string
	for _, w := range l.Workspace {
		if !path.IsAbs(w) || !writable(l.relative(w)) || path.Clean(w) == "/" {
			l.noTree = append(l.noTree, w)
			continue
		}
		if w = path.Clean(w); !l.trees[w] {
			l.trees[w] = true
			addAbove(l.holders, w)
			good = append(good, w)
		}
	}
	l.Workspace = good
}

// relative returns a workspace as the policy names it.
func (l *learner) relative(w string) string {
	w = path.Clean(w)
	dir := path.Clean(l.Dir)
	switch {
	case w == dir:
		return "."
	case within(w, dir) && dir != "/":
		return globless(w[len(dir)+1:])
	case l.Home != "" && within(w, l.Home):
		return "~" + globless(w[len(l.Home):])
	}
	return globless(w)
}

// globless keeps Parse from taking a directory that is really called * for a
// glob, and one that begins with ~ for a home.
func globless(w string) string {
	if w[0] == '~' {
		w = "./" + w
	}
	if last := path.Base(w); last == "*" || last == "**" {
		w += "/"
	}
	return w
}

// sortedFiles returns what was done with each path, sorted by path.
func sortedFiles(files []Observed) []Observed {
	sorted := slices.SortedStableFunc(slices.Values(files), func(a, b Observed) int { return cmp.Compare(a.Path, b.Path) })
	merged := sorted[:0]
	for _, f := range sorted {
		if n := len(merged); n > 0 && merged[n-1].Path == f.Path {
			last := &merged[n-1]
			last.Access |= f.Access
			last.Count += f.Count
			last.Owners = slices.Concat(last.Owners, f.Owners)
			last.NameOwners = slices.Concat(last.NameOwners, f.NameOwners)
			last.Scanned = last.Scanned && f.Scanned
			continue
		}
		merged = append(merged, f)
	}
	return merged
}

// observe puts one file where it belongs, as far as that does not depend on
// other files.
func (l *learner) observe(f Observed) {
	if f.Access == 0 {
		return
	}
	l.total.add(f)
	if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || strings.ContainsRune(f.Path, 0) {
		l.unnamed = append(l.unnamed, f.Path)
		return
	}
	if _, inside := groupOf(f.Path, l.trees); inside {
		l.inside.add(f)
		return
	}
	if InBase(f.Path, f.Access) {
		l.base.add(f)
		return
	}
	if f.Access == List && l.holders[f.Path] {
		l.inside.add(f) // listed on the way to the workspace; granted with it
		return
	}
	switch {
	case f.Scanned && f.Access == List:
		return // comes with the rule for what is in it
	case f.Scanned && f.Access == Read:
		l.scan(f)
		return
	}
	f.Owners, f.NameOwners = packageNamesAmong(f.Owners), packageNamesAmong(f.NameOwners)
	if len(f.Owners) > 0 {
		addAbove(l.ownedDirs, f.Path)
	}
	if len(f.Owners) == 0 || f.Access.Has(Write) {
		l.needRule(f)
	}
	if len(f.Owners)+len(f.NameOwners) > 0 {
		l.candidate = append(l.candidate, f)
	}
}

// packageNamesAmong returns, sorted, the names that a policy can declare.
func packageNamesAmong(names []string) []string {
	var good []string
	for _, n := range names {
		if message, _ := checkPackageName(n); message == "" {
			good = append(good, n)
		}
	}
	slices.Sort(good)
	return slices.Compact(good)
}

// addAbove adds the directories above name to a set that has, with each
// directory, those above it.
func addAbove(dirs map[string]bool, name string) {
	for dir := path.Dir(name); !dirs[dir]; dir = path.Dir(dir) {
		dirs[dir] = true
	}
}

// choosePackages decides which packages to declare, so that each observed
// file has one of its owners, and each name one of its own, among those and
// what they depend on.
func (l *learner) choosePackages() {
	needed := l.neededPackages()
	var base map[string]bool
	if l.graph.Installed(systemPackage) {
		essential := set(l.graph.Closure(l.graph.Essential()))
		maps.Copy(essential, set(l.graph.Essential()))
		system := set(l.graph.Closure([]string{systemPackage}))
		system[systemPackage] = true
		for p := range needed {
			if system[p] && !essential[p] {
				l.system = []string{systemPackage}
				base = system
				maps.Copy(base, essential)
				break
			}
		}
	}
	maps.DeleteFunc(needed, func(p string, _ bool) bool { return base[p] })
	l.depend = l.reduce(slices.Sorted(maps.Keys(needed)))
	l.cover = l.covering(base)
	for _, f := range l.candidate {
		l.attribute(f)
	}
}

// neededPackages returns every owner of an observed name, and an owner of
// every observed file. Where a file has several, as directories have, one
// that is needed anyway is preferred.
func (l *learner) neededPackages() map[string]bool {
	needed := make(map[string]bool)
	var shared [][]string
	for _, f := range l.candidate {
		for _, owner := range f.NameOwners {
			needed[owner] = true
		}
		switch len(f.Owners) {
		case 0:
		case 1:
			needed[f.Owners[0]] = true
		default:
			shared = append(shared, f.Owners)
		}
	}
	if len(shared) == 0 {
		return needed
	}
	covered := set(l.graph.Closure(slices.Sorted(maps.Keys(needed))))
	if l.graph.Installed(systemPackage) {
		maps.Copy(covered, set(l.graph.Closure([]string{systemPackage})))
	}
	for _, owners := range shared {
		at := max(slices.IndexFunc(owners, func(p string) bool { return needed[p] || covered[p] }), 0)
		needed[owners[at]] = true
	}
	return needed
}

// reduce leaves out the packages that another one depends on, unless the two
// depend on each other: what is then left has all of names in its closure.
func (l *learner) reduce(names []string) []string {
	closure := make(map[string]map[string]bool, len(names))
	for _, n := range names {
		closure[n] = set(l.graph.Closure([]string{n}))
	}
	inherited := make(map[string]bool)
	for _, q := range names {
		for p := range closure[q] {
			if p != q && closure[p] != nil && !closure[p][q] {
				inherited[p] = true
			}
		}
	}
	kept := slices.DeleteFunc(slices.Clone(names), func(p string) bool { return inherited[p] })
	all := set(kept)
	for _, p := range kept {
		maps.Copy(all, closure[p])
	}
	for _, p := range names { // only a graph that contradicts itself gets here
		if !all[p] {
			kept = append(kept, p)
		}
	}
	slices.Sort(kept)
	return kept
}

// covering maps every covered package to the line that covers it: itself, the
// system, or the first declared package that depends on it.
func (l *learner) covering(base map[string]bool) map[string]string {
	cover := make(map[string]string)
	for p := range base {
		cover[p] = systemPackage
	}
	for _, d := range l.depend {
		for _, p := range l.graph.Closure([]string{d}) {
			if cover[p] == "" {
				cover[p] = d
			}
		}
	}
	for _, d := range l.depend {
		cover[d] = d
	}
	return cover
}

// attribute counts a file for the line that covers it: for a package of this
// build's own rather than for the system, and by the name it was asked by if
// that has an owner. Who links with -lz means zlib1g-dev.
func (l *learner) attribute(f Observed) {
	line := ""
	for _, owner := range slices.Concat(f.NameOwners, f.Owners) {
		if c := l.cover[owner]; line == "" || line == systemPackage && c != "" {
			line = c
		}
	}
	if line != "" {
		t := l.owned[line]
		t.add(f)
		l.owned[line] = t
	}
}

func set(names []string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, n := range names {
		all[n] = true
	}
	return all
}

// write renders the policy.
func (l *learner) write() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Learned by depguard%s, with %s.\n", l.commandComment(), l.total)
	b.WriteString("# It allows what the build did, and knows nothing of what it should do: read it.\n")
	fmt.Fprintf(&b, "version: 1\nmode: %s\nundeclared: %s\n", l.Mode, Hide)
	l.writePackages(&b)
	l.writeFiles(&b)
	l.writeWorkspace(&b)
	b.WriteString("\n")
	if l.Network == NetworkHost {
		b.WriteString("network: host # the build used the network\n")
	} else {
		b.WriteString("network: none # no connection beyond this machine was seen\n")
	}
	return b.Bytes()
}

// commandComment returns " from: command", escaped and of limited length.
func (l *learner) commandComment() string {
	if len(l.Command) == 0 {
		return ""
	}
	words := make([]string, 0, len(l.Command))
	for _, w := range l.Command {
		if len(words) == 40 {
			words = append(words, "…")
			break
		}
		w = shortened(w, longestValue)
		if w == "" || strings.ContainsAny(w, " \t'\"\\$`") {
			w = strconv.Quote(w)
		}
		words = append(words, comment(w))
	}
	return " from: " + comment(shortened(strings.Join(words, " "), longestMessage))
}

// comment returns s fit for a comment: one line, in characters that YAML
// allows.
func comment(s string) string {
	return visible(strings.ReplaceAll(s, "\t", `\t`))
}

func (l *learner) writePackages(b *bytes.Buffer) {
	if len(l.depend)+len(l.system) == 0 {
		return
	}
	b.WriteString("\npackages:\n")
	if len(l.depend) > 0 {
		var lines []commented
		for _, p := range l.depend {
			why := l.owned[p].String()
			if !l.graph.Installed(p) {
				why += "; not installed on this machine"
			}
			lines = append(lines, commented{"    - " + yamlString(p), why})
		}
		lines, left := fitting(lines)
		b.WriteString("  depend:\n")
		writeLines(b, lines)
		writeLeft(b, "packages are not declared here: too many to list", left)
	}
	for _, p := range l.system {
		fmt.Fprintf(b, "  system: %s # with all essential packages: %s\n", yamlString(p), l.owned[p])
	}
	b.WriteString("  closure: true # and what these depend on\n")
}

func (l *learner) writeFiles(b *bytes.Buffer) {
	rules, unsayable := l.rules()
	lines, left := fitting(rules)
	b.WriteString("\nfiles:\n")
	writeLines(b, slices.Insert(lines, 0, commented{"  - {set: base}", l.base.String() + "; what any program may touch: depguard policy base"}))
	writeLeft(b, "paths are not declared here: too many to list", left)
	writeLeft(b, "names are not declared here: they are no absolute paths", slices.Concat(l.unnamed, unsayable))
}

func (l *learner) writeWorkspace(b *bytes.Buffer) {
	var lines []commented
	for _, w := range l.Workspace {
		lines = append(lines, commented{"  - " + yamlString(l.relative(w)), ""})
	}
	lines, left := fitting(lines)
	if len(lines) == 0 {
		b.WriteString("\nworkspace: []\n")
	} else {
		lines[0].why = l.inside.String() + "; read, written and executed"
		b.WriteString("\nworkspace:\n")
		writeLines(b, lines)
	}
	writeLeft(b, "workspaces are not declared here: a policy can't name them", slices.Concat(l.noTree, left))
}

// commented is a line of the policy and what its comment says.
type commented struct{ text, why string }

// widest is how far to the right comments move to stand in one column.
const widest = 60

// fitting returns the lines that fit into a policy, and the others.
func fitting(lines []commented) (fit []commented, left []string) {
	size := 0
	for _, l := range lines {
		size += max(len(l.text), widest) + len(l.why)
		if size > maxLearned {
			left = append(left, strings.TrimLeft(l.text, " -"))
			continue
		}
		fit = append(fit, l)
	}
	return fit, left
}

// writeLines writes lines with their comments in one column, as far as the
// lines are of ordinary length.
func writeLines(b *bytes.Buffer, lines []commented) {
	column := 0
	for _, l := range lines {
		if n := len(l.text); n <= widest {
			column = max(column, n)
		}
	}
	for _, l := range lines {
		if l.why == "" {
			fmt.Fprintf(b, "%s\n", l.text)
			continue
		}
		fmt.Fprintf(b, "%-*s # %s\n", column, l.text, l.why)
	}
}

// writeLeft says in a comment what could not be said in the policy.
func writeLeft(b *bytes.Buffer, what string, names []string) {
	const shown = 20
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(b, "# %d %s:\n", len(names), what)
	for _, n := range names[:min(len(names), shown)] {
		fmt.Fprintf(b, "#   %s\n", comment(strconv.Quote(shortened(n, longestValue))))
	}
	if len(names) > shown {
		b.WriteString("#   …\n")
	}
}
