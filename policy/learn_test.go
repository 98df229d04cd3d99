package policy

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// graph is a package database in two lines: what each installed package
// depends on, and what is essential.
type graph struct {
	depends   map[string][]string
	essential []string
}

func (g graph) Installed(name string) bool { _, ok := g.depends[name]; return ok }

func (g graph) Essential() []string { return g.essential }

func (g graph) Closure(names []string) []string {
	seen := make(map[string]bool)
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		if !g.Installed(name) || seen[name] {
			continue
		}
		seen[name] = true
		names = append(names, g.depends[name]...)
	}
	return slices.Sorted(maps.Keys(seen))
}

// debian is what a build of zlib-hello meets.
var debian = graph{
	depends: map[string][]string{
		"build-essential": {"gcc", "make", "libc6-dev"},
		"gcc":             {"cpp", "libc6", "binutils"},
		"cpp":             {"libc6"},
		"make":            {"libc6"},
		"binutils":        {"libc6", "zlib1g"},
		"libc6-dev":       {"libc6"},
		"libc6":           {"libgcc-s1"},
		"libgcc-s1":       {"libc6"},
		"bash":            {"libc6"},
		"coreutils":       {"libc6"},
		"zlib1g":          {"libc6"},
		"zlib1g-dev":      {"zlib1g", "libc6-dev"},
		"libssl3":         {"libc6"},
		"libssl-dev":      {"libssl3"},
		"pkgconf":         {"pkgconf-bin"},
		"pkgconf-bin":     {"libc6"},
	},
	essential: []string{"bash", "coreutils"},
}

func owned(name string, owner ...string) Observed {
	return Observed{Path: name, Owners: owner, Access: Read, Count: 1}
}

func unowned(name string, access Access) Observed {
	return Observed{Path: name, Access: access, Count: 2}
}

// zlibHello is a build as the tracer reports it.
var zlibHello = []Observed{
	{Path: "/home/u/hello/hello.c", Access: Read, Count: 1},
	{Path: "/home/u/hello/hello.o", Access: Read | Write, Count: 2},
	{Path: "/home/u", Access: List, Count: 1},
	{Path: "/etc/ld.so.cache", Access: Read, Count: 30},
	{Path: "/tmp/ccXYZ.s", Access: Read | Write, Count: 2},
	{Path: "/usr/bin/make", Owners: []string{"make"}, Access: Exec, Count: 1},
	{Path: "/usr/bin/bash", Owners: []string{"bash"}, Access: Exec, Count: 4},
	{Path: "/usr/bin/x86_64-linux-gnu-gcc-12", Owners: []string{"gcc"}, NameOwners: []string{"gcc"}, Access: Exec, Count: 2},
	{Path: "/usr/bin/pkgconf", Owners: []string{"pkgconf-bin"}, NameOwners: []string{"pkgconf"}, Access: Exec, Count: 1},
	{Path: "/usr/include/zlib.h", Owners: []string{"zlib1g-dev"}, Access: Read, Count: 1},
	{Path: "/usr/lib/x86_64-linux-gnu/libz.so.1.2.13", Owners: []string{"zlib1g"}, NameOwners: []string{"zlib1g-dev", "zlib1g"}, Access: Read, Count: 3},
	{Path: "/usr/lib/x86_64-linux-gnu/libc.so.6", Owners: []string{"libc6"}, Access: Read, Count: 40},
	{Path: "/opt/sdk", Access: List, Count: 1},
	{Path: "/opt/sdk/bin/tool", Access: Read | Exec, Count: 1},
	{Path: "/opt/sdk/lib/a.so", Access: Read, Count: 1},
	{Path: "/opt/sdk/lib/b.so", Access: Read, Count: 1},
	{Path: "/opt/sdk/lib/c.so", Access: Read, Count: 1},
	{Path: "/home/u/.netrc", Access: Read, Count: 1},
	{Path: "/var/cache/thing.lock", Access: Write, Count: 1},
}

func TestLearn(t *testing.T) {
	got := Learn(zlibHello, debian, LearnOptions{
		Workspace: []string{"/home/u/hello"}, Dir: "/home/u/hello", Home: "/home/u",
		Command: []string{"make", "CFLAGS=-O2 -g"},
	})
	want := `# Learned by depguard from: make "CFLAGS=-O2 -g", with 19 files, 95 accesses.
# It allows what the build did, and knows nothing of what it should do: read it.
version: 1
mode: enforce
undeclared: hide

packages:
  depend:
    - pkgconf    # 1 file, 1 access
    - zlib1g-dev # 2 files, 4 accesses
  system: build-essential # with all essential packages: 4 files, 47 accesses
  closure: true # and what these depend on

files:
  - {set: base}                              # 2 files, 32 accesses; what any program may touch: depguard policy base
  - {path: /opt/sdk/**, access: rxl}         # 5 files, 5 accesses
  - {path: /var/cache/thing.lock, access: w} # 1 file, 1 access; written
  - {path: ~/.netrc, access: r}              # 1 file, 1 access

workspace:
  - . # 3 files, 4 accesses; read, written and executed

network: none # no connection beyond this machine was seen
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p := mustCover(t, got, zlibHello, debian, LearnOptions{Workspace: []string{"/home/u/hello"}, Dir: "/home/u/hello", Home: "/home/u"})
	if p.Mode != Enforce || p.Network != NetworkNone {
		t.Errorf("mode %s, network %s", p.Mode, p.Network)
	}
}

// mustCover parses a learned policy and checks that it allows every observed
// file whose name a policy can say.
func mustCover(t *testing.T, text []byte, files []Observed, g PackageGraph, o LearnOptions) *Policy {
	t.Helper()
	p, err := Parse("learned.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, f := range files {
		if f.Access == 0 || !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || strings.ContainsRune(f.Path, 0) {
			continue
		}
		if !covers(p, f, g, o) {
			t.Errorf("%s %q (owners %q) is not covered by\n%s", f.Access, f.Path, f.Owners, text)
		}
	}
	return p
}

// covers is a second opinion on what a policy allows, from the language's
// definition: workspace, rules, packages.
func covers(p *Policy, f Observed, g PackageGraph, o LearnOptions) bool {
	for _, w := range p.Workspace {
		dir := w.Path
		switch {
		case strings.HasPrefix(dir, "~/"):
			dir = path.Join(o.Home, dir[1:])
		case !path.IsAbs(dir):
			dir = path.Join(o.Dir, dir)
		}
		dir = path.Clean(dir)
		if f.Path == dir || within(f.Path, dir) || f.Access == List && within(dir, f.Path) {
			return true
		}
	}
	var access Access
	for _, r := range p.Files {
		if r.Set != "" && InBase(f.Path, f.Access) {
			return true
		}
		if r.Set == "" && r.Matches(f.Path, o.Home) {
			access |= r.Access
		}
	}
	declared := make(map[string]bool)
	for _, n := range p.Packages.Depend {
		declared[n.Name] = true
		for _, d := range g.Closure([]string{n.Name}) {
			declared[d] = true
		}
	}
	for _, n := range p.Packages.System {
		for _, d := range g.Closure(append([]string{n.Name}, g.Essential()...)) {
			declared[d] = true
		}
	}
	among := func(names []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return declared[n] })
	}
	names, owners := packageNamesAmong(f.NameOwners), packageNamesAmong(f.Owners)
	if slices.ContainsFunc(names, func(n string) bool { return !declared[n] }) {
		return false
	}
	if among(owners) {
		access |= Read | Exec | List
	}
	return access.Has(f.Access)
}

func TestLearnPackages(t *testing.T) {
	mutual := graph{depends: map[string][]string{"a1": {"b1", "z1"}, "b1": {"a1"}, "c1": {"a1"}, "z1": nil}}
	for _, c := range []struct {
		name           string
		graph          graph
		owners         []string
		depend, system string
	}{
		{"build-essential alone", debian, []string{"gcc", "libc6"}, "", "build-essential"},
		{"essential alone", debian, []string{"bash", "libc6"}, "bash", ""},
		{"essential and a library", debian, []string{"bash", "libssl-dev", "libssl3"}, "bash libssl-dev", ""},
		{"a library for itself", debian, []string{"libssl3", "gcc"}, "libssl3", "build-essential"},
		{"not installed", debian, []string{"gone", "gcc"}, "gone", "build-essential"},
		{"each other", mutual, []string{"a1", "b1"}, "a1 b1", ""},
		{"each other, and one below", mutual, []string{"a1", "b1", "z1"}, "a1 b1", ""},
		{"each other, and one above", mutual, []string{"a1", "b1", "c1"}, "c1", ""},
		{"no database", graph{}, []string{"zlib1g", "make"}, "make zlib1g", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var files []Observed
			for i, o := range c.owners {
				files = append(files, owned(fmt.Sprintf("/usr/lib/f%d", i), o))
			}
			o := LearnOptions{Dir: "/w"}
			p := mustCover(t, Learn(files, c.graph, o), files, c.graph, o)
			join := func(list []PackageName) string {
				var all []string
				for _, n := range list {
					all = append(all, n.Name)
				}
				return strings.Join(all, " ")
			}
			if join(p.Packages.Depend) != c.depend || join(p.Packages.System) != c.system {
				t.Errorf("depend %q, system %q", join(p.Packages.Depend), join(p.Packages.System))
			}
		})
	}
}

// A directory that many packages share makes none of them a dependency, when
// another file does already.
func TestLearnSharedDirectory(t *testing.T) {
	files := []Observed{
		{Path: "/usr/include", Owners: []string{"aaa-dev", "libc6-dev", "zlib1g-dev"}, Access: List, Count: 1},
		owned("/usr/include/zlib.h", "zlib1g-dev"),
	}
	g := graph{depends: map[string][]string{"aaa-dev": nil, "libc6-dev": nil, "zlib1g-dev": nil}}
	p := mustCover(t, Learn(files, g, LearnOptions{Dir: "/w"}), files, g, LearnOptions{Dir: "/w"})
	if len(p.Packages.Depend) != 1 || p.Packages.Depend[0].Name != "zlib1g-dev" {
		t.Errorf("depend %v", p.Packages.Depend)
	}
}

func TestLearnPaths(t *testing.T) {
	many := func(dir string, n int, access Access) (files []Observed) {
		for i := range n {
			files = append(files, unowned(fmt.Sprintf("%s/f%d", dir, i), access))
		}
		return files
	}
	for _, c := range []struct {
		name  string
		files []Observed
		want  []string // rules after {set: base}
	}{
		{"three are not enough", many("/opt/sdk", 3, Read), []string{"/opt/sdk/f0 r", "/opt/sdk/f1 r", "/opt/sdk/f2 r"}},
		{"four are", many("/opt/sdk", 4, Read), []string{"/opt/sdk/** r"}},
		{"the tree counts", slices.Concat(many("/opt/sdk/a", 2, Read), many("/opt/sdk/b/c", 2, Exec)), []string{"/opt/sdk/** rx"}},
		{"the directory itself does not", append(many("/opt/sdk", 3, Read), unowned("/opt/sdk", List)), []string{"/opt/sdk l", "/opt/sdk/f0 r", "/opt/sdk/f1 r", "/opt/sdk/f2 r"}},
		{"not the upper directories", many("/srv", 4, Read), []string{"/srv/f0 r", "/srv/f1 r", "/srv/f2 r", "/srv/f3 r"}},
		{"not a home", many("/home/u", 4, Read), []string{"~/f0 r", "~/f1 r", "~/f2 r", "~/f3 r"}},
		{"not another home", many("/home/user", 4, Read), []string{"/home/user/f0 r", "/home/user/f1 r", "/home/user/f2 r", "/home/user/f3 r"}},
		{"in the home", many("/home/u/.cargo/registry", 4, Read), []string{"~/.cargo/** r"}},
		{"not keys", many("/home/u/.ssh", 4, Read), []string{"~/.ssh/f0 r", "~/.ssh/f1 r", "~/.ssh/f2 r", "~/.ssh/f3 r"}},
		{"not what holds the workspace", many("/home/u/src", 4, Read), []string{"~/src/f0 r", "~/src/f1 r", "~/src/f2 r", "~/src/f3 r"}},
		{"where packages are, only its own", slices.Concat(many("/usr/lib/tool/cache", 4, Read), many("/usr/lib/tool/x", 3, Read)),
			[]string{"/usr/lib/tool/cache/** r", "/usr/lib/tool/x/f0 r", "/usr/lib/tool/x/f1 r", "/usr/lib/tool/x/f2 r"}},
		{"what Python compiled", []Observed{
			unowned("/usr/lib/python3.11/__pycache__/os.cpython-311.pyc", Read), unowned("/usr/lib/python3.11/json/__pycache__/a.pyc", Read),
			unowned("/usr/lib/python3.11/json/__pycache__/b.pyc", Read), unowned("/usr/lib/python3.11/re/__pycache__/c.pyc", Read),
			unowned("/usr/lib/python3/dist-packages/x/__pycache__/d.pyc", Read), unowned("/usr/lib/python3.11/x.pyc", Read),
		}, []string{"/usr/lib/python3.11/**/__pycache__/*.pyc r", "/usr/lib/python3.11/x.pyc r", "/usr/lib/python3/dist-packages/x/__pycache__/d.pyc r"}},
		{"not what packages share", many("/usr/lib/x86_64-linux-gnu", 4, Read), []string{
			"/usr/lib/x86_64-linux-gnu/f0 r", "/usr/lib/x86_64-linux-gnu/f1 r", "/usr/lib/x86_64-linux-gnu/f2 r", "/usr/lib/x86_64-linux-gnu/f3 r"}},
		{"not beside packaged files", append(many("/opt/vendor", 4, Read), owned("/opt/vendor/bin/x", "make")), []string{
			"/opt/vendor/f0 r", "/opt/vendor/f1 r", "/opt/vendor/f2 r", "/opt/vendor/f3 r"}},
		{"a packaged file that is written", []Observed{{Path: "/usr/share/x", Owners: []string{"make"}, Access: Read | Write}}, []string{"/usr/share/x rw"}},
		{"a base file that is written", []Observed{unowned("/etc/passwd", Write)}, []string{"/etc/passwd w"}},
		{"glob characters", []Observed{unowned("/opt/a[1]*{x}\\?", Read)}, []string{`/opt/a\[1\]\*\{x\}\\\? r`}},
		{"glob characters in a directory", many("/opt/a*b", 4, Read), []string{`/opt/a\*b/** r`}},
		{"control characters", []Observed{unowned("/opt/a\nb\x1b", Read)}, []string{"/opt/a\nb\x1b r"}},
		{"not UTF-8", []Observed{unowned("/etc/caf\xe9\xff", Read)}, []string{"/etc/caf?? r"}},
		{"the same path twice", []Observed{unowned("/opt/a", Read), unowned("/opt/a", Exec)}, []string{"/opt/a rx"}},
		{"no absolute path", []Observed{unowned("pipe:[1]", Read), unowned("/a/../b", Read), unowned("", Read), unowned("/a\x00b", Read)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := LearnOptions{Workspace: []string{"/home/u/src/hello"}, Home: "/home/u", Dir: "/home/u/src/hello"}
			text := Learn(c.files, debian, o)
			p := mustCover(t, text, c.files, debian, o)
			var got []string
			for _, r := range p.Files[1:] {
				got = append(got, r.Path+" "+r.Access.Letters())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q\nwant %q\n%s", got, c.want, text)
			}
		})
	}
}

func TestLearnWorkspaces(t *testing.T) {
	for _, c := range []struct {
		name string
		o    LearnOptions
		want []string
	}{
		{"the directory", LearnOptions{Dir: "/w"}, []string{"."}},
		{"the first workspace is the directory", LearnOptions{Workspace: []string{"/w", "/v"}}, []string{".", "/v"}},
		{"beneath, beside, at home", LearnOptions{Dir: "/w", Home: "/home/u", Workspace: []string{"/w/sub", "/w2", "/home/u/x", "/w"}}, []string{"sub", "/w2", "~/x", "."}},
		{"the same twice", LearnOptions{Dir: "/w", Workspace: []string{"/w", "/w/"}}, []string{"."}},
		{"not the root", LearnOptions{Dir: "/", Workspace: []string{"/", "/w"}}, []string{"/w"}},
		{"strange names", LearnOptions{Dir: "/w", Workspace: []string{"/w/*", "/v/**", "/w/~x", "/w/- a: b", "/w/..."}}, []string{"*/", "/v/**/", "./~x", "- a: b", "..."}},
		{"not UTF-8", LearnOptions{Dir: "/\xff", Workspace: []string{"/\xff", "/\xfe"}}, []string{"."}},
		{"none at all", LearnOptions{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Parse("learned.yaml", Learn(nil, debian, c.o))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range p.Workspace {
				got = append(got, w.Path)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestLearnHead(t *testing.T) {
	text := Learn(nil, debian, LearnOptions{Dir: "/w", Network: NetworkHost, Mode: Audit, Command: []string{"sh", "-c", "a\nversion: 2\x1b\xff", strings.Repeat("x", 9999), ""}})
	p, err := Parse("learned.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if p.Network != NetworkHost || p.Mode != Audit {
		t.Errorf("network %s, mode %s", p.Network, p.Mode)
	}
	if first, _, _ := bytes.Cut(text, []byte("\n")); len(first) > 600 || !bytes.Contains(first, []byte(`\nversion: 2\x1b\xff`)) {
		t.Errorf("first line %q", first)
	}
}

// However much was observed, Parse takes what was learned, and what found no
// place in it is counted.
func TestLearnTooMuch(t *testing.T) {
	var files []Observed
	for i := range 30000 {
		files = append(files, unowned(fmt.Sprintf("/opt%d/%s", i, strings.Repeat("\x01", 100)), Read))
		files = append(files, owned(fmt.Sprintf("/usr/lib/x%d", i), fmt.Sprintf("package%d", i)))
	}
	var workspaces []string
	for i := range 30000 {
		workspaces = append(workspaces, fmt.Sprintf("/ws%d", i))
	}
	text := Learn(files, graph{}, LearnOptions{Workspace: workspaces})
	if _, err := Parse("learned.yaml", text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"paths are not declared here", "packages are not declared here", "workspaces are not declared here"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("it does not say that %s", want)
		}
	}
}

// observedFrom makes files and a package graph out of bytes: one file a
// line, fields separated by blanks.
func observedFrom(data string) (files []Observed, g graph) {
	g.depends = make(map[string][]string)
	for i, line := range strings.Split(data, "\n") {
		fields := strings.Split(line, " ")
		for len(fields) < 4 {
			fields = append(fields, "")
		}
		list := func(s string) []string {
			return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
		}
		f := Observed{Path: fields[0], Owners: list(fields[1]), NameOwners: list(fields[2]), Count: uint64(i)}
		for _, c := range []byte(fields[3]) {
			f.Access |= accessOf(c)
		}
		files = append(files, f)
		if name, on, ok := strings.Cut(fields[0], ">"); ok {
			g.depends[name] = list(on)
			if fields[1] == "essential" {
				g.essential = append(g.essential, name)
			}
		}
	}
	return files, g
}

func FuzzLearn(f *testing.F) {
	f.Add("/usr/bin/make make  x\n/usr/lib/libz.so.1 zlib1g zlib1g-dev r\nzlib1g-dev>zlib1g\nzlib1g>\nmake>\nbuild-essential>make\nbash> essential\n/usr/bin/bash bash  x", "/w", "/home/u", "make")
	f.Add("/opt/a/1   r\n/opt/a/2   rw\n/opt/a/3   x\n/opt/a/b/4   r\n/opt/a   l\n/home/u/.x/\xff   r", "/home/u/src/*", "/home/u", "a\nb")
	f.Add("aa>bb\nbb>aa\n/1 aa  r\n/2 bb  r\n/etc/passwd aa,bb cc w", "/", "/", "")
	f.Add("/a\\b*/[x]/{/1   r\n/a\\b*/[x]/{/2   r\n/a\\b*/[x]/{/3   r\n/a\\b*/[x]/{/4   r", "", "/a\\b*", "")
	f.Fuzz(func(t *testing.T, data, workspace, home, command string) {
		if len(data) > 1<<16 {
			return
		}
		files, g := observedFrom(data)
		o := LearnOptions{Workspace: strings.Split(workspace, ":"), Home: home, Command: strings.Split(command, " ")}
		o.Dir = o.Workspace[0]
		text := Learn(files, g, o)
		if slices.ContainsFunc(files, func(f Observed) bool { return len(f.Path) > 4095 }) {
			if _, err := Parse("learned.yaml", text); err != nil {
				t.Fatal(err)
			}
			return
		}
		if !path.IsAbs(home) || path.Clean(home) != home || home == "/" {
			o.Home = ""
		}
		mustCover(t, text, files, g, o)
		if again := Learn(files, g, o); !bytes.Equal(again, text) {
			t.Errorf("twice the same, and yet\n%s\n%s", text, again)
		}
	})
}

func BenchmarkLearn(b *testing.B) {
	var files []Observed
	for i := range 5000 {
		files = append(files, owned(fmt.Sprintf("/usr/include/x%d.h", i), "libc6-dev"), unowned(fmt.Sprintf("/opt/sdk/d%d/f%d", i%100, i), Read))
	}
	b.ReportAllocs()
	for b.Loop() {
		Learn(files, debian, LearnOptions{Dir: "/w"})
	}
}

// What pkg-config read through while it looked for something names no package.
func TestLearnScanned(t *testing.T) {
	var files []Observed
	for i := range 9 {
		f := owned(fmt.Sprintf("/usr/lib/pkgconfig/%d.pc", i), fmt.Sprintf("lib%d-dev", i))
		f.Scanned = i > 0
		files = append(files, f)
	}
	files = append(files, Observed{Path: "/usr/lib/pkgconfig", Owners: []string{"lib7-dev"}, Access: List, Count: 1, Scanned: true})
	text := Learn(files, graph{}, LearnOptions{Workspace: []string{"/w"}})
	p, err := Parse("learned.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Packages.Depend) != 1 || p.Packages.Depend[0].Name != "lib0-dev" {
		t.Errorf("depend is %v, want lib0-dev, which was looked for:\n%s", p.Packages.Depend, text)
	}
	if !slices.ContainsFunc(p.Files, func(r FileRule) bool { return r.Path == "/usr/lib/pkgconfig/*" && r.Access == Read }) {
		t.Errorf("no rule for what was read through:\n%s", text)
	}
}
