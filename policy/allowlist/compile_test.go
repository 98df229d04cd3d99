package allowlist

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/owner"
)

const (
	read  = policy.Read
	write = policy.Write
	exec  = policy.Exec
	list  = policy.List
	none  = policy.Access(0)
)

// machine is a directory that stands for a whole machine.
type machine struct {
	testing.TB
	root string
}

func newMachine(t testing.TB, files ...string) machine {
	m := machine{t, t.TempDir()}
	for _, f := range files {
		m.make(f)
	}
	return m
}

// make makes one file: "/a/b" a regular file, "/a/b/" a directory,
// "/a/b -> target" a symbolic link, "/a/b = /c/d" a hard link.
func (m machine) make(spec string) {
	m.Helper()
	err := error(nil)
	do := func(e error) { err = errors.Join(err, e) }
	if link, target, ok := strings.Cut(spec, " -> "); ok {
		do(os.MkdirAll(filepath.Dir(m.root+link), 0o755))
		do(os.Symlink(target, m.root+link))
	} else if link, target, ok := strings.Cut(spec, " = "); ok {
		do(os.MkdirAll(filepath.Dir(m.root+link), 0o755))
		do(os.Link(m.root+target, m.root+link))
	} else if strings.HasSuffix(spec, "/") {
		do(os.MkdirAll(m.root+spec, 0o755))
	} else {
		do(os.MkdirAll(filepath.Dir(m.root+spec), 0o755))
		do(os.WriteFile(m.root+spec, []byte(spec), 0o755))
	}
	if err != nil {
		m.Fatal(err)
	}
}

// compile compiles a policy for the machine.
func (m machine) compile(p *policy.Policy, db owner.DB) *List {
	m.Helper()
	l, err := Compile(m.options(p, db))
	if err != nil {
		m.Fatal(err)
	}
	return l
}

func (m machine) options(p *policy.Policy, db owner.DB) Options {
	return Options{Root: m.root, Policy: p, DB: db, Home: "/home/u", Dir: "/src"}
}

// id identifies a file, a symbolic link as such.
func (m machine) id(name string) FileID {
	m.Helper()
	var st unix.Statx_t
	if err := statx(unix.AT_FDCWD, m.root+name, &st); err != nil {
		m.Fatalf("stat %s: %v", name, err)
	}
	return IdentityOf(&st)
}

// decide asks for a verdict as the supervisor does. name is canonical.
func (m machine) decide(l *List, name string, want policy.Access) Verdict {
	m.Helper()
	if v, ok := l.ByID(m.id(name), want); ok {
		return v
	}
	return l.ByPath([]byte(name), want)
}

// check compares verdicts with lines of the form "rx /usr/bin/cc package
// gcc": what the list allows on the file, exactly, and the rule's text, or
// "none /usr/bin/cc" with the text of the rule that denies it, if one does.
func (m machine) check(l *List, lines ...string) {
	m.Helper()
	for _, line := range lines {
		f := strings.SplitN(line, " ", 3)
		letters, name, rule := f[0], f[1], ""
		if len(f) == 3 {
			rule = f[2]
		}
		got, text := none, ""
		for _, a := range []policy.Access{read, write, exec, list} {
			v := m.decide(l, name, a)
			if v.Action == Allow {
				got |= a
			}
			if v.Rule != nil && text == "" {
				text = v.Rule.Text
			}
		}
		if got.Letters() != letters || text != rule {
			m.Errorf("%s: %s by %q, want %s by %q", name, got.Letters(), text, letters, rule)
		}
	}
}

// packageDB is a package database made of maps.
type packageDB struct {
	files     map[string][]string
	depends   map[string][]string
	essential []string
}

func (db packageDB) Manager() string     { return "test" }
func (db packageDB) Names() []string     { return slices.Sorted(maps.Keys(db.files)) }
func (db packageDB) Essential() []string { return db.essential }

func (db packageDB) Lookup(name string) (owner.Package, bool) {
	_, ok := db.files[name]
	return owner.Package{Name: name}, ok
}

func (db packageDB) Closure(names []string) []string {
	all := slices.Clone(names)
	for _, n := range names {
		all = append(all, db.depends[n]...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (db packageDB) Files(id string) ([]string, error) {
	if files, ok := db.files[id]; ok {
		return files, nil
	}
	return nil, fmt.Errorf("package %s is not installed", id)
}

func (db packageDB) Owners([]string) (map[string][]string, error) { return nil, errors.ErrUnsupported }

func names(list ...string) []policy.PackageName {
	var pkgs []policy.PackageName
	for i, n := range list {
		pkgs = append(pkgs, policy.PackageName{Name: n, Pos: policy.Position{Line: 10 + i, Column: 3}})
	}
	return pkgs
}

// rules makes file rules from "rx /path"; line numbers count from 1.
func rules(lines ...string) []policy.FileRule {
	letters := map[rune]policy.Access{'r': read, 'w': write, 'x': exec, 'l': list}
	var out []policy.FileRule
	for i, line := range lines {
		word, path, _ := strings.Cut(line, " ")
		r := policy.FileRule{Path: path, Pos: policy.Position{Line: i + 1, Column: 5}}
		if word != "none" {
			for _, c := range word {
				r.Access |= letters[c]
			}
		}
		out = append(out, r)
	}
	return out
}

func TestPackages(t *testing.T) {
	m := newMachine(t,
		"/usr/bin/cc", "/usr/bin/gcc-12", "/usr/bin/undeclared", "/usr/include/zlib.h",
		"/usr/lib/libz.so.1", "/usr/lib/libz.so -> libz.so.1", "/lib -> /usr/lib",
		"/usr/share/doc/", "/usr/bin/alias = /usr/bin/gcc-12", "/usr/bin/bash", "/opt/moved/", "/etc -> /opt/moved", "/opt/moved/conf",
	)
	db := packageDB{
		files: map[string][]string{
			"zlib1g-dev": {"/", "/usr", "/usr/include", "/usr/include/zlib.h", "/usr/lib/libz.so", "/usr/share/absent", "/absent/dir/file"},
			"zlib1g":     {"/", "/usr", "/lib", "/lib/libz.so.1"},
			"gcc":        {"/usr", "/usr/bin/cc", "/usr/bin/gcc-12"},
			"bash":       {"/usr/bin/bash", "/etc/conf", "/usr/bin/cc/not-a-directory", "/nul\x00byte", "/" + strings.Repeat("n", 300)},
			"other":      {"/usr/bin/undeclared"},
		},
		depends:   map[string][]string{"zlib1g-dev": {"zlib1g"}, "gcc": {"zlib1g"}},
		essential: []string{"bash"},
	}
	p := &policy.Policy{Packages: policy.Packages{Depend: names("zlib1g-dev"), System: names("gcc"), Closure: true}}
	l := m.compile(p, db)
	m.check(l,
		"rx /usr/include/zlib.h package zlib1g-dev",
		"rx /usr/lib/libz.so.1 package zlib1g (needed by zlib1g-dev)",
		"r /usr/lib/libz.so package zlib1g-dev",
		"rx /usr/bin/cc package gcc",
		"rx /usr/bin/alias package gcc", // another name of gcc-12
		"rx /usr/bin/bash package bash (essential)",
		"rx /opt/moved/conf package bash (essential)",
		"l /usr package zlib1g-dev",
		"l / package zlib1g-dev",
		"l /usr/bin package gcc", // unlisted, but above something granted
		"none /usr/bin/undeclared",
		"none /usr/share/doc",
	)
	v := m.decide(l, "/usr/lib/libz.so.1", read)
	if v.Rule.Package != "zlib1g" || v.Rule.Pos.Line != 10 {
		t.Errorf("an inherited package's rule is %+v, want package zlib1g and the line of zlib1g-dev", v.Rule)
	}
	if s := l.Stats(); s.Packages != 4 || s.Files != l.count() || s.Trees != 0 {
		t.Errorf("stats %+v, %d files by count", s, l.count())
	}

	p.Packages.Closure = false
	p.Packages.System = nil
	l = m.compile(p, db)
	m.check(l, "rx /usr/include/zlib.h package zlib1g-dev", "none /usr/lib/libz.so.1", "none /usr/bin/bash")
}

func (l *List) count() int {
	n := 0
	for _, tree := range l.devices {
		n += tree.Len()
	}
	return n
}

func TestFileRules(t *testing.T) {
	m := newMachine(t,
		"/opt/sdk/bin/cc", "/opt/sdk/include/a.h", "/opt/sdk/include/b.h", "/opt/sdk/include/sub/c.h", "/opt/sdk2/x",
		"/home/u/.conf", "/src/data", "/link -> /opt/sdk/bin/cc", "/way -> opt", "/opt/dangling -> nowhere",
		"/bytes/\xff\xfe.h", "/bytes/ok.h", "/loop/self -> ../loop", "/loop/deep/er/z.h",
		"/odd/[x]*.h", "/odd/a.h", "/home/u/{c}/d",
		"/alt/one/include/1.h", "/alt/two/include/2.h", "/alt/three",
	)
	for _, tt := range []struct {
		rule  string
		check []string
	}{
		{"rx /opt/sdk/bin/cc", []string{"rx /opt/sdk/bin/cc R", "l /opt/sdk/bin R", "l / R", "none /opt/sdk/include"}},
		{"r /link", []string{"r /opt/sdk/bin/cc R", "none /link"}}, // absolute, and beneath the root
		{"r /way/sdk/include/a.h", []string{"r /opt/sdk/include/a.h R"}},
		{"rw ~/.conf", []string{"rw /home/u/.conf R"}},
		{"r data", []string{"r /src/data R"}},
		{"l /opt", []string{"l /opt R", "none /opt/sdk/bin/cc"}},
		{"r /opt/sdk/include/*.h", []string{"r /opt/sdk/include/a.h R", "r /opt/sdk/include/b.h R", "none /opt/sdk/include/sub/c.h"}},
		{"r /opt/sdk/include/*", []string{"r /opt/sdk/include/a.h R", "l /opt/sdk/include/sub R", "none /opt/sdk/include/sub/c.h"}},
		{"x /opt/*", []string{"none /opt/sdk"}},
		{"r /opt/**/*.h", []string{"r /opt/sdk/include/a.h R", "r /opt/sdk/include/sub/c.h R", "none /opt/sdk/bin/cc"}},
		{"r /bytes/*.h", []string{"r /bytes/\xff\xfe.h R", "r /bytes/ok.h R"}},
		{"r /bytes/\xff\xfe.h", []string{"r /bytes/\xff\xfe.h R", "none /bytes/ok.h"}},
		{"r /loop/**/z.h", []string{"r /loop/deep/er/z.h R"}},
		{`r /odd/\[x\]\*.h`, []string{"r /odd/[x]*.h R", "none /odd/a.h"}},
		{`r /odd/[\[a]*.h`, []string{"r /odd/[x]*.h R", "r /odd/a.h R"}},
		{`r ~/\{c\}/**`, []string{"r /home/u/{c}/d R"}},
		{"rx /opt/sdk/**", []string{"rxl /opt/sdk/bin/cc R", "rxl /opt/sdk/include/sub R", "rxl /opt/sdk R", "none /opt/sdk2/x", "l /opt R"}},
		{"x /opt/sdk/**", []string{"x /opt/sdk/bin/cc R", "x /opt/sdk/include R"}},
		{"r /way/**", []string{"r /opt/sdk2/x R"}},
		{"r /**", []string{"rl / R", "rl /opt/sdk2/x R"}},
		{"r /alt/*/include/**", []string{"rl /alt/one/include/1.h R", "rl /alt/two/include/2.h R", "none /alt/three"}},
		{"r /alt/{one,three}/include/**", []string{"rl /alt/one/include/1.h R", "none /alt/two/include/2.h"}},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			m := machine{t, m.root}
			p := &policy.Policy{Files: rules(tt.rule)}
			text := filesRule(p.Files[0]).Text
			l := m.compile(p, nil)
			for _, line := range tt.check {
				if head, ok := strings.CutSuffix(line, " R"); ok {
					line = head + " " + text
				}
				letters, rest, _ := strings.Cut(line, " ")
				if name, _, _ := strings.Cut(rest, " "); len(l.trees) > 0 && letters == "r" && m.id(name) != m.id("/") {
					letters = "rl" // a tree's files are asked by name, and names have no type
				}
				m.check(l, letters+" "+rest)
			}
		})
	}
}

// A home directory is a name, whatever characters it has.
func TestHomeIsNoGlob(t *testing.T) {
	m := newMachine(t, "/home/[u]/a.h", "/home/u/a.h")
	o := m.options(&policy.Policy{Files: rules("r ~/*.h")}, nil)
	o.Home = "/home/[u]"
	l, err := Compile(o)
	if err != nil {
		t.Fatal(err)
	}
	m.check(l, "r /home/[u]/a.h files ~/*.h (line 1)", "none /home/u/a.h")
}

func TestNone(t *testing.T) {
	files := []string{
		"/src/main.c", "/src/secret/key", "/src/.env", "/src/env-link -> .env", "/src/hard = /src/.env",
		"/usr/bin/cc", "/usr/bin/cpp", "/usr/share/doc/a", "/usr/share/b", "/opt/in/x",
	}
	db := packageDB{files: map[string][]string{"gcc": {"/usr/bin/cc", "/usr/bin/cpp", "/usr/share/doc", "/usr/share/doc/a", "/usr/share/b"}}}
	for _, undeclared := range []policy.Undeclared{policy.Hide, policy.Deny} {
		m := newMachine(t, files...)
		p := &policy.Policy{
			Undeclared: undeclared,
			Packages:   policy.Packages{Depend: names("gcc")},
			Workspace:  []policy.WorkspaceTree{{Path: "."}},
			Files: rules("none /src/secret", "none /src/env-link", "none /usr/bin/cpp", "rwx /usr/bin/cpp", "none /usr/share/doc/**",
				"none /src/later/*", "none /src/later/file", "none /opt/**", "r /opt/in/**", "r /opt/in/x"),
		}
		l := m.compile(p, db)
		m.make("/src/later/file")
		m.make("/src/later/other")
		m.make("/src/secret/new")
		m.check(l,
			"rwxl /src/main.c workspace .",
			"none /src/secret/key files /src/secret (line 1)",
			"none /src/secret/new files /src/secret (line 1)",
			"none /src/.env files /src/env-link (line 2)",
			"none /src/hard files /src/env-link (line 2)", // by identity
			"rx /usr/bin/cc package gcc",
			"none /usr/bin/cpp files /usr/bin/cpp (line 3)",
			"none /usr/share/doc/a files /usr/share/doc/** (line 5)",
			"none /usr/share/doc files /usr/share/doc/** (line 5)",
			"rx /usr/share/b package gcc",
			"none /src/later/file files /src/later/file (line 7)",
			"rwxl /src/later/other workspace .", // a glob is about what is there
			"none /opt/in/x files /opt/** (line 8)",
		)
		want := Hide
		if undeclared == policy.Deny {
			want = Deny
		}
		for _, name := range []string{"/src/secret/key", "/usr/bin/cpp", "/opt/in/x"} {
			if v := m.decide(l, name, read); v.Action != want {
				t.Errorf("%s, undeclared: %s: verdict %v", name, undeclared, v.Action)
			}
		}
		if v := l.ByPath([]byte("/nowhere"), read); v != (Verdict{Action: want}) {
			t.Errorf("an undeclared name's verdict is %+v", v)
		}
	}
}

func TestPlan(t *testing.T) {
	m := newMachine(t, "/src/secret/deep/key", "/src/.env", "/var/cache/c", "/opt/w/", "/opt/r/", "/home -> /data", "/data/u/out/", "/etc/passwd", "/usr/none")
	p := &policy.Policy{
		Packages:  policy.Packages{Depend: names("not-looked-at")},
		Workspace: []policy.WorkspaceTree{{Path: "."}, {Path: "~/out"}},
		Files: append(rules("rw /var/cache/*", "rwl /opt/w/**", "rx /opt/r/**", "rw /src/.env", "none /src/secret/**", "none /src/secret/deep/key", "none /src/.env", "none /usr/none"),
			policy.FileRule{Set: "base"}),
	}
	o := m.options(p, nil)
	o.Visit = func(Grant) error { return errors.New("there is no guard yet") }
	masks, err := Masks(o)
	if want := []Mask{{"/src/.env", false}, {"/src/secret", true}}; err != nil || !slices.Equal(masks, want) {
		t.Errorf("Masks = %v, %v; want %v", masks, err, want)
	}
	writable, err := Writable(o)
	if want := []string{"/data/u/out", "/opt/w", "/src", "/var/cache/c"}; err != nil || !slices.Equal(writable, want) {
		t.Errorf("Writable = %q, %v; want %q", writable, err, want)
	}
}

// A mask covers one name; where a file has more, access none would not hold.
func TestMasksOfHardLinks(t *testing.T) {
	m := newMachine(t, "/src/secret")
	if err := os.Link(filepath.Join(m.root, "src/secret"), filepath.Join(m.root, "src/alias")); err != nil {
		t.Fatal(err)
	}
	p := &policy.Policy{Workspace: []policy.WorkspaceTree{{Path: "."}}, Files: rules("none /src/secret")}
	masks, err := Masks(m.options(p, nil))
	if err == nil || !strings.Contains(err.Error(), "2 names") {
		t.Errorf("Masks = %v, %v; want an error that tells of two names", masks, err)
	}
}

func TestBase(t *testing.T) {
	m := newMachine(t, "/etc/passwd", "/proc/1/status")
	p := &policy.Policy{Files: []policy.FileRule{{Set: "base", Access: read, Pos: policy.Position{Line: 4}}}}
	l := m.compile(p, nil)
	v := m.decide(l, "/etc/passwd", read)
	if v.Action != Allow || v.Rule.Text != "base /etc/passwd" || v.Rule.Pos.Line != 4 {
		t.Errorf("/etc/passwd: %+v", v)
	}
	if v := m.decide(l, "/etc/passwd", write); v.Action != Hide {
		t.Errorf("writing /etc/passwd: %+v", v)
	}
	if v := m.decide(m.compile(&policy.Policy{}, nil), "/etc/passwd", read); v.Action != Hide {
		t.Errorf("without the set: %+v", v)
	}
}

func TestPolicyErrors(t *testing.T) {
	m := newMachine(t, "/opt/file", "/opt/dir/x", "/outside -> ../../../../../../../../usr/bin/env", "/ring -> ring")
	db := packageDB{files: map[string][]string{"zlib1g-dev": nil}}
	for _, tt := range []struct {
		policy policy.Policy
		want   []string // of the error's text
	}{
		{policy.Policy{Packages: policy.Packages{Depend: names("zlib1g-dve")}}, []string{"p.yaml:10:3", "zlib1g-dve is not installed", "zlib1g-dev"}},
		{policy.Policy{Files: rules("r /opt/none")}, []string{"p.yaml:1:5", "/opt/none does not exist"}},
		{policy.Policy{Files: rules("r /opt/file/x")}, []string{"does not exist"}},
		{policy.Policy{Files: rules("r /outside")}, []string{"/outside does not exist"}}, // beneath the root it leads nowhere
		{policy.Policy{Files: rules("r /ring")}, []string{"/ring can't be reached: too many levels"}},
		{policy.Policy{Files: rules("r /opt/*.none")}, []string{"matches no file"}},
		{policy.Policy{Files: rules("r /opt/[")}, []string{"p.yaml:1:5", "syntax error in pattern"}},
		{policy.Policy{Files: rules("none /opt/[")}, []string{"syntax error in pattern"}},
		{policy.Policy{Files: rules("r /opt/dir")}, []string{"/opt/dir is a directory", "/opt/dir/**"}},
		{policy.Policy{Files: rules("r /opt/file/**")}, []string{"/opt/file is not a directory"}},
		{policy.Policy{Files: []policy.FileRule{{Set: "bsae"}}}, []string{"no set of files called \"bsae\""}},
		{policy.Policy{Workspace: []policy.WorkspaceTree{{Path: "/", Pos: policy.Position{Line: 3, Column: 1}}}}, []string{"p.yaml:3:1", "root directory"}},
		{policy.Policy{Workspace: []policy.WorkspaceTree{{Path: "missing"}}}, []string{"workspace missing"}},
		{policy.Policy{Workspace: []policy.WorkspaceTree{{Path: "/opt/file"}}}, []string{"workspace /opt/file", "not a directory"}},
		{policy.Policy{Workspace: []policy.WorkspaceTree{{Path: "/opt/dir"}}, Files: rules("none /opt/**")}, []string{"access none"}},
	} {
		tt.policy.File = "p.yaml"
		_, err := Compile(m.options(&tt.policy, db))
		var errs policy.Errors
		if !errors.As(err, &errs) || len(errs) != 1 {
			t.Errorf("%+v: error %v, want one policy error", tt.policy, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not contain %q", err, want)
			}
		}
	}

	// All errors come at once, in the order of the file.
	p := &policy.Policy{File: "p.yaml", Packages: policy.Packages{System: names("a", "b")}, Files: rules("none /fine", "r /missing")}
	_, err := Compile(m.options(p, db))
	var errs policy.Errors
	if !errors.As(err, &errs) || len(errs) != 3 || errs[0].Pos.Line != 2 || errs[2].Pos.Line != 11 {
		t.Errorf("three errors: %v", err)
	}

	o := m.options(&policy.Policy{Packages: policy.Packages{Depend: names("a")}}, nil)
	if _, err := Compile(o); !errors.As(err, &errs) || !strings.Contains(err.Error(), "no package database") {
		t.Errorf("packages without a database: %v", err)
	}
	o = m.options(&policy.Policy{Files: rules("r ~/x", "r rel")}, nil)
	o.Home, o.Dir = "", ""
	if _, err := Compile(o); !errors.As(err, &errs) || len(errs) != 2 {
		t.Errorf("no home and no directory: %v", err)
	}
	o.Root = m.root + "/opt/file"
	if _, err := Compile(o); err == nil || errors.As(err, &errs) {
		t.Errorf("the root is a file: %v", err)
	}
}

// The guard sees what the list has, each file by the same identity, and
// nothing that is denied.
func TestVisit(t *testing.T) {
	m := newMachine(t, "/usr/bin/cc", "/usr/bin/cpp", "/usr/bin/cpp-too = /usr/bin/cpp", "/usr/lib/l -> x", "/usr/lib/x", "/src/a", "/opt/t/b", "/etc/conf")
	db := packageDB{files: map[string][]string{"gcc": {"/usr", "/usr/bin/cc", "/usr/bin/cpp", "/usr/bin/cpp-too", "/usr/lib/l", "/usr/lib/x"}}}
	p := &policy.Policy{
		Packages:  policy.Packages{Depend: names("gcc")},
		Workspace: []policy.WorkspaceTree{{Path: "."}},
		Files:     rules("none /usr/bin/cpp", "rx /opt/t/**", "rw /etc/conf", "w /usr/lib/x"),
	}
	type key struct {
		id     FileID
		access policy.Access
	}
	got := make(map[key]string)
	trees := make(map[string]policy.Access)
	o := m.options(p, db)
	o.Visit = func(g Grant) error {
		var st unix.Statx_t
		if err := statx(g.FD, "", &st); err != nil {
			t.Errorf("%s: %v", g.Path, err)
		}
		if id := IdentityOf(&st); id != m.id(g.Path) || g.Mode != uint32(st.Mode) {
			t.Errorf("%s: descriptor of %v with mode %o, want %v", g.Path, id, g.Mode, m.id(g.Path))
		}
		if g.Tree {
			trees[g.Path] = g.Access
			return nil
		}
		k := key{IdentityOf(&st), g.Access}
		if other, ok := got[k]; ok {
			t.Errorf("%s is granted twice, as %s, too", g.Path, other)
		}
		got[k] = g.Path
		return nil
	}
	l, err := Compile(o)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[key]string)
	for e := range l.Entries() {
		if e.Tree == "" && e.Access != 0 {
			want[key{e.ID, e.Access}] = got[key{e.ID, e.Access}]
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("visited %v, in the list %v", got, want)
	}
	if wantTrees := map[string]policy.Access{"/src": workspaceAccess, "/opt/t": read | exec | list}; !maps.Equal(trees, wantTrees) {
		t.Errorf("visited trees %v, want %v", trees, wantTrees)
	}
	m.check(l, "rx /usr/bin/cc package gcc", "rwx /usr/lib/x package gcc")

	// An error of the guard is never mistaken for a file that is absent.
	o.Visit = func(g Grant) error { return fmt.Errorf("landlock_add_rule: %w", unix.EACCES) }
	for _, q := range []*policy.Policy{p, {Files: rules("r /etc/conf")}, {Workspace: p.Workspace}, {Files: []policy.FileRule{{Set: "base"}}}} {
		o.Policy = q
		if q.Files != nil && q.Files[0].Set == "base" {
			m.make("/etc/passwd")
		}
		if _, err := Compile(o); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("policy %+v: error %v, want the guard's", q, err)
		}
	}
}

// Descriptors are closed on every way out.
func TestNoDescriptorLeaks(t *testing.T) {
	m := newMachine(t, "/usr/bin/cc", "/src/a", "/opt/t/b")
	db := packageDB{files: map[string][]string{"gcc": {"/usr/bin/cc"}}}
	p := &policy.Policy{Packages: policy.Packages{Depend: names("gcc")}, Workspace: []policy.WorkspaceTree{{Path: "."}}, Files: rules("none /opt/t/b", "r /opt/*", "r /opt/**", "r /opt/t", "r /missing")}
	before := openDescriptors(t)
	for i := range 20 {
		o := m.options(p, db)
		o.Visit = func(Grant) error {
			if i%2 == 0 {
				return errors.New("stop")
			}
			return nil
		}
		if _, err := Compile(o); err == nil {
			t.Fatal("no error")
		}
	}
	if after := openDescriptors(t); after > before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
