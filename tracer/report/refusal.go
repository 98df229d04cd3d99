package report

import (
	"path"
	"slices"
	"time"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/tracer"
)

// Refusal is one thing that the policy does not declare, with the five things
// every form of a report says: who, what, why, whose, and what fixes it. Files
// that one declaration fixes are one Refusal.
type Refusal struct {
	Asked      string      `json:"asked"` // the path as asked
	AskedBytes []byte      `json:"asked_bytes,omitempty"`
	File       Name        `json:"file"`           // the file it led to
	Op         string      `json:"op"`             // read, write, exec, list or create
	By         Process     `json:"by"`             // who
	Rule       string      `json:"rule,omitempty"` // the rule that denies it; empty: no rule allows it
	Verdict    string      `json:"verdict"`
	Owners     []PackageID `json:"owners"`
	Declare    []string    `json:"declare,omitempty"` // packages to add to packages.depend
	Access     string      `json:"access,omitempty"`  // else: the letters to grant File in files
	First      time.Time   `json:"first"`
	Count      uint64      `json:"count"`
	More       []Name      `json:"more"` // other files that the same declaration covers

	// Listed says that the process had listed the directory before: it came
	// upon the name there and need not have looked for it. Refusal by notification
	// leaves names in listings, and programs that look for one file in vain
	// then try them all.
	Listed bool `json:"listed"`
}

// PackageID names an installed package.
type PackageID struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// refused is an access that is to become, or join, a Refusal.
type refused struct {
	access *tracer.Access
	path   string
	owners []string
}

// refusals folds what was refused by the declaration that fixes it, in the
// order of time: what a build ran into first is most likely the cause of the
// rest. What it only came upon in listings stands last.
func (s *sorter) refusals() []Refusal {
	slices.SortStableFunc(s.refused, func(a, b refused) int { return a.access.First.Compare(b.access.First) })
	list := []Refusal{}
	at := map[string]int{}
	told := map[[2]string]bool{} // by declaration and path
	listed := s.listings()
	for _, r := range s.refused {
		next, key := s.refusal(r)
		next.Listed = listed.before(r)
		i, ok := at[key]
		if !ok {
			i = len(list)
			at[key] = i
			list = append(list, next)
		} else {
			list[i].Count += r.access.Count
			list[i].Listed = list[i].Listed && next.Listed
		}
		if ok && !told[[2]string{key, r.path}] {
			list[i].More = append(list[i].More, name(r.path))
		}
		told[[2]string{key, r.path}] = true
	}
	slices.SortStableFunc(list, func(a, b Refusal) int {
		switch {
		case a.Listed == b.Listed:
			return 0
		case b.Listed:
			return -1
		}
		return 1
	})
	return list
}

// listings says when a process first listed a directory.
type listings map[listing]time.Time

type listing struct {
	process int
	dir     string
}

func (s *sorter) listings() listings {
	first := listings{}
	for i := range s.trace.Accesses {
		a := &s.trace.Accesses[i]
		if a.Op != policy.List || a.File < 0 {
			continue
		}
		key := listing{a.Process, s.trace.Files[a.File].Path}
		if at, ok := first[key]; !ok || a.First.Before(at) {
			first[key] = a.First
		}
	}
	return first
}

// before reports whether the process had listed the directory of r's file.
func (l listings) before(r refused) bool {
	at, ok := l[listing{r.access.Process, path.Dir(r.path)}]
	return ok && at.Before(r.access.First)
}

// refusal returns r as a Refusal of its own, and what it is folded by.
func (s *sorter) refusal(r refused) (Refusal, string) {
	a := r.access
	out := Refusal{
		Asked: a.Asked, AskedBytes: raw(a.Asked), File: name(r.path), Op: a.Op.String(), By: s.process(a.Process),
		Rule: a.Rule, Verdict: a.Verdict.String(), First: a.First, Count: a.Count, Owners: []PackageID{}, More: []Name{},
	}
	if a.Created {
		out.Op = "create"
	}
	links := s.trace.NameOwners[a.Asked]
	for _, o := range union(r.owners, links) {
		out.Owners = append(out.Owners, PackageID{o, s.versions[o]})
	}
	switch {
	case a.Rule != "":
		return out, "rule " + a.Rule + "\x00" + r.path
	case a.Op&policy.Write != 0 || a.Created || len(out.Owners) == 0:
		// A package's files are declared for reading; nothing is written by declaring it.
		out.Access = a.Op.Letters()
		return out, "path " + r.path
	}
	out.Declare = declaration(r.owners, links, s.closure)
	return out, "package " + out.Declare[0]
}

// declaration returns the packages to declare for a file of owners that was
// reached through links of other packages. It is the link's package that a
// build means (the libz.so that a linker asks for is zlib1g-dev's); the file's
// own comes with it when the policy follows dependencies.
func declaration(owners, links []string, closure bool) []string {
	foreign := slices.IndexFunc(links, func(l string) bool { return !slices.Contains(owners, l) })
	switch {
	case foreign < 0:
		return owners[:1] // one of several owners suffices
	case closure || len(owners) == 0:
		return links[foreign : foreign+1]
	}
	return []string{links[foreign], owners[0]}
}

// union returns a and then what b has besides.
func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// shown returns the path as asked when it tells more than the file's.
func (r *Refusal) shown() string {
	if path.Clean(r.Asked) == r.File.Path || r.Asked == "" {
		return ""
	}
	return r.Asked
}
