// Package allowlist holds what a policy means on one machine at one moment:
// which files, by identity, and which trees, by canonical name, a build may
// use, and how.
//
// [Compile] makes a [List] from a policy. Declared packages become the files
// that they have, each located beneath the jail's root and known from then
// on by its [FileID] alone; rules about single files too. Workspaces and
// rules that end in /** become trees: what is in them may come and go during
// the build, so their files are judged by canonical name. Access none is
// settled first and wins over everything, by identity and by name.
//
// One open is then decided in two steps, neither of which allocates:
//
//  1. [List.ByID] looks the file up in a B-tree. A declared file's verdict
//     ends here, and so does that of a file with access none.
//  2. [List.ByPath] looks for the trees that the file's canonical name lies
//     in. What no tree covers is undeclared.
//
// Rights add up and can't be taken away again but by none, exactly as in
// the Landlock ruleset that the guard makes of the same grants
// ([Options].Visit): a file rule on top of a package, or a tree within a
// tree, grants what either grants.
//
// A List is written once, by Compile, and may then be read by any number of
// goroutines.
package allowlist

import (
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/tidwall/btree"

	"github.com/depguard/depguard/policy"
)

// Rule is the part of a policy that a verdict rests on.
type Rule struct {
	Text    string          // "package zlib1g-dev", "files /opt/sdk/** (line 9)", "base /etc/passwd", "workspace ."
	Pos     policy.Position // the declaration in the policy that led here; zero for none
	Package string          // the package's ID; empty for other rules
}

// Verdict is the answer about one access.
type Verdict struct {
	Action Action
	Rule   *Rule // nil when the file is undeclared
}

// List is a compiled policy.
type List struct {
	devices    map[uint64]*btree.Map[uint64, entry] // by FileID.Dev, then by inode number
	grants     []grant
	trees      map[string]uint32 // canonical name -> index into grants
	longest    int               // bytes of the longest name in trees
	undeclared Action
	stats      Stats
}

// entry is what the B-tree keeps of one file.
type entry struct {
	birth int64  // FileID.Birth
	grant uint32 // index into grants
}

// grant is rights that one rule gives. Files with the same rights by the
// same rules share it. Those of a file with several rules are a chain, in
// which no right stands twice: the first rule that gave it keeps it.
type grant struct {
	rule   *Rule
	access policy.Access // empty: denied
	next   uint32        // index of the next in the chain; 0 ends it
}

// Stats says how large a list is and what it took to make it.
type Stats struct {
	Files    int           // distinct files by identity, directories and symbolic links included
	Trees    int           // trees, and names with access none
	Packages int           // packages whose files are declared
	Duration time.Duration // of Compile
}

// Stats returns the list's size.
func (l *List) Stats() Stats { return l.stats }

// ByID decides about a file by its identity. It reports false when identity
// settles nothing: the file is not in the list, was made after the list (its
// birth differs, where both are known), or lacks a right that is wanted. Then
// ByPath decides.
func (l *List) ByID(id FileID, want policy.Access) (Verdict, bool) {
	tree := l.devices[id.Dev]
	if tree == nil {
		return Verdict{}, false
	}
	e, ok := tree.Get(id.Ino)
	if !ok || e.birth != id.Birth && e.birth != 0 && id.Birth != 0 {
		return Verdict{}, false
	}
	rule, missing, denied := l.chain(e.grant, want)
	switch {
	case denied:
		return Verdict{l.undeclared, rule}, true
	case missing == 0:
		return Verdict{Allow, rule}, true
	}
	return Verdict{}, false
}

// ByPath decides about a file by its canonical name: absolute, without
// symbolic links, ".", ".." or doubled slashes. Of all trees that it lies in,
// the rights add up, and the one nearest to the file is named in the verdict.
// A name in no tree is undeclared.
func (l *List) ByPath(canonical []byte, want policy.Access) Verdict {
	var rule *Rule
	missing := want
	for end := len(canonical); end > 0; end = parentEnd(canonical, end) {
		if end > l.longest {
			continue
		}
		first, ok := l.trees[string(canonical[:end])] // looked up in place: no copy
		if !ok {
			continue
		}
		by, rest, denied := l.chain(first, missing)
		if denied {
			return Verdict{l.undeclared, by}
		}
		if rule == nil {
			rule = by
		}
		missing = rest
	}
	if rule == nil || missing != 0 {
		return Verdict{Action: l.undeclared}
	}
	return Verdict{Allow, rule}
}

// parentEnd returns where the parent of path[:end] ends: 1, the root, for
// names in the root, and 0 after the root.
func parentEnd[T string | []byte](path T, end int) int {
	if end == 1 {
		return 0
	}
	for end--; end > 1 && path[end] != '/'; end-- {
	}
	return end
}

// chain collects rights along a chain of grants. It returns the first rule
// that gives one of the wanted rights, what of them is missing at the end,
// and whether the file is denied, by rule.
func (l *List) chain(i uint32, want policy.Access) (rule *Rule, missing policy.Access, denied bool) {
	missing = want
	for ; i != 0; i = l.grants[i].next {
		g := &l.grants[i]
		if g.access == 0 {
			return g.rule, want, true
		}
		if rule == nil && (want == 0 || g.access&want != 0) {
			rule = g.rule
		}
		missing &^= g.access
	}
	return rule, missing, false
}

// Entry is one file or tree of a list and the rights that one rule gives it.
type Entry struct {
	ID     FileID        // of a file
	Tree   string        // canonical name of a tree; empty for a file
	Access policy.Access // empty: denied
	Rule   *Rule
}

// Entries yields everything in the list, files by device and inode number,
// then trees by name. What several rules grant comes once for each.
func (l *List) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		chain := func(e Entry, i uint32) bool {
			for ; i != 0; i = l.grants[i].next {
				e.Access, e.Rule = l.grants[i].access, l.grants[i].rule
				if !yield(e) {
					return false
				}
			}
			return true
		}
		for _, dev := range slices.Sorted(maps.Keys(l.devices)) {
			more := true
			l.devices[dev].Scan(func(ino uint64, e entry) bool {
				more = chain(Entry{ID: FileID{dev, ino, e.birth}}, e.grant)
				return more
			})
			if !more {
				return
			}
		}
		for _, name := range slices.Sorted(maps.Keys(l.trees)) {
			if !chain(Entry{Tree: name}, l.trees[name]) {
				return
			}
		}
	}
}
