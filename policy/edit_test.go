package policy

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestAddDepend(t *testing.T) {
	for _, c := range []struct {
		name, before string
		add          string
		after        string
	}{
		{"no packages", "version: 1\n# end\n", "zlib1g-dev",
			"version: 1\n# end\n\npackages:\n  depend: [zlib1g-dev]\n"},
		{"no packages, no newline", "version: 1", "make zlib1g-dev",
			"version: 1\n\npackages:\n  depend: [make, zlib1g-dev]\n"},
		{"no packages, document in braces", "{version: 1}\n", "make",
			"{packages: {depend: [make]}, version: 1}\n"},
		{"no packages, document with an end", "version: 1\n...\n", "make",
			"packages: {depend: [make]}\nversion: 1\n...\n"},
		{"no packages, document indented", "  version: 1\n", "make",
			"  version: 1\n\n  packages:\n    depend: [make]\n"},
		{"no depend", "version: 1\npackages: # ours\n    # the compiler\n    system: gcc\nmode: audit\n", "make",
			"version: 1\npackages: # ours\n    depend: [make]\n    # the compiler\n    system: gcc\nmode: audit\n"},
		{"no depend, braces", "version: 1\npackages: {system: gcc} # ours\n", "make",
			"version: 1\npackages: {depend: [make], system: gcc} # ours\n"},
		{"empty packages", "version: 1\npackages: {}\n", "make",
			"version: 1\npackages: {depend: [make]}\n"},
		{"empty list", "version: 1\npackages:\n  depend: [] # nothing\n", "make",
			"version: 1\npackages:\n  depend: [make] # nothing\n"},
		{"list in order", "version: 1\npackages:\n  depend: [bison, zlib1g-dev] # both\n", "flex",
			"version: 1\npackages:\n  depend: [bison, flex, zlib1g-dev] # both\n"},
		{"list out of order", "version: 1\npackages:\n  depend: [zlib1g-dev, \"bison\"]\n", "flex",
			"version: 1\npackages:\n  depend: [zlib1g-dev, \"bison\", flex]\n"},
		{"before all", "version: 1\npackages:\n  depend: [bison, flex]\n", "autoconf",
			"version: 1\npackages:\n  depend: [autoconf, bison, flex]\n"},
		{"list over lines", "version: 1\npackages:\n  depend: [\n    bison, # parser\n    'make' # driver\n  ]\n", "flex zlib1g-dev",
			"version: 1\npackages:\n  depend: [\n    bison, # parser\n    flex,\n    'make', # driver\n    zlib1g-dev\n  ]\n"},
		{"list over lines with a last comma", "version: 1\npackages:\n  depend: [\n    bison,\n    make, # driver\n  ]\n", "zlib1g-dev",
			"version: 1\npackages:\n  depend: [\n    bison,\n    make, # driver\n    zlib1g-dev,\n  ]\n"},
		{"block", "version: 1\npackages:\n  depend:\n    # parser\n    - bison # 3.8\n    # compression\n    - zlib1g-dev\n  closure: true\n", "make autoconf",
			"version: 1\npackages:\n  depend:\n    # parser\n    - bison # 3.8\n    - autoconf\n    - make\n    # compression\n    - zlib1g-dev\n  closure: true\n"},
		{"block at the margin", "packages:\n  depend:\n  - bison\nversion: 1\n", "make autoconf",
			"packages:\n  depend:\n  - autoconf\n  - bison\n  - make\nversion: 1\n"},
		{"block at the end", "version: 1\npackages:\n  depend:\n  - bison", "make",
			"version: 1\npackages:\n  depend:\n  - bison\n  - make"},
		{"line ends of DOS", "version: 1\r\npackages:\r\n  depend:\r\n  - bison # x\r\n", "make",
			"version: 1\r\npackages:\r\n  depend:\r\n  - bison # x\r\n  - make\r\n"},
		{"byte order mark", "\ufeff{version: 1}", "make",
			"\ufeff{packages: {depend: [make]}, version: 1}"},
		{"characters of several bytes", "version: 1\n# ü\npackages: { manager: dpkg, 'depend': [bison]} # ü\n", "make",
			"version: 1\n# ü\npackages: { manager: dpkg, 'depend': [bison, make]} # ü\n"},
		{"name over two lines", "version: 1\npackages:\n  depend:\n  - \"bi\\\n    son\"\n", "make",
			"version: 1\npackages:\n  depend:\n  - make\n  - \"bi\\\n    son\"\n"},
		{"there already", "version: 1\npackages: {depend: [bison], system: make}\n", "bison make",
			"version: 1\npackages: {depend: [bison], system: make}\n"},
		{"twice", "version: 1\npackages: {depend: [bison]}\n", "make make",
			"version: 1\npackages: {depend: [bison, make]}\n"},
		{"quoted, because it is a word of YAML", "version: 1\npackages: {depend: [bison]}\n", "on libc6:i386",
			"version: 1\npackages: {depend: [bison, \"libc6:i386\", \"on\"]}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := AddDepend("p.yaml", []byte(c.before), strings.Fields(c.add))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.after {
				t.Errorf("got\n%s\nwant\n%s", got, c.after)
			}
			checkAdded(t, []byte(c.before), got, strings.Fields(c.add))
		})
	}
}

// checkAdded holds an edit to what it promises: the same policy with the
// names, and nothing of the text lost.
func checkAdded(t *testing.T, before, after []byte, names []string) {
	t.Helper()
	p, err := Parse("before", before)
	if err != nil {
		t.Fatal(err)
	}
	q, err := Parse("after", after)
	if err != nil {
		t.Fatalf("%v\n%s", err, after)
	}
	for _, n := range names {
		if !q.Packages.Declares(n) {
			t.Errorf("%s is missing", n)
		}
	}
	q.Packages.Depend = nil
	p.Packages.Depend = nil
	if !bytes.Equal(p.Format(), q.Format()) {
		t.Errorf("something else changed:\n%s\n%s", before, after)
	}
	rest := after
	for i := range before { // before is a subsequence of after
		at := bytes.IndexByte(rest, before[i])
		if at < 0 {
			t.Fatalf("text got lost:\n%s\n%s", before, after)
		}
		rest = rest[at+1:]
	}
}

func TestAddDependErrors(t *testing.T) {
	if _, err := AddDepend("p.yaml", []byte("version: 2\n"), []string{"make"}); !errors.As(err, new(Errors)) {
		t.Errorf("a bad policy: got %v", err)
	}
	_, err := AddDepend("p.yaml", []byte("version: 1\n"), []string{"make", "x]\nmode: audit"})
	var one *Error
	if !errors.As(err, &one) || !strings.Contains(one.Message, "is not a package name") {
		t.Errorf("a bad name: got %v", err)
	}
}

func FuzzAddDepend(f *testing.F) {
	f.Add([]byte(fullPolicy), "make flex")
	f.Add([]byte("version: 1\npackages:\n  depend:\n  - \"bi\\\n    son\"\n"), "zlib1g-dev")
	f.Add([]byte("? version\n: 1\n? packages\n: ? depend\n  : - bison\n    - make\n"), "flex")
	f.Add([]byte("{version: 1, packages: {depend: [bison, ], }, }"), "make")
	f.Add([]byte("\ufeffversion: 1\r\nnetwork: >-\r\n  none"), "make")
	f.Fuzz(func(t *testing.T, data []byte, add string) {
		names := strings.Fields(add)
		if len(names) > 5 {
			return
		}
		after, err := AddDepend("p.yaml", data, names)
		if err != nil {
			if strings.Contains(err.Error(), "BUG") {
				t.Fatal(err)
			}
			return
		}
		checkAdded(t, data, after, names)
	})
}
