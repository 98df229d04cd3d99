package policy

import (
	"path"
	"slices"
	"strings"
	"testing"
)

func TestBaseTable(t *testing.T) {
	entries := Base()
	if !slices.IsSortedFunc(entries, func(a, b BaseEntry) int { return strings.Compare(a.Path, b.Path) }) {
		t.Error("not sorted")
	}
	seen := make(map[string]bool)
	for _, e := range entries {
		if seen[e.Path] {
			t.Errorf("%s is there twice", e.Path)
		}
		seen[e.Path] = true
		if path.Clean(e.Path) != e.Path || !path.IsAbs(e.Path) || strings.ContainsAny(e.Path, globMeta) {
			t.Errorf("%s is no canonical path", e.Path)
		}
		if e.Access == 0 || e.Why == "" || strings.ContainsAny(e.Why, "\n") {
			t.Errorf("%+v lacks an access or a reason", e)
		}
		if e.Path != "/" && !seen[path.Dir(e.Path)] {
			t.Errorf("%s comes before its directory", e.Path)
		}
	}
	entries[0].Path = "changed"
	if Base()[0].Path == "changed" {
		t.Error("the caller can change the set")
	}
}

func TestInBase(t *testing.T) {
	for _, c := range []struct {
		name   string
		access Access
		want   bool
	}{
		{"/", List, true},
		{"/", Read, false},
		{"/etc/ld.so.cache", Read, true},
		{"/etc/ld.so.cache", Write, false},
		{"/etc/ld.so.cache/x", Read, false},
		{"/etc/shadow", Read, false},
		{"/etc/machine-id", Read, false},
		{"/tmp", List, true},
		{"/tmp/a/b", Read | Write | Exec, true},
		{"/tmpfile", Read, false},
		{"/var/tmp/x", Read, true},
		{"/proc/self/status", Read, true},
		{"/proc/self/exe", Exec, false},
		{"/dev/null", Read | Write, true},
		{"/dev/sda", Read, false},
		{"/usr/lib", List, true},
		{"/usr/lib/locale/C.utf8/LC_CTYPE", Read, true},
		{"/usr/lib/libc.so", Read, false},
	} {
		if got := InBase(c.name, c.access); got != c.want {
			t.Errorf("%s %s: got %t", c.access, c.name, got)
		}
	}
}
