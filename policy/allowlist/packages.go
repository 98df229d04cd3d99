package allowlist

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/owner/inroot"
)

// packages grants the files of every declared package.
func (c *compiler) packages() error {
	declared := c.declared()
	c.packageCount = len(declared)
	dirs, err := c.packageFiles(declared)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := c.packageDir(d); err != nil {
			return err
		}
	}
	return nil
}

// declared returns a rule for each package that the policy declares, those
// that it names first: a package that is both named and inherited is named.
func (c *compiler) declared() []*Rule {
	p := c.Policy.Packages
	if len(p.Depend)+len(p.System) == 0 {
		return nil
	}
	if c.DB == nil {
		first := append(p.Depend[:len(p.Depend):len(p.Depend)], p.System...)[0]
		c.fail(first.Pos, "declare files by path, or run on a machine with a package database",
			"package %s is declared, but this machine has no package database", first.Name)
		return nil
	}
	d := declarer{compiler: c, seen: make(map[string]struct{})}
	depend := d.named(p.Depend)
	system := d.named(p.System)
	if p.Closure {
		d.inherited(depend)
	}
	d.inherited(system)
	if len(p.System) > 0 {
		for _, id := range c.DB.Closure(c.DB.Essential()) {
			d.add(id, "package "+id+" (essential)", p.System[0].Pos)
		}
	}
	return d.rules
}

// declarer collects the rules of packages, one for each package.
type declarer struct {
	*compiler
	seen  map[string]struct{}
	rules []*Rule
}

func (d *declarer) add(id, text string, pos policy.Position) {
	if _, ok := d.seen[id]; ok {
		return
	}
	d.seen[id] = struct{}{}
	d.rules = append(d.rules, &Rule{Text: text, Pos: pos, Package: id})
}

// named adds the packages that the policy names and returns those that are
// installed, under their IDs.
func (d *declarer) named(names []policy.PackageName) []policy.PackageName {
	var found []policy.PackageName
	for _, n := range names {
		pkg, ok := d.DB.Lookup(n.Name)
		if !ok {
			d.notInstalled(n)
			continue
		}
		d.add(pkg.ID(), "package "+pkg.ID(), n.Pos)
		found = append(found, policy.PackageName{Name: pkg.ID(), Pos: n.Pos})
	}
	return found
}

func (d *declarer) notInstalled(n policy.PackageName) {
	hint := "install it, or take it out of the policy"
	if s := policy.Suggest(n.Name, d.DB.Names()); s != "" {
		hint = fmt.Sprintf("did you mean %s? Otherwise install it, or take it out of the policy", s)
	}
	d.fail(n.Pos, hint, "package %s is not installed", n.Name)
}

// inherited adds what the named packages depend on.
func (d *declarer) inherited(names []policy.PackageName) {
	for _, n := range names {
		for _, id := range d.DB.Closure([]string{n.Name}) {
			d.add(id, "package "+id+" (needed by "+n.Name+")", n.Pos)
		}
	}
}

// packageDir is a directory as lists spell it, and what they have in it.
type packageDir struct {
	name  string
	files []packageFile
}

type packageFile struct {
	base string
	rule *Rule
}

// packageFiles sorts the files of the declared packages by directory, so
// that each directory is walked to once. A path that several lists have, as
// all have /usr, is the first one's.
func (c *compiler) packageFiles(declared []*Rule) ([]*packageDir, error) {
	var dirs []*packageDir
	byName := make(map[string]*packageDir)
	seen := make(map[string]struct{})
	for _, rule := range declared {
		files, err := c.DB.Files(rule.Package)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if _, ok := seen[f]; ok {
				continue
			}
			seen[f] = struct{}{}
			name, base := inroot.Split(f)
			if base == "" {
				continue // the root itself: an ancestor of everything
			}
			d := byName[name]
			if d == nil {
				d = &packageDir{name: name}
				byName[name] = d
				dirs = append(dirs, d)
			}
			d.files = append(d.files, packageFile{base, rule})
		}
	}
	return dirs, nil
}

// packageDir grants the files in one directory.
func (c *compiler) packageDir(d *packageDir) error {
	name, fd, err := c.openListedDir(d.name)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if c.masked(name) {
		return nil
	}
	for _, f := range d.files {
		before := len(c.items)
		if err := c.packageFile(fd, name, f); err != nil {
			return err
		}
		if len(c.items) > before {
			c.needs(name, f.rule)
		}
	}
	return nil
}

// openListedDir opens a directory under the name that a list gives it. Most
// are canonical already, and the kernel says so: that costs one system call.
func (c *compiler) openListedDir(listed string) (canonical string, fd int, err error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY
	if path.Clean(listed) == listed {
		if fd, err = c.root.Open(listed, flags); err == nil {
			return listed, fd, nil
		}
	}
	if canonical, err = c.root.Canonical(listed); err != nil {
		return "", -1, err
	}
	fd, err = c.root.Open(canonical, flags)
	return canonical, fd, err
}

// packageFile grants one file of a package: a file to be read and executed,
// a directory to be listed, a symbolic link to be read as such. Where the
// link leads is for the rules about that file to say.
func (c *compiler) packageFile(dirfd int, dir string, f packageFile) error {
	name := inroot.Join(dir, f.base)
	if _, ok := c.none[name]; ok {
		return nil
	}
	fd, st, err := c.openListed(dirfd, f.base)
	if absent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stat %q: %w", name, err)
	}
	if fd >= 0 {
		defer unix.Close(fd)
	}
	return c.grant(name, fd, &st, f.rule, packageAccess(&st))
}

// openListed identifies a file in an open directory. Only for the guard does
// it hold the file open: that doubles the cost.
func (c *compiler) openListed(dirfd int, base string) (fd int, st unix.Statx_t, err error) {
	if c.Visit == nil {
		return -1, st, statx(dirfd, base, &st)
	}
	fd, err = unix.Openat(dirfd, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, st, err
	}
	if err := statx(fd, "", &st); err != nil {
		unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

func packageAccess(st *unix.Statx_t) policy.Access {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return policy.Read | policy.Exec
	case unix.S_IFDIR:
		return policy.List
	}
	return policy.Read
}
