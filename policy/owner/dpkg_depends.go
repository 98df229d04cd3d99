package owner

import (
	"slices"
	"strings"
)

// relation is one alternative of a dependency: "libc6:any (>= 2.36)".
type relation struct {
	name    string
	arch    string // qualifier: "any", "native", an architecture, or empty
	op      string // "<<" "<=" "=" ">=" ">>", or empty
	version string
}

// provider is an installed package with a virtual name, and the version that
// it claims for it, if any.
type provider struct {
	pkg     *dpkgPackage
	version string
}

// parseRelation parses one alternative. What it can't parse comes back as a
// relation without a name, which nothing satisfies: dpkg checked the field
// when it wrote it, so only a damaged database has such text.
func parseRelation(s string) relation {
	s, rest, versioned := strings.Cut(s, "(")
	var r relation
	if versioned {
		cond, _, closed := strings.Cut(rest, ")")
		r.version = strings.TrimLeft(strings.TrimSpace(cond), "<=>")
		r.op = strings.TrimSuffix(strings.TrimSpace(cond), r.version)
		r.version = strings.TrimSpace(r.version)
		if !closed || r.version == "" || !validOp(r.op) {
			return relation{}
		}
	}
	if i := strings.IndexAny(s, "[<"); i >= 0 { // limits to architectures and build profiles
		s = s[:i]
	}
	r.name, r.arch, _ = strings.Cut(strings.TrimSpace(s), ":")
	if !validName(r.name) {
		return relation{}
	}
	return r
}

// validOp reports whether op compares versions. "<" and ">" are the obsolete
// spellings of "<=" and ">=" (deb-control(5)).
func validOp(op string) bool {
	switch op {
	case "<<", "<=", "=", ">=", ">>", "<", ">":
		return true
	}
	return false
}

// admits reports whether version is one that r asks for.
func (r relation) admits(version string) bool {
	c := compareVersions(version, r.version)
	switch r.op {
	case "<<":
		return c < 0
	case "<=", "<":
		return c <= 0
	case "=":
		return c == 0
	case ">=", ">":
		return c >= 0
	case ">>":
		return c > 0
	}
	return true
}

// indexProviders maps virtual names to the packages that provide them, in
// the order of their IDs.
func (d *dpkg) indexProviders() map[string][]provider {
	m := make(map[string][]provider)
	for _, p := range d.pkgs {
		for text := range strings.SplitSeq(p.provides, ",") {
			if r := parseRelation(text); r.name != "" {
				m[r.name] = append(m[r.name], provider{p, r.version})
			}
		}
	}
	return m
}

func (d *dpkg) Closure(names []string) []string {
	seen := make(map[*dpkgPackage]struct{})
	var todo []*dpkgPackage
	add := func(p *dpkgPackage) {
		if _, ok := seen[p]; !ok {
			seen[p] = struct{}{}
			todo = append(todo, p)
		}
	}
	for _, name := range names {
		if p := d.find(name); p != nil {
			add(p)
		}
	}
	for i := 0; i < len(todo); i++ {
		for _, field := range todo[i].depends {
			for clause := range strings.SplitSeq(field, ",") {
				for _, p := range d.clause(todo[i], clause) {
					add(p)
				}
			}
		}
	}
	closure := ids(todo)
	slices.Sort(closure)
	return closure
}

// clause returns what satisfies one dependency of from: the first of its
// alternatives that is installed. On a machine whose packages are broken
// that may be one in the wrong version; it is what the build has.
func (d *dpkg) clause(from *dpkgPackage, clause string) []*dpkgPackage {
	if strings.TrimSpace(clause) == "" {
		return nil
	}
	var alternatives []relation
	for text := range strings.SplitSeq(clause, "|") {
		alternatives = append(alternatives, parseRelation(text))
	}
	for _, r := range alternatives {
		if found := d.satisfying(from, r); len(found) > 0 {
			return found
		}
	}
	for _, r := range alternatives {
		r.op = ""
		if found := d.satisfying(from, r); len(found) > 0 {
			return found
		}
	}
	return nil
}

// satisfying returns the installed package of the name r, the one nearest to
// from's architecture, or else every provider of that name.
func (d *dpkg) satisfying(from *dpkgPackage, r relation) []*dpkgPackage {
	var found []*dpkgPackage
	for _, p := range d.byName[r.name] {
		if !d.archFits(from, r, p) || !r.admits(p.Version) {
			continue
		}
		if d.archOf(p) == d.archOf(from) {
			return []*dpkgPackage{p}
		}
		found = append(found, p)
	}
	if len(found) > 0 {
		return found[:1]
	}
	for _, prov := range d.providers()[r.name] {
		// A versioned dependency is met by a versioned provision only.
		if d.archFits(from, r, prov.pkg) && (r.op == "" || prov.version != "" && r.admits(prov.version)) {
			found = append(found, prov.pkg)
		}
	}
	return found
}

// archFits reports whether p's architecture can satisfy a dependency of
// from (Debian's multiarch rules; deb-control(5), Multi-Arch).
func (d *dpkg) archFits(from *dpkgPackage, r relation, p *dpkgPackage) bool {
	switch r.arch {
	case "any":
		return true
	case "native":
		return !p.foreign
	case "":
		return d.archOf(p) == d.archOf(from) || p.Arch == "all" || p.multiArch == "foreign"
	}
	return d.archOf(p) == r.arch
}
