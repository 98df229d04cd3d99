package policy

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

const fullPolicy = `# What zlib-hello needs.
version: 1
mode: enforce
undeclared: deny
packages:
  manager: dpkg
  depend: [zlib1g-dev, "libc6:i386"]
  system: build-essential
  closure: false
files:
  - {set: base}
  - {path: /opt/sdk/**, access: xr}
  - path: ~/.netrc
    access: none
workspace: [., ../other]
network: none
`

func TestParse(t *testing.T) {
	got, err := Parse("depguard.yaml", []byte(fullPolicy))
	if err != nil {
		t.Fatal(err)
	}
	want := &Policy{
		File:       "depguard.yaml",
		Mode:       Enforce,
		Undeclared: Deny,
		Packages: Packages{
			Manager: "dpkg",
			Depend:  []PackageName{{"zlib1g-dev", Position{7, 12}}, {"libc6:i386", Position{7, 24}}},
			System:  []PackageName{{"build-essential", Position{8, 11}}},
		},
		Files: []FileRule{
			{Set: "base", Pos: Position{11, 5}},
			{Path: "/opt/sdk/**", Access: Read | Exec, Pos: Position{12, 12}},
			{Path: "~/.netrc", Pos: Position{13, 11}},
		},
		Workspace: []WorkspaceTree{{".", Position{15, 13}}, {"../other", Position{15, 16}}},
		Network:   NetworkNone,
		source:    []byte(fullPolicy),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !bytes.Equal(got.Source(), []byte(fullPolicy)) {
		t.Errorf("source %q", got.Source())
	}
}

func TestParseDefaults(t *testing.T) {
	got, err := Parse("p", []byte("\ufeffversion: 1\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	got.source = nil
	want := &Policy{
		File: "p", Mode: Audit, Undeclared: Hide, Network: NetworkHost,
		Packages:  Packages{Manager: "auto", Closure: true},
		Workspace: []WorkspaceTree{{Path: "."}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got, err := Parse("p", []byte("version: 1\nworkspace: []\n")); err != nil || len(got.Workspace) != 0 {
		t.Errorf("a workspace that is empty on purpose: got %v, %v", got, err)
	}
}

// Each case is a whole file and all of its errors as "line:column: message |
// hint", where the hint may be cut off.
var parseErrors = []struct {
	name, text string
	want       []string
}{
	{"empty", "", []string{"1:1: the file is empty | a policy begins with \"version: 1\""}},
	{"comments only", "# nothing\n", []string{"1:1: the file is empty | a policy begins"}},
	{"null", "---\n~\n", []string{"1:1: the file is empty | a policy begins"}},
	{"a list", "- 1\n", []string{"1:1: the policy is a mapping, found a list | write keys and values: version: …"}},
	{"a scalar", "hello", []string{"1:1: the policy is a mapping, found \"hello\" | write keys"}},
	{"no version", "mode: audit\n", []string{"1:1: version is missing | begin the file with \"version: 1\""}},
	{"later version", "version: 2\nlater: {}\n", []string{"1:10: this depguard reads policies of version 1, not 2 | use a newer depguard"}},
	{"version as a string", "version: \"1\"\n", []string{"1:10: version is \"1\", not a number that policies have | write \"version: 1\""}},
	{"version as a fraction", "version: 1.0\n", []string{"1:10: version is the number 1.0, not"}},
	{"version zero", "version: 0\n", []string{"1:10: version is the number 0, not"}},
	{"unknown keys", "version: 1\npackages:\n  dpends: [zlib1g-dev]\nnetwrok: none\n", []string{
		"3:3: unknown key \"dpends\" in packages | did you mean \"depend\"?",
		"4:1: unknown key \"netwrok\" in the policy | did you mean \"network\"?",
	}},
	{"unknown key, nothing near", "version: 1\nenvironment: {}\n", []string{
		"2:1: unknown key \"environment\" in the policy | known here: version, mode, undeclared, packages, files, workspace, network"}},
	{"key twice", "version: 1\nmode: audit\nmode: enforce\n", []string{"3:1: mode stands in line 2 already | merge the two"}},
	{"version twice", "version: 1\nversion: 1\n", []string{"2:1: version stands in line 1 already"}},
	{"key of a strange kind", "version: 1\n? [a]\n: b\n", []string{"2:3: a key of the policy is a word, found a list"}},
	{"word", "version: 1\nmode: Enforce\nundeclared: hid\nnetwork: no\n", []string{
		"2:7: mode is audit or enforce, not \"Enforce\" | did you mean \"enforce\"?",
		"3:13: undeclared is hide or deny, not \"hid\" | did you mean \"hide\"?",
		"4:10: network is host or none, not \"no\" | did you mean \"none\"?",
	}},
	{"word of a strange kind", "version: 1\nmode: [audit]\nnetwork: 5\nundeclared:\n", []string{
		"2:7: mode is audit or enforce, found a list",
		"3:10: network is host or none, found the number 5",
		"4:12: undeclared is hide or deny, found nothing",
	}},
	{"manager", "version: 1\npackages: {manager: rpm}\n", []string{"2:21: manager is auto or dpkg, not \"rpm\""}},
	{"closure", "version: 1\npackages: {closure: yes}\n", []string{"2:21: closure is true or false, found \"yes\" | write true"}},
	{"packages of a strange kind", "version: 1\npackages: [zlib1g-dev]\n", []string{"2:11: packages is a mapping, found a list | write keys and values: manager: …"}},
	{"depend without brackets", "version: 1\npackages:\n  depend: zlib1g-dev\n", []string{
		"3:11: depend is a list of package names, found \"zlib1g-dev\" | write it as a list: [zlib1g-dev]"}},
	{"depend of nothing", "version: 1\npackages:\n  depend:\n", []string{"3:10: depend is a list of package names, found nothing | write [] for none"}},
	{"package names", "version: 1\npackages:\n  depend:\n  - libssl-dev (>= 3)\n  - Zlib1g-dev\n  - a | b\n  - gcc:any\n  - 12345\n  - foo [amd64]\n  - \"a\"\n  - {a: b}\n", []string{
		"4:5: version constraints are not part of policy version 1 | name the package alone: \"libssl-dev\"",
		"5:5: \"Zlib1g-dev\" is not a package name | did you mean \"zlib1g-dev\"?",
		"6:5: alternatives are not part of policy version 1 | name the package that this build uses",
		"7:5: \"any\" is not an architecture that packages have | name the package alone: \"gcc\"",
		"8:5: expected a package name, found the number 12345 | if that is the name, put it in quotes: \"12345\"",
		"9:5: architecture and profile restrictions are not part of policy version 1 | name the package alone: \"foo\"",
		"10:5: \"a\" is not a package name | names have lower case letters",
		"11:5: expected a package name, found a mapping",
	}},
	{"paths", "version: 1\nfiles:\n- {path: include/x.h, access: r}\n- {path: /a//b, access: r}\n- {path: /a/../b, access: r}\n- {path: /a/, access: r}\n- {path: ~x/y, access: r}\n- {path: ~, access: r}\n- {path: \"\", access: r}\n- {path: \"/a[\", access: r}\n- {path: /a/b**, access: r}\n- {path: \"/a\\0\", access: r}\n- {path: ~/, access: r}\n", []string{
		"3:10: \"include/x.h\" is not absolute | files of the project belong to the workspace and need no rule; others have a path like /include/x.h or ~/include/x.h",
		"4:10: \"/a//b\" has //, . or .. in it, and so is the name of no file | write /a/b",
		"5:10: \"/a/../b\" has //, . or .. in it, and so is the name of no file | write /b",
		"6:10: \"/a/\" ends in a slash | for the directory alone write /a, for everything in it /a/**",
		"7:10: \"~x/y\": only ~/ is known, not the home of others | write an absolute path",
		"8:10: expected a path, found nothing | ~ alone means nothing in YAML",
		"9:10: the path is empty | write an absolute path",
		"10:10: \"/a[\" is not a valid glob | a [ or { is not closed",
		"11:10: ** stands for whole directories, but is a part of \"b**\" | write * in it, or \"b/**\"",
		"12:10: the path has a NUL character in it",
		"13:10: \"~/\" alone names no files | for the files of the home directory write ~/**",
	}},
	{"too many alternatives", "version: 1\nfiles:\n- {path: \"/" + strings.Repeat("{a,b}", 20) + "\", access: r}\n", []string{
		"3:10: the braces of this glob stand for more than 256 combinations | make several rules of it"}},
	{"access", "version: 1\nfiles:\n- {path: /a, access: rz}\n- {path: /b, access: read}\n- {path: /c, access: rr}\n- {path: /d, access: [r]}\n- {path: /e, access: \"\"}\n- {path: /f, access: read+exec}\n", []string{
		"3:22: \"rz\" is not an access | letters are r (read), w (write), x (execute), l (list); none denies",
		"4:22: \"read\" is not an access | did you mean \"r\"?",
		"5:22: access \"rr\" has the letter r twice",
		"6:22: expected an access, found a list",
		"7:22: the access is empty | letters are",
		"8:22: \"read+exec\" is not an access | did you mean \"rx\"?",
	}},
	{"rules", "version: 1\nfiles:\n- /opt/x\n- {access: r}\n- {path: /a}\n- {path: /a, access: r, set: base}\n- {set: base, access: r}\n- {set: bsae}\n- {glob: /x, access: r}\n- 7\n", []string{
		"3:3: a rule needs a path and an access, found \"/opt/x\" | write {path: /opt/x, access: r}",
		"4:3: this rule has no path | write {path",
		"5:3: this rule has no access | add access: letters",
		"6:30: a rule has either a path or a set | make two rules of it",
		"7:23: every file of the set base has an access of its own | leave access out",
		"8:9: set is base, not \"bsae\" | did you mean \"base\"?",
		"9:4: unknown key \"glob\" in this rule | known here: path, access, set",
		"10:3: this rule is a mapping, found the number 7",
	}},
	{"rule twice", "version: 1\nfiles:\n- {path: /a, access: r}\n- {path: /a, access: w}\n", []string{"4:3: \"/a\" has a rule in line 3 already | keep one"}},
	{"workspace", "version: 1\nworkspace: [/, src/**, \"\", ~, ~/, ~x, a/../.., /usr/..]\n", []string{
		"2:13: the workspace would be the whole filesystem | name the directory of the project",
		"2:16: \"src/**\" is a glob, but a workspace is always a whole tree | write src",
		"2:24: the directory is empty",
		"2:28: expected a directory, found nothing",
		"2:31: \"~/\" can't be a workspace",
		"2:35: \"~x\" can't be a workspace",
		"2:48: the workspace would be the whole filesystem",
	}},
	{"workspace without brackets", "version: 1\nworkspace: src\n", []string{"2:12: workspace is a list of directories, found \"src\" | write it as a list: [src]"}},
	{"two documents", "version: 1\n---\nversion: 1\n", []string{"2:1: a second YAML document begins here | a policy file holds one document"}},
	{"anchor and alias", "version: 1\npackages:\n  depend: &a [zlib1g-dev]\n  system: *a\n", []string{
		"3:11: &a is a YAML anchor, which policies don't have",
		"4:11: *a is a YAML alias, which policies don't have | write the value out",
	}},
	{"merge key", "a: &a {version: 1}\n<<: *a\n", []string{
		"1:1: version is missing",
		"1:1: unknown key \"a\" in the policy",
		"1:4: &a is a YAML anchor, which policies don't have",
		"2:1: unknown key \"<<\" in the policy",
		"2:5: *a is a YAML alias, which policies don't have",
	}},
	{"tag", "version: !!int 1\nmode: !foo audit\n", []string{
		"1:10: !!int is a YAML tag, which policies don't have",
		"2:7: !foo is a YAML tag, which policies don't have",
		"2:7: mode is audit or enforce, found \"audit\"",
	}},
	{"glob without quotes", "version: 1\nfiles:\n- {path: **/x, access: r}\n", []string{
		"3:10: not valid YAML: unknown anchor '*/x' referenced | a value that begins with * has to stand in quotes"}},
	{"unknown alias", "version: 1\nworkspace:\n- *src\n", []string{"3:3: not valid YAML: unknown anchor 'src' referenced | a value that begins with * has to stand in quotes"}},
	{"open bracket", "version: 1\nworkspace: [a,\n", []string{"2:15: not valid YAML: did not find expected node content while parsing a flow node | is a closing ] or } missing?"}},
	{"open quote", "version: 1\nmode: \"audit\n", []string{"2:7: not valid YAML: found unexpected end of stream while scanning a quoted scalar | is the closing quote missing?"}},
	{"tab", "version: 1\npackages:\n\tdepend: []\n", []string{"3:1: not valid YAML: found character that cannot start any token while scanning for the next token | indent with blanks"}},
	{"deep", "version: " + strings.Repeat("[", 20), []string{"1:26: not valid YAML: exceeded max depth of 16 while increasing flow level | a policy is a mapping"}},
	{"not UTF-8", "version: 1\n# caf\xe9\n", []string{"2:6: byte 0xe9 is not UTF-8 | a policy is UTF-8 text"}},
	{"UTF-16", "\xff\xfev\x00", []string{"1:1: byte 0xff is not UTF-8"}},
	{"binary", "\x7fELF\x02\x01\x01\x00", []string{"1:1: character U+007F is not allowed in YAML"}},
	{"NUL", "version: 1\n\x00", []string{"2:1: the file contains a NUL byte: it is binary | a policy is UTF-8 text; is this"}},
	{"carriage return", "version: 1\rmode: audit\n", []string{"1:11: line end U+000D | end lines with a line feed"}},
	{"other line end", "version: 1 # a\u2028b\n", []string{"1:15: line end U+2028"}},
	{"hidden mark", "version: 1\n# \ufeff\n", []string{"2:3: character U+FEFF is not allowed in YAML | remove it; in a name write \"\\ufeff\" in double quotes"}},
	{"columns count characters", "version: 1\npäckäges: {dépend: []}\nmode: 'ü'\n", []string{
		"2:1: unknown key \"päckäges\" in the policy",
		"3:7: mode is audit or enforce, not \"ü\"",
	}},
}

func TestParseErrors(t *testing.T) {
	for _, c := range parseErrors {
		t.Run(c.name, func(t *testing.T) {
			p, err := Parse("p.yaml", []byte(c.text))
			var errs Errors
			if !errors.As(err, &errs) || p != nil {
				t.Fatalf("got %v, %v", p, err)
			}
			for i, e := range errs {
				got := fmt.Sprintf("%d:%d: %s", e.Pos.Line, e.Pos.Column, e.Message)
				if i >= len(c.want) {
					t.Errorf("also got %s | %s", got, e.Hint)
					continue
				}
				want, hint, _ := strings.Cut(c.want[i], " | ")
				if !strings.HasPrefix(got, want) || !strings.HasPrefix(e.Hint, hint) {
					t.Errorf("got  %s | %s\nwant %s", got, e.Hint, c.want[i])
				}
				checkError(t, e, []byte(c.text))
			}
			for _, want := range c.want[min(len(errs), len(c.want)):] {
				t.Errorf("missing %s", want)
			}
		})
	}
}

// checkError holds an error to what every one promises: a place in the text,
// its line, and a rendering that a terminal can show.
func checkError(t *testing.T, e *Error, text []byte) {
	t.Helper()
	text = bytes.TrimPrefix(text, []byte(byteOrderMark))
	lines := strings.Split(string(text), "\n")
	if e.Pos.Line < 1 || e.Pos.Column < 1 || e.Pos.Line > len(lines) {
		t.Fatalf("no place in a text of %d lines: %v", len(lines), e)
	}
	line := strings.TrimSuffix(lines[e.Pos.Line-1], "\r")
	if e.Line != line && e.Line != "" {
		t.Errorf("line %d is %q, the error has %q", e.Pos.Line, line, e.Line)
	}
	if n := len([]rune(line)); e.Pos.Column > n+1 {
		t.Errorf("column %d of a line with %d", e.Pos.Column, n)
	}
	rendered := e.Error()
	if len(rendered) > 8192 {
		t.Errorf("%d bytes for one error", len(rendered))
	}
	for _, r := range rendered {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			t.Errorf("%U in %q", r, rendered)
		}
	}
}

// Files that are large, deep or dense are refused; they must not take time or
// memory beyond their size. A hang shows as a test that does not end.
func TestParseLarge(t *testing.T) {
	mega := func(s string) string { return strings.Repeat(s, maxSize/len(s)) }
	for name, text := range map[string]string{
		"10 MB of brackets":  strings.Repeat("[", 10<<20),
		"1 MiB of brackets":  mega("["),
		"braces":             mega("{"),
		"dashes":             mega("- "),
		"question marks":     mega("? "),
		"lines of dashes":    mega("-\n"),
		"unknown keys":       mega("a: 1\n"),
		"anchors":            mega("a: &a {k: v}\n"),
		"one long key":       "version: 1\n" + mega("a")[:maxSize-20] + ": 1\n",
		"one long name":      "version: 1\npackages: {depend: [" + mega("A")[:maxSize-40] + "]}",
		"one long line":      "version: 1\nfiles: [" + mega("{a: 1}, ")[:maxSize-40] + "]",
		"one long path":      "version: 1\nfiles: [{path: /" + mega("{a,")[:maxSize-50] + ", access: r}]",
		"quotes":             mega("'' : \n"),
		"spaces":             "version:" + strings.Repeat(" ", maxSize-20) + "[",
		"indentation":        "a:\n" + strings.Repeat(" ", maxSize-20) + "b: c",
		"comments":           mega("# \n"),
		"directives":         mega("%TAG ! !\n"),
		"documents":          mega("---\n"),
		"escapes":            `a: "` + mega(`\x00`)[:maxSize-8] + `"`,
		"block scalar":       "version: |\n" + mega(" a\n")[:maxSize-20],
		"aliases multiplied": "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f]\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("p.yaml", []byte(text))
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("got %v", err)
			}
			if len(errs) > maxErrors+1 {
				t.Errorf("%d errors", len(errs))
			}
			if n := len(err.Error()); n > 200<<10 {
				t.Errorf("a message of %d bytes", n)
			}
		})
	}
}

// A policy may be as large as the limit says.
func TestParseAtLimit(t *testing.T) {
	var b strings.Builder
	b.WriteString("version: 1\nfiles:\n")
	for i := 0; b.Len() < maxSize-100; i++ {
		fmt.Fprintf(&b, "- {path: /opt/file%d, access: r}\n", i)
	}
	p, err := Parse("p.yaml", []byte(b.String()))
	if err != nil || len(p.Files) < 20000 {
		t.Fatalf("got %v", err)
	}
}

func TestParseManyErrors(t *testing.T) {
	_, err := Parse("p.yaml", []byte("version: 1\n"+strings.Repeat("oops: 1\n", 70)))
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxErrors+1 || errs[maxErrors].Message != "and 20 more errors" {
		t.Fatalf("got %v", err)
	}
	var first *Error
	if !errors.As(err, &first) || first.Pos != (Position{2, 1}) {
		t.Fatalf("first error: %v", first)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fullPolicy))
	for _, c := range parseErrors {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("p.yaml", data)
		if err != nil {
			var errs Errors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatalf("an error that is no Errors: %v", err)
			}
			for _, e := range errs {
				checkError(t, e, data)
			}
			return
		}
		formatted := p.Format()
		again, err := Parse("p.yaml", formatted)
		if err != nil {
			t.Fatalf("formatted:\n%s\n%v", formatted, err)
		}
		if !bytes.Equal(again.Format(), formatted) || !reflect.DeepEqual(withoutPositions(p), withoutPositions(again)) {
			t.Fatalf("format changes the policy:\n%s\n%s", data, formatted)
		}
		for _, r := range p.Files {
			r.Matches("/opt/sdk/include/a.h", "/home/u")
			if name, ok := r.Literal(); ok && r.Path[0] == '/' && !r.Matches(name, "") {
				t.Errorf("%q does not match its own literal %q", r.Path, name)
			}
		}
	})
}

func withoutPositions(p *Policy) *Policy {
	q := *p
	q.source = nil
	strip := func(list []PackageName) (out []string) {
		for _, n := range list {
			out = append(out, n.Name)
		}
		return out
	}
	q.Packages.Depend, q.Packages.System = nil, nil
	for _, n := range strip(p.Packages.Depend) {
		q.Packages.Depend = append(q.Packages.Depend, PackageName{Name: n})
	}
	for _, n := range strip(p.Packages.System) {
		q.Packages.System = append(q.Packages.System, PackageName{Name: n})
	}
	q.Files, q.Workspace = nil, nil
	for _, r := range p.Files {
		r.Pos = Position{}
		q.Files = append(q.Files, r)
	}
	for _, w := range p.Workspace {
		w.Pos = Position{}
		q.Workspace = append(q.Workspace, w)
	}
	return &q
}

func BenchmarkParse(b *testing.B) {
	data := []byte(fullPolicy)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("p.yaml", data); err != nil {
			b.Fatal(err)
		}
	}
}
