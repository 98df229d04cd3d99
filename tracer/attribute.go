package tracer

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/depguard/depguard/policy/owner"
)

// maxLinks is how many symbolic links in a row the kernel follows, MAXSYMLINKS
// (path_resolution(7)).
const maxLinks = 40

// Attribute fills in who owns what: File.Owners, NameOwners and Packages.
// It looks at the filesystem as it is now, at the end of the run, and at
// nothing but links: which ones an asked name leads through, since a link may
// belong to another package than the file behind it. Names that are gone are
// left out. It may be called again, with the database of another time.
func (t *Trace) Attribute(db owner.DB) error {
	chains := t.linkChains()
	owners, err := db.Owners(t.ownable(chains))
	if err != nil {
		return err
	}
	packages := map[string]bool{}
	for i := range t.Files {
		f := &t.Files[i]
		f.Owners = owners[f.Path]
		mark(packages, f.Owners)
	}
	t.NameOwners = map[string][]string{}
	for asked, links := range chains {
		if of := ownersOf(links, owners); len(of) > 0 {
			t.NameOwners[asked] = of
			mark(packages, of)
		}
	}
	t.Packages = nil
	for _, id := range slices.Sorted(maps.Keys(packages)) {
		p, _ := db.Lookup(id) // an owner that cannot be looked up has no version to tell
		t.Packages = append(t.Packages, Package{Name: id, Version: p.Version})
	}
	return nil
}

func mark(set map[string]bool, names []string) {
	for _, n := range names {
		set[n] = true
	}
}

// ownersOf returns the owners of all paths, sorted.
func ownersOf(paths []string, owners map[string][]string) []string {
	set := map[string]bool{}
	for _, p := range paths {
		mark(set, owners[p])
	}
	return slices.Sorted(maps.Keys(set))
}

// ownable returns every path of t whose owner is wanted, once.
func (t *Trace) ownable(chains map[string][]string) []string {
	set := map[string]bool{}
	for _, f := range t.Files {
		if strings.HasPrefix(f.Path, "/") { // pipes, sockets and the like have names of another kind
			set[f.Path] = true
		}
	}
	for _, links := range chains {
		mark(set, links)
	}
	return slices.Sorted(maps.Keys(set))
}

// linkChains returns for each asked name the canonical names of the symbolic
// links in its last component, in the order in which they lead to the file.
// Names without such a link are not in it.
func (t *Trace) linkChains() map[string][]string {
	chains := map[string][]string{}
	parents := parents{}
	for i := range t.Accesses {
		a := &t.Accesses[i]
		if a.File < 0 || a.File >= len(t.Files) || a.Asked == t.Files[a.File].Path {
			continue
		}
		if _, done := chains[a.Asked]; !done {
			chains[a.Asked] = parents.chain(a.Asked)
		}
	}
	maps.DeleteFunc(chains, func(_ string, links []string) bool { return len(links) == 0 })
	return chains
}

// parents remembers the canonical names of directories; empty for those that
// are gone. A compiler asks for thousands of names in few directories.
type parents map[string]string

// chain walks the links in the last component of name.
func (p parents) chain(name string) []string {
	var links []string
	for range maxLinks {
		canonical, ok := p.canonical(name)
		if !ok {
			return links
		}
		target, err := os.Readlink(canonical)
		if err != nil { // the file itself, most of all
			return links
		}
		links = append(links, canonical)
		if name = target; !strings.HasPrefix(target, "/") {
			name = canonical[:strings.LastIndexByte(canonical, '/')+1] + target
		}
	}
	return links
}

// canonical resolves the directory of name and leaves its last component. The
// directory is cut off by hand: filepath.Dir would take "link/.." for nothing.
// /proc is left alone, where links mean something else to every process.
func (p parents) canonical(name string) (string, bool) {
	slash := strings.LastIndexByte(name, '/')
	base := name[slash+1:]
	if slash < 0 || name[0] != '/' || base == "" || base == "." || base == ".." || strings.HasPrefix(name, "/proc/") {
		return "", false
	}
	dir, known := p[name[:slash+1]]
	if !known {
		dir = resolve(name[:slash+1])
		p[name[:slash+1]] = dir
	}
	return filepath.Join(dir, base), dir != ""
}

// resolve returns the canonical name of a directory, empty when there is none.
func resolve(dir string) string {
	canonical, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return ""
	}
	return canonical
}
