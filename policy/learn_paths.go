package policy

import (
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// groupSize is how many used files make a rule for their directory.
const groupSize = 4

// used is one path that needs a rule, or a directory of such paths.
type used struct {
	tally
	access Access
}

func (u *used) merge(o *used) {
	u.tally = u.tally.plus(o.tally)
	u.access |= o.access
}

// needRule notes that no package, set or workspace covers f.
func (l *learner) needRule(f Observed) {
	u := &used{access: f.Access}
	u.add(f)
	l.paths[f.Path] = u
}

// scan notes that f's directory was read through.
func (l *learner) scan(f Observed) {
	dir := path.Dir(f.Path)
	if l.scans[dir] == nil {
		l.scans[dir] = &used{access: Read}
	}
	l.scans[dir].add(f)
}

// rules returns the rules for the paths, sorted by path, and the paths that
// no rule can have.
func (l *learner) rules() (rules []commented, unsayable []string) {
	byteCode := l.byteCode()
	groups := l.groups(byteCode)
	globs := make(map[string]*used)
	for name, u := range l.paths {
		glob := l.glob(name)
		if tree := byteCode[name]; tree != "" {
			glob = l.glob(tree) + "/**/__pycache__/*.pyc"
		} else if dir, ok := groupOf(name, groups); ok {
			glob = l.glob(dir) + "/**"
		}
		if globs[glob] == nil {
			globs[glob] = &used{}
		}
		globs[glob].merge(u)
	}
	for dir, u := range l.scans {
		globs[l.glob(dir)+"/*"] = u
	}
	for _, glob := range slices.Sorted(maps.Keys(globs)) {
		if problem, _ := checkRulePath(glob); problem != "" {
			unsayable = append(unsayable, glob)
			continue
		}
		u := globs[glob]
		why := u.String()
		if u.access.Has(Write) {
			why += "; written"
		}
		if strings.HasSuffix(glob, "/**/__pycache__/*.pyc") {
			why += "; compiled by Python"
		}
		if strings.HasSuffix(glob, "/*") && !strings.HasSuffix(glob, `\*`) {
			why += "; read through after a listing, by a program that was looking for something"
		}
		if strings.Contains(strings.ReplaceAll(glob, `\?`, ""), "?") {
			why += "; ? is a byte that is not UTF-8"
		}
		rules = append(rules, commented{"  - " + FileRule{Path: glob, Access: u.access}.String(), why})
	}
	return rules, unsayable
}

// byteCode returns, for each used path that is a module which Python compiled
// for itself, the library that it lies in, when enough of them do. Packages
// have the sources of such modules; the compiled ones appear when a package
// is installed, and belong to none.
func (l *learner) byteCode() map[string]string {
	modules := make(map[string][]string)
	for name := range l.paths {
		if !strings.HasSuffix(name, ".pyc") || path.Base(path.Dir(name)) != "__pycache__" {
			continue
		}
		if rest, ok := strings.CutPrefix(name, "/usr/lib/python"); ok {
			version, _, _ := strings.Cut(rest, "/")
			modules["/usr/lib/python"+version] = append(modules["/usr/lib/python"+version], name)
		}
	}
	trees := make(map[string]string)
	for tree, names := range modules {
		if len(names) < groupSize {
			continue
		}
		for _, name := range names {
			trees[name] = tree
		}
	}
	return trees
}

// groups returns the directories that get a rule for all that is in them: the
// topmost ones that may have one and have enough used paths beneath them.
func (l *learner) groups(byteCode map[string]string) map[string]bool {
	beneath := make(map[string]int) // used paths, for each directory that may be a group
	for name := range l.paths {
		if byteCode[name] != "" {
			continue
		}
		for dir := name; dir != "/"; dir = path.Dir(dir) {
			if (dir == name || path.Dir(name) == dir || !packaged(dir)) && l.groupable(dir) {
				beneath[dir]++
			}
		}
	}
	groups := make(map[string]bool)
	for dir, n := range beneath {
		if n >= groupSize && hasOthers(dir, n, l.paths) {
			groups[dir] = true
		}
	}
	maps.DeleteFunc(groups, func(dir string, _ bool) bool {
		_, inOther := groupOf(path.Dir(dir), groups)
		return inOther
	})
	return groups
}

// hasOthers reports whether a directory with n used paths, itself perhaps
// among them, has enough without itself.
func hasOthers(dir string, n int, paths map[string]*used) bool {
	if paths[dir] != nil {
		n--
	}
	return n >= groupSize
}

// groupOf returns the directory among groups that name is in, or is.
func groupOf(name string, groups map[string]bool) (dir string, ok bool) {
	for dir = name; ; dir = path.Dir(dir) {
		if groups[dir] {
			return dir, true
		}
		if dir == "/" {
			return "", false
		}
	}
}

// packaged reports whether dir is where distributions install packages and
// keep their state. There the files of many owners stand side by side, and
// only a directory with used files of its own can be a group.
func packaged(dir string) bool {
	top, _, _ := strings.Cut(dir[1:], "/")
	switch top {
	case "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "usr", "var":
		return true
	}
	return false
}

// groupable reports whether a rule for everything in dir says little more
// than what was observed: not for the upper directories of the tree, not for
// a home, not for what a package has files in, and not for what holds the
// workspace.
func (l *learner) groupable(dir string) bool {
	top, rest, deep := strings.Cut(dir[1:], "/")
	switch {
	case !deep, top == "home" && !strings.Contains(rest, "/"):
		return false
	case dir == l.Home, within(l.Home, dir), l.holders[dir], l.ownedDirs[dir]:
		return false
	case sharedDirs[dir], sharedDirs[path.Dir(dir)] && strings.HasSuffix(dir, "-linux-gnu"):
		return false
	case l.Home != "" && within(dir, l.Home) && sharedInHome[dir[len(l.Home)+1:]]:
		return false
	}
	return true
}

// sharedDirs hold the files of whoever installs something.
var sharedDirs = set([]string{
	"/usr/bin", "/usr/games", "/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/libx32",
	"/usr/local", "/usr/local/bin", "/usr/local/etc", "/usr/local/include", "/usr/local/lib", "/usr/local/sbin",
	"/usr/local/share", "/usr/local/src", "/usr/sbin", "/usr/share", "/usr/src",
	"/var/cache", "/var/lib", "/var/log", "/var/mail", "/var/opt", "/var/spool", "/var/tmp",
	"/run/lock", "/run/user", "/sys/class", "/sys/devices", "/sys/fs", "/sys/kernel",
})

// sharedInHome are the same beneath a home directory.
var sharedInHome = set([]string{".cache", ".config", ".gnupg", ".local", ".local/bin", ".local/lib", ".local/share", ".local/state", ".ssh"})

// glob returns the narrowest glob that a policy can have for a path. A byte
// that is not UTF-8 can't stand in a policy; ? matches it.
func (l *learner) glob(name string) string {
	home := ""
	if l.Home != "" && within(name, l.Home) {
		home, name = "~", name[len(l.Home):]
	}
	glob := EscapeGlob(name)
	if utf8.ValidString(glob) {
		return home + glob
	}
	var b strings.Builder
	for i, size := 0, 0; i < len(glob); i += size {
		var r rune
		if r, size = utf8.DecodeRuneInString(glob[i:]); r == utf8.RuneError && size == 1 {
			b.WriteByte('?')
			continue
		}
		b.WriteString(glob[i : i+size])
	}
	return home + b.String()
}

// writable reports whether a policy can have name for a workspace.
func writable(name string) bool {
	message, _ := checkWorkspace(name)
	return message == "" && utf8.ValidString(name)
}
