package owner

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func FuzzStatus(f *testing.F) {
	real, err := os.ReadFile("testdata/root" + dpkgStatus)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(real))
	f.Add("Package: a\nStatus: x installed\nDepends: a | b (>= 1), c [!i386] <!nocheck>, :any, (\n")
	f.Add("Package: a\nDepends:\n b\n\n\n \n")
	f.Fuzz(func(t *testing.T, data string) {
		list, err := parseStatus("status", data)
		if err != nil {
			if line := err.(*SyntaxError).Line; line < 1 || line > strings.Count(data, "\n")+1 {
				t.Errorf("error in line %d of %q", line, data)
			}
			return
		}
		all := make(map[stanzaKey]stanza)
		for _, s := range list {
			if !validName(s.name) || strings.Contains(s.name+s.arch, "/") {
				t.Errorf("package name %q, architecture %q", s.name, s.arch)
			}
			all[stanzaKey{s.name, s.arch}] = s
		}
		d := &dpkg{}
		d.index(all)
		d.providers = d.indexProviders
		names := d.Names()
		closure := d.Closure(names)
		if !slices.Equal(names, closure) { // closed, sorted, without duplicates
			t.Errorf("closure of everything is %q, not %q", closure, names)
		}
	})
}

func FuzzDiversions(f *testing.F) {
	f.Add("/bin/sh\n/bin/sh.distrib\ndash\n")
	f.Add("/a\n/b\n:\n")
	f.Fuzz(func(t *testing.T, data string) {
		divert, err := parseDiversions("diversions", data)
		if err == nil && len(divert) > (strings.Count(data, "\n")+1)/3 {
			t.Errorf("%d diversions in %q", len(divert), data)
		}
	})
}

// FuzzOwners compares the scan with the plain way: parse the list, look the
// path up in it.
func FuzzOwners(f *testing.F) {
	root := f.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a/b"), 0o755); err != nil {
		f.Fatal(err)
	}
	if err := os.Symlink("/a/b", filepath.Join(root, "l")); err != nil {
		f.Fatal(err)
	}
	if err := os.Symlink("loop", filepath.Join(root, "loop")); err != nil {
		f.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, dpkgDir, "info"), 0o755); err != nil {
		f.Fatal(err)
	}
	write(f, filepath.Join(root, dpkgStatus), "Package: p\nStatus: install ok installed\nArchitecture: all\n")
	f.Add("/.\n/a/b/x\n", "/a/b/x")
	f.Add("/l/x", "/a/b/x")
	f.Add("/loop/x\n\n//a/./b/../b//x", "/a/b/x")
	f.Fuzz(func(t *testing.T, list, wanted string) {
		write(t, filepath.Join(root, dpkgDir, "info/p.list"), list)
		db, err := Open(root, "dpkg")
		if err != nil {
			t.Fatal(err)
		}
		owners, err := db.Owners([]string{wanted})
		if err != nil {
			t.Fatal(err)
		}
		files, err := db.Files("p")
		if err != nil {
			return
		}
		dir := filepath.Dir(wanted)
		exists := filepath.IsAbs(wanted) && (dir == "/" || dir == "/a" || dir == "/a/b") && filepath.Clean(wanted) == wanted
		if exists && slices.Contains(files, wanted) && filepath.Base(wanted) != "/" && len(owners[wanted]) != 1 {
			t.Errorf("list %q has %q, but it has no owner", list, wanted)
		}
	})
}
