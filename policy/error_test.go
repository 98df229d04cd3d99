package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestErrorRendering(t *testing.T) {
	_, err := Parse("depguard.yaml", []byte("version: 1\n\n\n\npackages:\n  dpends: [zlib1g-dev]\n"))
	want := `depguard.yaml:6:3: unknown key "dpends" in packages
    6 |   dpends: [zlib1g-dev]
      |   ^
  did you mean "depend"?`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestErrorf(t *testing.T) {
	p, err := Parse("p.yaml", []byte(fullPolicy))
	if err != nil {
		t.Fatal(err)
	}
	e := p.Errorf(p.Packages.Depend[1].Pos, "apt-get install libc6:i386", "package %s is not installed", "libc6:i386")
	want := `p.yaml:7:24: package libc6:i386 is not installed
    7 |   depend: [zlib1g-dev, "libc6:i386"]
      |                        ^
  apt-get install libc6:i386`
	if e.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", e, want)
	}
	if got := p.Errorf(Position{}, "", "no place").Error(); got != "p.yaml: no place" {
		t.Errorf("got %q", got)
	}
	if got := p.Errorf(Position{99, 1}, "", "beyond the end").Error(); got != "p.yaml:99:1: beyond the end" {
		t.Errorf("got %q", got)
	}
	var one *Error
	if err := error(Errors{e}); !errors.As(err, &one) || one != e {
		t.Errorf("errors.As finds %v", one)
	}
}

func TestErrorIsHarmlessOnATerminal(t *testing.T) {
	for _, c := range []struct {
		name string
		err  Error
		want string
	}{
		{"escape sequence", Error{File: "p\x1b[2J", Pos: Position{1, 5}, Line: "a: \x1b[31mred", Message: "bad \x07", Hint: "x\x1b\ny\r"},
			"p\\x1b[2J:1:5: bad \\a\n    1 | a: \\x1b[31mred\n      |        ^\n  x\\x1b\n  y\\r"},
		{"direction", Error{File: "p", Pos: Position{1, 1}, Line: "a\u202eb", Message: "m"},
			"p:1:1: m\n    1 | a\\u202eb\n      | ^"},
		{"tab before the caret", Error{File: "p", Pos: Position{12, 3}, Line: "\t\tx", Message: "m"},
			"p:12:3: m\n    12 | \t\tx\n       | \t\t^"},
		{"wide and combining", Error{File: "p", Pos: Position{1, 5}, Line: "漢e\u0301: x", Message: "m"},
			"p:1:5: m\n    1 | 漢e\u0301: x\n      |     ^"},
		{"not UTF-8", Error{File: "p", Pos: Position{1, 3}, Line: "\xff\xfex", Message: "m"},
			"p:1:3: m\n    1 | \\xff\\xfex\n      |         ^"},
		{"column beyond the line", Error{File: "p", Pos: Position{1, 9}, Line: "ab", Message: "m"},
			"p:1:9: m\n    1 | ab\n      |   ^"},
		{"long line", Error{File: "p", Pos: Position{1, 201}, Line: strings.Repeat("a", 200) + "b" + strings.Repeat("c", 200), Message: "m"},
			"p:1:201: m\n    1 | …" + strings.Repeat("a", 50) + "b" + strings.Repeat("c", 49) + "…\n      | " + strings.Repeat(" ", 51) + "^"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.err.Error(); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestSuggest(t *testing.T) {
	packages := []string{"zlib1g", "zlib1g-dev", "libssl-dev", "libssl3", "make", "gcc"}
	for _, c := range []struct{ word, want string }{
		{"zlib1g-dve", "zlib1g-dev"},
		{"zlib-dev", "zlib1g-dev"},
		{"Make", "make"},
		{"mkae", "make"},
		{"libssl", "libssl3"},
		{"zlib", "zlib1g"},
		{"make", ""}, // itself
		{"firefox", ""},
		{"", ""},
		{"x", ""},
		{strings.Repeat("a", 100000), ""},
	} {
		if got := Suggest(c.word, packages); got != c.want {
			t.Errorf("%.20q: got %q, want %q", c.word, got, c.want)
		}
	}
	if a, b := Suggest("aab", []string{"aaa", "aac"}), Suggest("aab", []string{"aac", "aaa"}); a != b || a != "aaa" {
		t.Errorf("a tie gives %q and %q", a, b)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"abc", "abc", 0}, {"abc", "acb", 1},
		{"dpends", "depend", 2}, {"kitten", "sitting", 3}, {"abcd", "badc", 2}, {"abcdef", "uvwxyz", 4},
	} {
		if got := distance(c.a, c.b, 3); got != c.want {
			t.Errorf("%q, %q: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
