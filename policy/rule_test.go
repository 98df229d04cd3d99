package policy

import "testing"

func TestRuleShapes(t *testing.T) {
	for _, c := range []struct {
		path, literal, tree string // empty: not of this shape
	}{
		{"/a/b", "/a/b", ""},
		{"~/.netrc", "~/.netrc", ""},
		{`/a\*`, "/a*", ""},
		{`/a\\b`, `/a\b`, ""},
		{"/a]", "/a]", ""},
		{"/a/**", "", "/a"},
		{"~/**", "", "~"},
		{"/**", "", "/"},
		{`/a\[1]/**`, "", "/a[1]"},
		{`/a\\/**`, "", `/a\`},
		{"/a/*", "", ""},
		{"/a/**/b", "", ""},
		{"/*/**", "", ""},
		{"/{a,b}", "", ""},
	} {
		r := FileRule{Path: c.path}
		if name, ok := r.Literal(); ok != (c.literal != "") || ok && name != c.literal {
			t.Errorf("%s: literal %q, %t", c.path, name, ok)
		}
		if dir, ok := r.Tree(); ok != (c.tree != "") || dir != c.tree {
			t.Errorf("%s: tree %q, %t", c.path, dir, ok)
		}
	}
	set := FileRule{Set: "base"}
	if _, ok := set.Literal(); ok {
		t.Error("a set is no path")
	}
}

func TestRuleMatches(t *testing.T) {
	for _, c := range []struct {
		path, name string
		want       bool
	}{
		{"/a/**", "/a", true},
		{"/a/**", "/a/b/c", true},
		{"/a/**", "/ab", false},
		{"/a/*.h", "/a/x.h", true},
		{"/a/*.h", "/a/b/x.h", false},
		{"/a/{x,y}.h", "/a/y.h", true},
		{"~/.cargo/**", "/home/u[1]/.cargo/bin/x", true},
		{"~/.cargo/**", "/home/u1/.cargo/bin/x", false},
		{"/a/b?", "/a/b\xff", true}, // one byte that is not UTF-8
		{"/a/**", "/a/\xff\xfe/\x80", true},
		{`/a/\?`, "/a/b", false},
	} {
		if got := (FileRule{Path: c.path}).Matches(c.name, "/home/u[1]"); got != c.want {
			t.Errorf("%s, %q: got %t", c.path, c.name, got)
		}
	}
	if (FileRule{Path: "~/x"}).Matches("/x", "") {
		t.Error("~ without a home")
	}
	if !(FileRule{Set: "base"}).Matches("/dev/null", "") || (FileRule{Set: "base"}).Matches("/dev/sda", "") {
		t.Error("the set base")
	}
}

func TestEscapeGlob(t *testing.T) {
	for _, name := range []string{"/a*b?c[d]e{f,g}h\\i", "/plain", "/ü*", "/a\xff*", "/]", "/}"} {
		r := FileRule{Path: EscapeGlob(name)}
		if got, ok := r.Literal(); !ok || got != name || !r.Matches(name, "") {
			t.Errorf("%q becomes %q, which is for %q, %t", name, r.Path, got, ok)
		}
	}
}
