package owner

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/depguard/depguard/policy/owner/inroot"
)

// dpkg's database, /var/lib/dpkg (dpkg(1), FILES):
//
//	status            every package, one stanza each (dpkg_status.go)
//	updates/NNNN      stanzas not yet merged into status
//	arch              native and foreign architectures, if there are foreign ones
//	diversions        files moved out of another package's way
//	info/NAME.list    the paths of a package, one a line;
//	info/NAME:ARCH.list for packages installed in several architectures
const (
	dpkgDir    = "/var/lib/dpkg"
	dpkgStatus = dpkgDir + "/status"
)

// maxPath is the longest path that a list is believed to have, PATH_MAX.
const maxPath = 4096

// dpkg implements [DB].
type dpkg struct {
	root   string
	native string
	pkgs   []*dpkgPackage            // installed, sorted by ID
	byID   map[string]*dpkgPackage   // by Package.ID
	byName map[string][]*dpkgPackage // by bare name, the machine's own architecture first
	divert map[string]diversion      // by the contested path

	providers func() map[string][]provider // by virtual name; parsed when first needed
}

// dpkgPackage is one installed package. Dependencies stay text until a
// closure asks for them.
type dpkgPackage struct {
	Package
	multiArch string
	depends   []string // Pre-Depends and Depends
	provides  string
}

// diversion sends the path of every package but one elsewhere
// (dpkg-divert(1)).
type diversion struct {
	to string
	by string // the package that keeps the path; empty: none does (a local diversion)
}

func openDpkg(root string) (DB, error) {
	d := &dpkg{root: root}
	stanzas, err := d.readStatus()
	if err != nil {
		return nil, err
	}
	if d.native, err = d.readNative(stanzas); err != nil {
		return nil, err
	}
	if d.divert, err = d.readDiversions(); err != nil {
		return nil, err
	}
	d.index(stanzas)
	d.providers = sync.OnceValue(d.indexProviders)
	return d, nil
}

// file returns the path of a file of the database.
func (d *dpkg) file(elem ...string) string {
	return filepath.Join(d.root, dpkgDir, filepath.Join(elem...))
}

// readStatus reads status and, over it, what an unfinished dpkg run has left
// in updates.
func (d *dpkg) readStatus() (map[stanzaKey]stanza, error) {
	all := make(map[stanzaKey]stanza)
	names := []string{d.file("status")}
	updates, err := os.ReadDir(d.file("updates")) // sorted, as dpkg reads them
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, u := range updates {
		if strings.Trim(u.Name(), "0123456789") == "" {
			names = append(names, d.file("updates", u.Name()))
		}
	}
	for _, name := range names {
		data, err := readFile(name, nil)
		if err != nil {
			return nil, err
		}
		list, err := parseStatus(name, string(data))
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			all[stanzaKey{s.name, s.arch}] = s
		}
	}
	return all, nil
}

// readNative finds the machine's own architecture: that of dpkg itself, else
// the first one in the arch file, else the most frequent. (dpkg has it
// compiled in, and writes the arch file for foreign architectures only.)
func (d *dpkg) readNative(stanzas map[stanzaKey]stanza) (string, error) {
	count := make(map[string]int)
	for key, s := range stanzas {
		if !s.installed() || key.arch == "all" || key.arch == "" {
			continue
		}
		if key.name == "dpkg" {
			return key.arch, nil
		}
		count[key.arch]++
	}
	data, err := readFile(d.file("arch"), nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if fields := strings.Fields(string(data)); len(fields) > 0 {
		return fields[0], nil
	}
	best := ""
	for _, arch := range slices.Sorted(maps.Keys(count)) {
		if count[arch] > count[best] {
			best = arch
		}
	}
	return best, nil
}

// readDiversions reads the diversions file, which a machine may lack.
func (d *dpkg) readDiversions() (map[string]diversion, error) {
	name := d.file("diversions")
	data, err := readFile(name, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseDiversions(name, string(data))
}

// parseDiversions parses records of three lines: the contested path, where
// it goes, and the package that keeps it, ":" for none.
func parseDiversions(file, data string) (map[string]diversion, error) {
	divert := make(map[string]diversion)
	var rec [3]string
	n := 0
	for line := range strings.Lines(data) {
		rec[n%3] = strings.TrimSuffix(line, "\n")
		if n++; n%3 != 0 {
			continue
		}
		for i, p := range rec[:2] {
			if !validPath(p) {
				return nil, &SyntaxError{file, n - 2 + i, fmt.Sprintf("%.80q is not an absolute path", p)}
			}
		}
		by := rec[2]
		if by == ":" {
			by = ""
		} else if !validName(by) {
			return nil, &SyntaxError{file, n, fmt.Sprintf("%.80q is not a package name", by)}
		}
		divert[path.Clean(rec[0])] = diversion{to: path.Clean(rec[1]), by: by}
	}
	if n%3 != 0 {
		return nil, &SyntaxError{file, n, "the file ends inside a record of three lines"}
	}
	return divert, nil
}

// index fills the maps of installed packages.
func (d *dpkg) index(stanzas map[stanzaKey]stanza) {
	d.byID = make(map[string]*dpkgPackage, len(stanzas))
	d.byName = make(map[string][]*dpkgPackage, len(stanzas))
	for key, s := range stanzas {
		if !s.installed() {
			continue
		}
		p := &dpkgPackage{
			Package: Package{
				Name: s.name, Arch: s.arch, Version: s.version,
				Essential: strings.EqualFold(s.essential, "yes"),
				foreign:   key.arch != d.native && key.arch != "all" && key.arch != "",
			},
			multiArch: s.multiArch,
			depends:   []string{s.preDepends, s.depends},
			provides:  s.provides,
		}
		// A package that turned from one architecture into "all" can leave
		// two stanzas with one ID. The lists hold one; take either, always the same.
		if old := d.byID[p.ID()]; old != nil && old.Arch <= p.Arch {
			continue
		}
		d.byID[p.ID()] = p
	}
	d.pkgs = slices.SortedFunc(maps.Values(d.byID), func(a, b *dpkgPackage) int { return strings.Compare(a.ID(), b.ID()) })
	for _, p := range d.pkgs { // "libc6" sorts before "libc6:i386"
		d.byName[p.Name] = append(d.byName[p.Name], p)
	}
}

func (d *dpkg) Manager() string { return "dpkg" }

func (d *dpkg) Lookup(name string) (Package, bool) {
	if p := d.find(name); p != nil {
		return p.Package, true
	}
	return Package{}, false
}

func (d *dpkg) find(name string) *dpkgPackage {
	if p := d.byID[name]; p != nil {
		return p
	}
	bare, arch, qualified := strings.Cut(name, ":")
	same := d.byName[bare]
	if !qualified && len(same) == 1 {
		return same[0]
	}
	for _, p := range same {
		if qualified && d.archOf(p) == arch {
			return p
		}
	}
	return nil
}

// archOf returns the architecture that p counts as in dependencies: one that
// is for all counts as the machine's own.
func (d *dpkg) archOf(p *dpkgPackage) string {
	if p.foreign {
		return p.Arch
	}
	return d.native
}

func (d *dpkg) Names() []string { return ids(d.pkgs) }

func (d *dpkg) Essential() []string {
	var names []string
	for _, p := range d.pkgs {
		if p.Essential {
			names = append(names, p.ID())
		}
	}
	return names
}

// ids returns the IDs of packages, in their order.
func ids(pkgs []*dpkgPackage) []string {
	names := make([]string, len(pkgs))
	for i, p := range pkgs {
		names[i] = p.ID()
	}
	return names
}

func (d *dpkg) Files(id string) ([]string, error) {
	p := d.find(id)
	if p == nil {
		return nil, fmt.Errorf("package %s is not installed", id)
	}
	name, data, err := d.readList(p, nil)
	if err != nil {
		return nil, fmt.Errorf("read the file list of package %s: %w", id, err)
	}
	return d.parseList(p, name, string(data))
}

// parseList parses a package's list of files.
func (d *dpkg) parseList(p *dpkgPackage, file, data string) ([]string, error) {
	paths := make([]string, 0, strings.Count(data, "\n")+1)
	n := 0
	for line := range strings.Lines(data) {
		n++
		line = strings.TrimSuffix(line, "\n")
		if !validPath(line) {
			return nil, &SyntaxError{file, n, fmt.Sprintf("%.80q is not an absolute path", line)}
		}
		paths = append(paths, d.diverted(p, path.Clean(line)))
	}
	return paths, nil
}

// diverted returns where p's file of that name really is.
func (d *dpkg) diverted(p *dpkgPackage, name string) string {
	if div, ok := d.divert[name]; ok && div.by != p.Name {
		return div.to
	}
	return name
}

// readList appends a package's list to buf. Which of the two names it has
// depends on the package being installable in several architectures.
func (d *dpkg) readList(p *dpkgPackage, buf []byte) (name string, data []byte, err error) {
	names := []string{
		d.file("info", p.Name+".list"),
		d.file("info", p.Name+":"+p.Arch+".list"),
	}
	if p.multiArch == "same" {
		slices.Reverse(names)
	}
	for _, name = range names {
		if data, err = readFile(name, buf); !errors.Is(err, fs.ErrNotExist) {
			return name, data, err
		}
	}
	return name, buf, err
}

// Owners scans every list once and looks at the last component of each line
// only. The few lines that share it with a wanted path are resolved, their
// directories through the symbolic links that are there now, and compared.
func (d *dpkg) Owners(paths []string) (map[string][]string, error) {
	root, err := inroot.New(d.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	q := newOwnersQuery(d, root, paths)
	var buf []byte
	for _, p := range d.pkgs {
		_, data, err := d.readList(p, buf[:0])
		if errors.Is(err, fs.ErrNotExist) {
			continue // dpkg itself assumes a package without files
		}
		if err != nil {
			return nil, fmt.Errorf("read the file list of package %s: %w", p.ID(), err)
		}
		q.scan(p, data)
		buf = data
	}
	for _, owners := range q.owners {
		slices.Sort(owners)
	}
	return q.owners, nil
}

// ownersQuery is one call of Owners.
type ownersQuery struct {
	d      *dpkg
	root   *inroot.Root
	wanted map[string][]string // last component -> directories, both of wanted paths
	bases  map[string]struct{} // the keys of wanted, and what lists may have in their place
	dirs   map[string]string   // directory as listed -> canonical; empty: gone
	owners map[string][]string
}

func newOwnersQuery(d *dpkg, root *inroot.Root, paths []string) *ownersQuery {
	q := &ownersQuery{
		d: d, root: root,
		wanted: make(map[string][]string, len(paths)),
		bases:  make(map[string]struct{}, len(paths)),
		dirs:   make(map[string]string),
		owners: make(map[string][]string),
	}
	for _, p := range paths {
		if !validPath(p) {
			continue
		}
		dir, base := inroot.Split(p)
		q.wanted[base] = append(q.wanted[base], dir)
		q.bases[base] = struct{}{}
	}
	for from, div := range d.divert {
		if _, ok := q.wanted[path.Base(div.to)]; ok {
			q.bases[path.Base(from)] = struct{}{}
		}
	}
	return q
}

// scan finds the wanted paths in one list.
func (q *ownersQuery) scan(p *dpkgPackage, list []byte) {
	for len(list) > 0 {
		line := list
		if i := bytes.IndexByte(list, '\n'); i >= 0 {
			line, list = list[:i], list[i+1:]
		} else {
			list = nil
		}
		base := line[bytes.LastIndexByte(line, '/')+1:]
		if _, ok := q.bases[string(base)]; ok {
			q.hit(p, string(line))
		}
	}
}

// hit resolves one listed path and notes p as its owner if it is wanted.
func (q *ownersQuery) hit(p *dpkgPackage, listed string) {
	if !validPath(listed) {
		return // names no file; Files reports it
	}
	listed, base := inroot.Split(q.d.diverted(p, path.Clean(listed)))
	dir := q.canonical(listed)
	if !slices.Contains(q.wanted[base], dir) {
		return
	}
	// A list can name one file twice, by both its names of a merged /usr.
	name := inroot.Join(dir, base)
	if own := q.owners[name]; len(own) == 0 || own[len(own)-1] != p.ID() {
		q.owners[name] = append(own, p.ID())
	}
}

// canonical returns the canonical name of a directory that a list names,
// empty when it is gone, and with it all that it held.
func (q *ownersQuery) canonical(listed string) string {
	dir, ok := q.dirs[listed]
	if !ok {
		dir, _ = q.root.Canonical(listed)
		q.dirs[listed] = dir
	}
	return dir
}

// validPath reports whether a list can mean p as the path of a file.
func validPath(p string) bool {
	return len(p) > 0 && len(p) < maxPath && p[0] == '/' && strings.IndexByte(p, 0) < 0
}
