package policy

import (
	"path"
	"slices"
	"strings"
)

// BaseEntry is a file, or a tree of files, in the set base.
type BaseEntry struct {
	Path   string // canonical and absolute
	Tree   bool   // everything beneath Path as well as Path itself
	Access Access
	Why    string // for whoever reads the printed set
}

// Covers reports whether e grants access to the file with the given
// canonical path. Every entry covers the empty access.
func (e BaseEntry) Covers(name string, access Access) bool {
	return e.Access.Has(access) && (name == e.Path || e.Tree && within(name, e.Path))
}

// Base returns the set base, sorted by path: the files that any program on
// any distribution may touch and that no package owns, because the system
// generates them or the jail provides them. What a package owns is not in
// it, with a few small files excepted that distributions disagree about.
//
// A policy has the set only when it says {set: base}, and what it covers is
// reported by that name. A path that a machine does not have is no error.
//
// Left out on purpose: what identifies the machine (/etc/machine-id), what
// holds secrets (/etc/shadow) and what lists the installed packages
// (/var/lib/dpkg: a build that asks depends on every one of them).
func Base() []BaseEntry { return slices.Clone(base) }

// InBase reports whether the set base grants access to the file with the
// given canonical path.
func InBase(name string, access Access) bool {
	return slices.ContainsFunc(base, func(e BaseEntry) bool { return e.Covers(name, access) })
}

// within reports whether name lies beneath the directory dir.
func within(name, dir string) bool {
	return len(name) > len(dir) && strings.HasPrefix(name, dir) && (dir == "/" || name[len(dir)] == '/')
}

// base is the set as Base returns it.
var base = withParents(baseFiles)

// withParents adds the right to list every directory above an entry, and
// sorts by path.
func withParents(entries []BaseEntry) []BaseEntry {
	all := slices.Clone(entries)
	known := make(map[string]bool)
	for _, e := range entries {
		known[e.Path] = true
	}
	for _, e := range entries {
		for dir := path.Dir(e.Path); !known[dir]; dir = path.Dir(dir) {
			known[dir] = true
			all = append(all, BaseEntry{dir, false, List, "holds " + e.Path})
		}
	}
	slices.SortFunc(all, func(a, b BaseEntry) int { return strings.Compare(a.Path, b.Path) })
	return all
}

var baseFiles = []BaseEntry{
	{"/", false, List, "walked by realpath, find and every search upwards"},
	{"/dev", false, List, "ttyname(3) looks for the terminal's name"},
	{"/dev/full", false, Read | Write, "device: a disk that is full"},
	{"/dev/null", false, Read | Write, "device: nothing"},
	{"/dev/ptmx", false, Read | Write, "device: new pseudo-terminals, for script and test suites"},
	{"/dev/pts", true, Read | Write | List, "devices: the jail's own pseudo-terminals"},
	{"/dev/random", false, Read | Write, "device: random numbers"},
	{"/dev/shm", true, Read | Write | List, "shared memory of shm_open(3) and sem_open(3), private to the jail"},
	{"/dev/tty", false, Read | Write, "device: the terminal of the process"},
	{"/dev/urandom", false, Read | Write, "device: random numbers"},
	{"/dev/zero", false, Read | Write, "device: zeros"},
	{"/etc", false, List, "listed by shells that expand /etc/*"},
	{"/etc/alternatives", false, List, "which program is behind a generic name; the links themselves are free"},
	{"/etc/gai.conf", false, Read, "getaddrinfo(3): preference of addresses"},
	{"/etc/group", false, Read, "names of groups: ls, tar, install, python"},
	{"/etc/host.conf", false, Read, "resolver: order of lookups"},
	{"/etc/hosts", false, Read, "resolver: localhost"},
	{"/etc/ld.so.cache", false, Read, "dynamic loader: where libraries are; written by ldconfig"},
	{"/etc/ld.so.conf", false, Read, "dynamic loader and linkers: library directories"},
	{"/etc/ld.so.conf.d", true, Read | List, "dynamic loader and linkers: library directories"},
	{"/etc/ld.so.preload", false, Read, "dynamic loader: asked for at every start of a program"},
	{"/etc/locale.alias", false, Read, "locale: short names"},
	{"/etc/localtime", false, Read, "the machine's time zone"},
	{"/etc/mtab", false, Read, "mounted filesystems, where it is no link to /proc"},
	{"/etc/nsswitch.conf", false, Read, "C library: where users, groups and hosts are looked up"},
	{"/etc/passwd", false, Read, "names of users: shells, tar, python, ssh"},
	{"/etc/protocols", false, Read, "C library: names of network protocols"},
	{"/etc/resolv.conf", false, Read, "resolver: name servers"},
	{"/etc/services", false, Read, "C library: names of network ports"},
	{"/etc/timezone", false, Read, "the name of the machine's time zone"},
	{"/proc", true, Read | Write | List, "the jail's own processes and kernel settings: /proc/self, meminfo, filesystems"},
	{"/run/NetworkManager/resolv.conf", false, Read, "resolver: where /etc/resolv.conf may lead"},
	{"/run/resolvconf/resolv.conf", false, Read, "resolver: where /etc/resolv.conf may lead"},
	{"/run/systemd/resolve/resolv.conf", false, Read, "resolver: where /etc/resolv.conf may lead"},
	{"/run/systemd/resolve/stub-resolv.conf", false, Read, "resolver: where /etc/resolv.conf may lead"},
	{"/sys/devices/system/cpu", true, Read | List, "number and kind of processors: nproc, make -j, malloc"},
	{"/sys/devices/system/node", true, Read | List, "memory nodes: libnuma, OpenMP"},
	{"/sys/fs/cgroup", true, Read | List, "limits of memory and processors: language runtimes size themselves by them"},
	{"/sys/kernel/mm/transparent_hugepage", true, Read | List, "memory allocators: size of huge pages"},
	{"/tmp", true, Read | Write | Exec | List, "temporary files, private to the jail; configure scripts run programs there"},
	{"/usr/lib/aarch64-linux-gnu/gconv/gconv-modules.cache", false, Read, "iconv(3): index of character sets; written by iconvconfig"},
	{"/usr/lib/arm-linux-gnueabihf/gconv/gconv-modules.cache", false, Read, "iconv(3): index of character sets; written by iconvconfig"},
	{"/usr/lib/gconv/gconv-modules.cache", false, Read, "iconv(3): index of character sets; written by iconvconfig"},
	{"/usr/lib/i386-linux-gnu/gconv/gconv-modules.cache", false, Read, "iconv(3): index of character sets; written by iconvconfig"},
	{"/usr/lib/locale", true, Read | List, "locales: locale-archive and its like, written by locale-gen"},
	{"/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache", false, Read, "iconv(3): index of character sets; written by iconvconfig"},
	{"/usr/lib64/gconv/gconv-modules.cache", false, Read, "iconv(3): index of character sets; written by iconvconfig"},
	{"/var/tmp", true, Read | Write | Exec | List, "temporary files, private to the jail"},
}
