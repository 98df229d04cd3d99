package allowlist

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
)

// pattern is the path of a file rule, taken apart.
type pattern struct {
	name string // absolute; without the /** of a tree
	tree bool   // it ended in /**: everything beneath
	glob bool   // name is a glob, not a name
}

// parsePattern takes a rule's path apart and makes it absolute.
func (c *compiler) parsePattern(f policy.FileRule) (p pattern, err error) {
	if p.name, p.tree = f.Tree(); !p.tree {
		var literal bool
		p.name, literal = f.Literal()
		p.glob = !literal
	}
	if p.glob {
		p.name, p.tree = strings.CutSuffix(f.Path, "/**")
	}
	p.name, err = c.absolute(p.name, p.glob)
	return p, err
}

// absolute replaces ~ and makes relative paths absolute. It leaves .. alone:
// what that means depends on the links before it.
func (c *compiler) absolute(p string, glob bool) (string, error) {
	quote := func(dir string) string {
		if glob {
			return policy.EscapeGlob(dir)
		}
		return dir
	}
	switch {
	case strings.HasPrefix(p, "/"):
		return p, nil
	case p == "~" || strings.HasPrefix(p, "~/"):
		if !strings.HasPrefix(c.Home, "/") {
			return "", fmt.Errorf("%q needs a home directory, and none is known: set HOME, or write the path out", p)
		}
		return quote(c.Home) + p[1:], nil
	case !strings.HasPrefix(c.Dir, "/"):
		return "", fmt.Errorf("%q is relative, and there is no directory that it could be relative to: write the path out", p)
	}
	return quote(c.Dir) + "/" + p, nil
}

// find returns the canonical names that a pattern stands for, those it
// matches if it is a glob; the targets of symbolic links, beneath the root.
func (c *compiler) find(p pattern) ([]string, error) {
	if !p.glob {
		name, err := c.root.Canonical(p.name)
		return []string{name}, err
	}
	matches, err := glob(c.root, p.name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range matches {
		name, err := c.root.Canonical(m)
		if absent(err) {
			continue // a link that leads nowhere, or a file that has just gone
		}
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, &fs.PathError{Op: "glob", Path: p.name, Err: unix.ENOENT}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// denials settles what access none covers: before all else, because no later
// rule may grant it. It needs nothing to exist. Names are denied for
// whatever stands there now or later; regular files by identity, too, so
// that a hard link elsewhere is no way in. Devices are not: the jail may have
// covered the name with one that the build needs.
func (c *compiler) denials() error {
	for _, f := range c.Policy.Files {
		if f.Access != 0 || f.Set != "" {
			continue
		}
		p, err := c.parsePattern(f)
		if err != nil {
			c.fail(f.Pos, "", "%v", err)
			continue
		}
		names, err := c.find(p)
		if absent(err) && !p.glob {
			names, err = []string{c.nearest(p.name)}, nil
		}
		if err != nil && !absent(err) {
			c.fail(f.Pos, "", "%v", err)
			continue
		}
		rule := filesRule(f)
		for _, name := range names {
			if err := c.deny(name, f.Pos, rule); err != nil {
				return err
			}
		}
	}
	return nil
}

// nearest returns the name under which an absent file would appear: that of
// the deepest directory on the way that exists, and the rest as it is spelled.
func (c *compiler) nearest(name string) string {
	dir, base := path.Split(path.Clean(name))
	if base == "" {
		return "/"
	}
	if canonical, err := c.root.Canonical(dir); err == nil {
		return path.Join(canonical, base)
	}
	return path.Join(c.nearest(dir), base)
}

func (c *compiler) deny(name string, pos policy.Position, rule *Rule) error {
	c.trees = append(c.trees, treeItem{path: name, rule: rule})
	c.none[name] = noneName{}
	fd, st, err := c.open(name, 0)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	c.none[name] = noneName{exists: true, dir: isDir(&st), names: st.Nlink, pos: pos}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		id := IdentityOf(&st)
		c.denied[[2]uint64{id.Dev, id.Ino}] = struct{}{}
		c.items = append(c.items, item{id: id, rule: rule})
	}
	return nil
}

// fileRules grants what the files section declares.
func (c *compiler) fileRules() error {
	for _, f := range c.Policy.Files {
		err := error(nil)
		switch {
		case f.Set == "base":
			err = c.base(f.Pos)
		case f.Set != "":
			c.fail(f.Pos, "the only set is base", "there is no set of files called %q", f.Set)
		case f.Access != 0:
			err = c.fileRule(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func filesRule(f policy.FileRule) *Rule {
	return &Rule{Text: fmt.Sprintf("files %s (line %d)", f.Path, f.Pos.Line), Pos: f.Pos}
}

// fileRule grants what one rule declares.
func (c *compiler) fileRule(f policy.FileRule) error {
	p, err := c.parsePattern(f)
	if err != nil {
		c.fail(f.Pos, "", "%v", err)
		return nil
	}
	names, err := c.find(p)
	if err != nil {
		c.notFound(f, p, err)
		return nil
	}
	rule := filesRule(f)
	for _, name := range names {
		if err := c.grantNamed(name, p, f, rule); err != nil {
			return err
		}
	}
	return nil
}

// notFound explains why a rule's path led to nothing.
func (c *compiler) notFound(f policy.FileRule, p pattern, err error) {
	const hint = "correct the path, or take the rule out; identities are taken when the build starts"
	switch {
	case !absent(err):
		c.fail(f.Pos, "", "%s: %v", f.Path, err)
	case p.glob:
		c.fail(f.Pos, hint, "%s matches no file", f.Path)
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		c.fail(f.Pos, hint, "%s does not exist", f.Path)
	default:
		c.fail(f.Pos, hint, "%s can't be reached: %v", f.Path, errors.Unwrap(err))
	}
}

// grantNamed grants a file rule's access to one canonical name.
func (c *compiler) grantNamed(name string, p pattern, f policy.FileRule, rule *Rule) error {
	if c.masked(name) {
		return nil
	}
	fd, st, err := c.open(name, 0)
	if err != nil {
		c.notFound(f, p, err)
		return nil
	}
	defer unix.Close(fd)
	access := f.Access
	switch {
	case p.tree && !isDir(&st) && p.glob, !p.tree && isDir(&st) && p.glob && !lists(access):
		return nil // a glob matches more than it is about
	case p.tree && !isDir(&st):
		c.fail(f.Pos, "name it without /**", "%s is not a directory", strings.TrimSuffix(f.Path, "/**"))
		return nil
	case !p.tree && isDir(&st) && !p.glob && access != policy.List:
		c.fail(f.Pos, "write "+strings.TrimRight(f.Path, "/")+"/** for everything beneath it, or access l to list it",
			"%s is a directory", f.Path)
		return nil
	}
	if access&policy.Write != 0 {
		c.writable = append(c.writable, name)
	}
	return c.grantAs(name, fd, &st, p.tree, access, rule)
}

// lists reports whether access lets a directory be listed. Read does: r on a
// directory is the right to list it, as in its permission bits.
func lists(access policy.Access) bool { return access&(policy.Read|policy.List) != 0 }

// grantAs grants access to an open file, or to the tree beneath it, in the
// terms of what it is.
func (c *compiler) grantAs(name string, fd int, st *unix.Statx_t, tree bool, access policy.Access, rule *Rule) error {
	c.needs(path.Dir(name), rule)
	if lists(access) && isDir(st) {
		access |= policy.List
	}
	if tree && isDir(st) {
		return c.grantTree(name, fd, st, rule, access)
	}
	if isDir(st) {
		access &= policy.List
	}
	return c.grant(name, fd, st, rule, access)
}

// base grants the set of files that every program touches. A machine need
// not have them all.
func (c *compiler) base(pos policy.Position) error {
	for _, e := range policy.Base() {
		if err := c.baseEntry(e, pos); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) baseEntry(e policy.BaseEntry, pos policy.Position) error {
	name, err := c.root.Canonical(e.Path)
	if absent(err) || err == nil && c.masked(name) {
		return nil
	}
	if err != nil {
		return err
	}
	fd, st, err := c.open(name, 0)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !e.Tree && isDir(&st) && !lists(e.Access) {
		return nil
	}
	return c.grantAs(name, fd, &st, e.Tree, e.Access, &Rule{Text: "base " + e.Path, Pos: pos})
}

// workspaces grants the trees that the build works in.
func (c *compiler) workspaces() error {
	for _, w := range c.Policy.Workspace {
		if err := c.workspace(w); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) workspace(w policy.WorkspaceTree) error {
	name, err := c.absolute(w.Path, false)
	if err == nil {
		name, err = c.root.Canonical(name)
	}
	if err != nil {
		c.fail(w.Pos, "make the directory, or correct the path", "workspace %s: %v", w.Path, err)
		return nil
	}
	if name == "/" {
		c.fail(w.Pos, "name the directory that the build works in", "workspace %s is the root directory: the build could write everywhere", w.Path)
		return nil
	}
	if c.masked(name) {
		c.fail(w.Pos, "take that rule out, or move the workspace", "workspace %s lies where a file rule says access none", w.Path)
		return nil
	}
	fd, st, err := c.open(name, 0)
	if err != nil || !isDir(&st) {
		if err == nil {
			unix.Close(fd)
			err = unix.ENOTDIR
		}
		c.fail(w.Pos, "name a directory", "workspace %s: %v", w.Path, err)
		return nil
	}
	defer unix.Close(fd)
	c.writable = append(c.writable, name)
	return c.grantAs(name, fd, &st, true, workspaceAccess, &Rule{Text: "workspace " + w.Path, Pos: w.Pos})
}
