package tracer

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/depguard/depguard/policy/owner"
)

// fakeDB knows owners by path and versions by package.
type fakeDB struct {
	owner.DB
	owners   map[string][]string
	versions map[string]string
	asked    []string
}

func (db *fakeDB) Owners(paths []string) (map[string][]string, error) {
	db.asked = paths
	found := map[string][]string{}
	for _, p := range paths {
		if o := db.owners[p]; o != nil {
			found[p] = o
		}
	}
	return found, nil
}

func (db *fakeDB) Lookup(name string) (owner.Package, bool) {
	v, ok := db.versions[name]
	return owner.Package{Name: name, Version: v}, ok
}

// TestAttribute pins that a name that is a link of one package to a file of
// another has owners of its own, whatever directory links lead to it.
func TestAttribute(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	lib := root + "/usr/lib"
	must(t, os.MkdirAll(lib+"/gcc/12", 0o755))
	must(t, os.Symlink("usr/lib", root+"/lib"))
	must(t, os.Symlink("usr/lib/gcc/12", root+"/deep")) // deep/.. is /usr/lib/gcc, not the root
	must(t, os.WriteFile(lib+"/libz.so.1.2", nil, 0o644))
	must(t, os.Symlink("libz.so.1.2", lib+"/libz.so.1"))
	must(t, os.Symlink(lib+"/libz.so.1", lib+"/libz.so"))
	must(t, os.Symlink("loop", lib+"/loop"))

	db := &fakeDB{
		owners: map[string][]string{
			lib + "/libz.so": {"zlib1g-dev"}, lib + "/libz.so.1": {"zlib1g"}, lib + "/libz.so.1.2": {"zlib1g"},
			lib + "/gcc/12/x": {"a", "b"},
		},
		versions: map[string]string{"zlib1g": "1:1.2", "zlib1g-dev": "1:1.2-3", "a": "1"},
	}
	trace := &Trace{
		Files: []File{{Path: lib + "/libz.so.1.2"}, {Path: lib + "/gcc/12/x"}, {Path: "pipe:[7]"}, {Path: "/nobody's"}},
		Accesses: []Access{
			{File: 0, Asked: lib + "/libz.so.1.2"},
			{File: 0, Asked: root + "/lib/libz.so"},
			{File: 0, Asked: root + "/deep/../../libz.so.1"},
			{File: 0, Asked: lib + "/gone/libz.so"},
			{File: 0, Asked: lib + "/loop"},
			{File: 0, Asked: lib + "/"},
			{File: 0, Asked: "relative"},
			{File: -1, Asked: root + "/lib/libz.so.1"},
		},
	}
	must(t, trace.Attribute(db))

	if got := trace.Files[0].Owners; !reflect.DeepEqual(got, []string{"zlib1g"}) {
		t.Errorf("owners of the file: %q", got)
	}
	want := map[string][]string{
		root + "/lib/libz.so":          {"zlib1g", "zlib1g-dev"},
		root + "/deep/../../libz.so.1": {"zlib1g"},
	}
	if !reflect.DeepEqual(trace.NameOwners, want) {
		t.Errorf("owners of names: %q, want %q", trace.NameOwners, want)
	}
	packages := []Package{{"a", "1"}, {"b", ""}, {"zlib1g", "1:1.2"}, {"zlib1g-dev", "1:1.2-3"}}
	if !reflect.DeepEqual(trace.Packages, packages) {
		t.Errorf("packages: %q, want %q", trace.Packages, packages)
	}
	for _, p := range db.asked {
		if p[0] != '/' {
			t.Errorf("asked the database for %q", p)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
