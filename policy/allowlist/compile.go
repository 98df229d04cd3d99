package allowlist

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/owner"
	"github.com/depguard/depguard/policy/owner/inroot"
)

// Options says what to compile, and where.
type Options struct {
	Root   string            // the jail's root directory as this process sees it: "/" (also when empty) or /proc/PID/root
	Policy *policy.Policy    // required
	DB     owner.DB          // nil on a machine without packages
	Home   string            // what ~ stands for; without it a path with ~ is an error
	Dir    string            // absolute; what relative paths are relative to
	Visit  func(Grant) error // for the guard: called for every grant once, before Compile returns; its error ends the compilation
}

// Grant is one thing a list allows, with the file that it is about held
// open: whatever is bound to FD is bound to the very inode in the list.
type Grant struct {
	Path   string        // canonical, beneath Options.Root
	FD     int           // O_PATH descriptor, valid during the call
	Access policy.Access // never empty
	Tree   bool          // everything beneath Path, too
	Mode   uint32        // st_mode: a symbolic link may be granted as such
}

// Mask is a name that the jail has to cover.
type Mask struct {
	Path string // canonical
	Dir  bool
}

// workspaceAccess is what a workspace grants.
const workspaceAccess = policy.Read | policy.Write | policy.Exec | policy.List

// Compile makes the list of a policy. What is wrong with the policy on this
// machine comes back as [policy.Errors], all of it, each with its position:
// packages that are not installed, paths that don't exist, directories named
// without /**. Any other error is the machine's: a root that can't be opened,
// a damaged package database, an error of Visit.
//
// Files that a package lists and that are absent, or that this user has no
// way to reach, are left out: the build can't open them either.
func Compile(o Options) (*List, error) {
	start := time.Now()
	c, err := newCompiler(o)
	if err != nil {
		return nil, err
	}
	defer c.root.Close()
	for _, stage := range []func() error{c.denials, c.packages, c.fileRules, c.workspaces, c.ancestors} {
		if err := stage(); err != nil {
			return nil, err
		}
	}
	if err := c.policyErrors(); err != nil {
		return nil, err
	}
	l := newList(c.items, c.trees, o.Policy.Undeclared)
	l.stats.Packages = c.packageCount
	l.stats.Duration = time.Since(start)
	return l, nil
}

// Masks returns the existing files and directories with access none that lie
// in a tree which the policy grants, sorted by name. It is for the time
// before the jail exists, as is [Writable]: Options.Root is then the root
// that the jail will be made from. It fails as [Compile] does, but for
// packages, which it does not look at. In a tree that the jail has to itself,
// such as /tmp, the names are those of the root that was looked at: what is
// absent in the jail needs no cover.
func Masks(o Options) ([]Mask, error) {
	c, err := plan(o)
	if err != nil {
		return nil, err
	}
	masks := c.masks()
	for _, m := range masks {
		// A mask covers one name, and hides the identity behind it.
		if n := c.none[m.Path]; !n.dir && n.names > 1 {
			c.fail(n.pos, "put a copy in its place, or take the other names away",
				"%s has %d names (hard links), and access none can hold for one of them only", m.Path, n.names)
		}
	}
	return masks, c.policyErrors()
}

// Writable returns the canonical names of files and of the roots of trees
// that a policy lets the build write, but for those in the base set, sorted.
// The jail mounts them writable. A name within another one is left out.
func Writable(o Options) ([]string, error) {
	c, err := plan(o)
	if err != nil {
		return nil, err
	}
	slices.Sort(c.writable) // a tree before what is in it
	var top []string
	for _, w := range c.writable {
		if !slices.ContainsFunc(top, func(t string) bool { return inroot.Within(w, t) }) {
			top = append(top, w)
		}
	}
	return top, nil
}

// plan goes through the part of a policy that is about names.
func plan(o Options) (*compiler, error) {
	o.Visit = nil
	c, err := newCompiler(o)
	if err != nil {
		return nil, err
	}
	defer c.root.Close()
	for _, stage := range []func() error{c.denials, c.fileRules, c.workspaces} {
		if err := stage(); err != nil {
			return nil, err
		}
	}
	return c, c.policyErrors()
}

// compiler is one compilation. Its stages run in the order of the fields
// that they fill.
type compiler struct {
	Options
	root *inroot.Root
	errs policy.Errors

	none         map[string]noneName    // by canonical name
	denied       map[[2]uint64]struct{} // device and inode number of files with access none
	packageCount int                    // declared packages
	items        []item                 // files
	trees        []treeItem             // trees, names with access none among them
	writable     []string               // what is granted write access outside the base set
	listed       map[string]struct{}    // canonical names of directories that may be listed
	above        map[string]*Rule       // canonical names of directories that hold something granted
}

// noneName is what stands under a name with access none.
type noneName struct {
	exists, dir bool
	names       uint32 // hard links of a file
	pos         policy.Position
}

func newCompiler(o Options) (*compiler, error) {
	if o.Root == "" {
		o.Root = "/"
	}
	root, err := inroot.New(o.Root)
	if err != nil {
		return nil, fmt.Errorf("compile the policy: %w", err)
	}
	return &compiler{
		Options: o,
		root:    root,
		none:    make(map[string]noneName),
		denied:  make(map[[2]uint64]struct{}),
		listed:  make(map[string]struct{}),
		above:   make(map[string]*Rule),
	}, nil
}

// fail notes an error in the policy and goes on.
func (c *compiler) fail(pos policy.Position, hint, format string, args ...any) {
	c.errs = append(c.errs, c.Policy.Errorf(pos, hint, format, args...))
}

// policyErrors returns what fail has noted, in the order of the policy.
func (c *compiler) policyErrors() error {
	if len(c.errs) == 0 {
		return nil
	}
	c.errs.Sort()
	return c.errs
}

// masked reports whether access none covers a canonical name.
func (c *compiler) masked(name string) bool {
	if len(c.none) == 0 {
		return false
	}
	for end := len(name); end > 0; end = parentEnd(name, end) {
		if _, ok := c.none[name[:end]]; ok {
			return true
		}
	}
	return false
}

// masks returns the names with access none inside granted trees, the
// outermost ones only.
func (c *compiler) masks() []Mask {
	var masks []Mask
	for name, n := range c.none {
		parent, _ := inroot.Split(name)
		if n.exists && c.inTree(name) && (name == "/" || !c.masked(parent)) {
			masks = append(masks, Mask{name, n.dir})
		}
	}
	slices.SortFunc(masks, func(a, b Mask) int { return cmp.Compare(a.Path, b.Path) })
	return masks
}

// grant notes that rule gives access to the open file fd, and shows it to
// the guard. name is canonical.
func (c *compiler) grant(name string, fd int, st *unix.Statx_t, rule *Rule, access policy.Access) error {
	id := IdentityOf(st)
	if _, ok := c.denied[[2]uint64{id.Dev, id.Ino}]; ok {
		return nil
	}
	c.items = append(c.items, item{id, rule, access})
	if isDir(st) {
		c.listed[name] = struct{}{}
	}
	return c.show(Grant{Path: name, FD: fd, Access: access, Mode: uint32(st.Mode)})
}

// grantTree notes that rule gives access to everything in the open
// directory fd.
func (c *compiler) grantTree(name string, fd int, st *unix.Statx_t, rule *Rule, access policy.Access) error {
	c.trees = append(c.trees, treeItem{name, rule, access})
	return c.show(Grant{Path: name, FD: fd, Access: access, Tree: true, Mode: uint32(st.Mode)})
}

func (c *compiler) show(g Grant) error {
	if c.Visit == nil {
		return nil
	}
	if err := c.Visit(g); err != nil {
		return fmt.Errorf("grant %s to %q: %w", g.Access, g.Path, err)
	}
	return nil
}

// needs notes that a directory holds something that rule grants.
func (c *compiler) needs(dir string, rule *Rule) {
	for {
		if _, ok := c.above[dir]; ok {
			return
		}
		c.above[dir] = rule
		if dir == "/" {
			return
		}
		dir = path.Dir(dir)
	}
}

// ancestors lets the build list the directories above everything that is
// granted: what a glob or a search path walks through.
func (c *compiler) ancestors() error {
	for dir, rule := range c.above {
		if _, ok := c.listed[dir]; ok || c.masked(dir) {
			continue
		}
		fd, st, err := c.open(dir, unix.O_DIRECTORY)
		if absent(err) {
			continue
		}
		if err == nil {
			err = c.grant(dir, fd, &st, rule, policy.List)
			unix.Close(fd)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open opens the file of a canonical name without following or touching it,
// and identifies it. The caller closes the descriptor.
func (c *compiler) open(name string, flags int) (int, unix.Statx_t, error) {
	var st unix.Statx_t
	fd, err := c.root.Open(name, unix.O_PATH|unix.O_NOFOLLOW|flags)
	if err != nil {
		return -1, st, err
	}
	if err := statx(fd, "", &st); err != nil {
		unix.Close(fd)
		return -1, st, fmt.Errorf("stat %q: %w", name, err)
	}
	return fd, st, nil
}

// inTree reports whether a granted tree covers a canonical name.
func (c *compiler) inTree(name string) bool {
	return slices.ContainsFunc(c.trees, func(t treeItem) bool { return t.access != 0 && inroot.Within(name, t.path) })
}

// absent reports whether err says that there is no such file, or none that
// this user, and with it the build, can get at. Other errors are the
// machine's.
func absent(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.EPERM, unix.ELOOP, unix.ENAMETOOLONG, unix.EINVAL, unix.ESTALE, unix.EXDEV} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// statx identifies the file base in the directory dirfd, or dirfd itself
// when base is empty; a symbolic link is not followed.
func statx(dirfd int, base string, st *unix.Statx_t) error {
	const flags = unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	for {
		err := unix.Statx(dirfd, base, flags, unix.STATX_TYPE|unix.STATX_MODE|unix.STATX_NLINK|unix.STATX_INO|unix.STATX_BTIME, st)
		if err != unix.EINTR {
			return err
		}
	}
}

// IdentityOf returns the identity in a result of statx(2) that was asked for
// STATX_INO and STATX_BTIME.
func IdentityOf(st *unix.Statx_t) FileID {
	id := FileID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id
}

func isDir(st *unix.Statx_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
