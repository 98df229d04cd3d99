package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules of the tree: what lies where, who imports whom, and which
// dangerous things are allowed in which corner. Each rule says why it is
// there, and the reason is printed with every breach.

const module = "github.com/depguard/depguard"

// moduleRoot is the module's directory, as seen from this test's.
const moduleRoot = "../.."

// topLevel is all that the module's root may hold. Everything else nests
// inside, so that the root stays a table of contents.
var topLevel = []string{
	"cmd", "supervisor", "policy", "bpf", "tracer", "examples", "testdata",
	"go.mod", "go.sum", "Makefile", "README.md",
	"LICENSE", "CHANGELOG.md", // beside them only what tools look for here, and dot files
	"build", // ignored by git: what make builds
}

// layers says which packages of this module the packages below a directory
// may import. A package is under the longest prefix that matches. An entry
// that ends in "/..." stands for the directory and everything below it; every
// package may import what lies below itself.
var layers = []struct {
	dir    string
	may    []string
	reason string
}{
	{"cmd", []string{"supervisor/...", "tracer/...", "policy/..."},
		"the command line puts the parts together; it reaches the tracing programs through tracer, which knows their privileges and losses"},
	{"supervisor", []string{"supervisor/...", "policy/...", "tracer"},
		"the supervisor fills the types of tracer in; how a trace is stored and shown is none of its business, so that a full disk or a report can't delay an answer"},
	{"tracer", []string{"tracer/...", "bpf", "policy/..."},
		"the tracer watches a run that it does not control: it works the same whether a supervisor is there or not"},
	{"bpf", []string{},
		"the programs report raw events; what they mean is decided in one place, tracer, and the programs can be proved on other kernels without the rest"},
	{"bpf/kernels", []string{"bpf", "bpf/kernels/..."},
		"proving the programs on other kernels needs the programs, and nothing that a run needs"},
	{"policy", []string{},
		"the policy is the trusted core: it decides without knowing who asks, and can be read and tested alone"},
	{"policy/allowlist", []string{"policy", "policy/owner/..."},
		"the allowlist is compiled from a policy and from who owns which file, and from nothing else"},
	{"policy/owner", []string{"policy"},
		"who owns a file is a fact of the distribution; it does not depend on what is being guarded"},
	{"examples", []string{},
		"an example shows what a user can do, and users have the command, not its packages"},
}

// confined names packages that only some directories may import, tests
// excepted.
var confined = []struct {
	imports []string
	only    []string
	reason  string
}{
	{[]string{"github.com/seccomp/libseccomp-golang"}, []string{"supervisor/filter"},
		"it is the module's only cgo, and the rest has to build and be tested without a C compiler"},
	{[]string{"github.com/alecthomas/kong"}, []string{"cmd"},
		"flags are the command line's business; packages take plain structs"},
	{[]string{"modernc.org/sqlite"}, []string{"tracer/store"},
		"one package owns the file format"},
	{[]string{"golang.org/x/sys/unix", "syscall"}, []string{"cmd", "supervisor", "tracer", "bpf", "policy/allowlist", "policy/owner"},
		"policy is pure: the same text gives the same policy on every machine (allowlist asks for identities, owner for files)"},
	{[]string{"os", "os/exec", "os/user", "net", "io/ioutil"}, []string{"cmd", "supervisor", "tracer", "bpf", "policy/allowlist", "policy/owner", "examples"},
		"policy is pure: it reads no file and no environment, the caller gives it the text"},
}

// source is one parsed Go file of this module.
type source struct {
	path string // slash-separated, relative to the module's root
	file *ast.File
}

func (s source) dir() string { return path.Dir(s.path) }
func (s source) test() bool  { return strings.HasSuffix(s.path, "_test.go") }

// imports returns the paths of the packages that the file imports.
func (s source) imports() []string {
	var imports []string
	for _, spec := range s.file.Imports {
		pkg, _ := strconv.Unquote(spec.Path.Value) // the parser has accepted it
		imports = append(imports, pkg)
	}
	return imports
}

// named returns the path of the package that the file imports under name, or
// the empty string.
func (s source) named(name string) string {
	for i, spec := range s.file.Imports {
		pkg := s.imports()[i]
		if spec.Name != nil && spec.Name.Name == name || spec.Name == nil && path.Base(pkg) == name {
			return pkg
		}
	}
	return ""
}

// A rule returns what is wrong with one file, each breach with its reason.
type rule func(source) []string

var rules = map[string]rule{
	"imports point one way":                     importDirection,
	"some imports are confined":                 confinedImports,
	"unsafe only in *_unsafe.go":                unsafeFiles,
	"cgo only in supervisor/filter":             cgoFiles,
	"the process ends only in cmd":              exits,
	"every package of the module is in a layer": inLayer,
}

func TestTree(t *testing.T) {
	sources := moduleSources(t)
	for name, check := range rules {
		t.Run(name, func(t *testing.T) {
			for _, s := range sources {
				for _, breach := range check(s) {
					t.Errorf("%s: %s", s.path, breach)
				}
			}
		})
	}
}

// TestRulesBite pins that each rule finds the breach it is there for, and
// leaves alone what stands beside it.
func TestRulesBite(t *testing.T) {
	const filter = "github.com/seccomp/libseccomp-golang"
	for _, c := range []struct {
		rule rule
		path string
		body string
		bite bool
	}{
		{importDirection, "policy/p.go", `import "` + module + `/tracer"`, true},
		{importDirection, "policy/allowlist/p.go", `import "` + module + `/policy"`, false},
		{importDirection, "policy/owner/p.go", `import "` + module + `/policy/allowlist"`, true},
		{importDirection, "supervisor/s.go", `import x "` + module + `/tracer"`, false},
		{importDirection, "supervisor/s.go", `import _ "` + module + `/tracer/store"`, true},
		{importDirection, "supervisor/s.go", `import "` + module + `/bpf"`, true},
		{importDirection, "supervisor/s_test.go", `import "` + module + `/tracer/store"`, false},
		{importDirection, "supervisor/jail/s.go", `import "` + module + `/supervisor/filter"`, false},
		{importDirection, "tracer/t.go", `import "` + module + `/supervisor"`, true},
		{importDirection, "bpf/kernels/k.go", `import "` + module + `/bpf"`, false},
		{importDirection, "bpf/kernels/k.go", `import "` + module + `/tracer"`, true},
		{importDirection, "bpf/b.go", `import "` + module + `/bpf/kernels"`, false},
		{importDirection, "cmd/depguard/c.go", `import "` + module + `/bpf"`, true},
		{importDirection, "tracerx/t.go", `import "` + module + `/bpf"`, false}, // inLayer's to find
		{inLayer, "tracerx/t.go", ``, true},
		{inLayer, "testdata/helper.go", ``, false},
		{inLayer, "tracer/store/t.go", ``, false},
		{confinedImports, "policy/p.go", `import "golang.org/x/sys/unix"`, true},
		{confinedImports, "policy/owner/p.go", `import "golang.org/x/sys/unix"`, false},
		{confinedImports, "policy/p.go", `import "os"`, true},
		{confinedImports, "policy/p.go", `import (_ "os"; _ "embed")`, true},
		{confinedImports, "policy/p_test.go", `import "os"`, false},
		{confinedImports, "supervisor/s.go", `import seccomp "` + filter + `"`, true},
		{confinedImports, "supervisor/filter/f.go", `import seccomp "` + filter + `"`, false},
		{unsafeFiles, "bpf/b.go", `import "unsafe"`, true},
		{unsafeFiles, "bpf/b_test.go", `import u "unsafe"`, true},
		{unsafeFiles, "bpf/b_unsafe.go", `import "unsafe"`, false},
		{cgoFiles, "supervisor/s.go", `import "C"`, true},
		{cgoFiles, "supervisor/filter/f.go", `import "C"`, false},
		{exits, "supervisor/s.go", `import "os"; func f() { os.Exit(1) }`, true},
		{exits, "supervisor/s.go", `import o "os"; func f() { defer o.Exit(1) }`, true},
		{exits, "supervisor/s.go", `import "log"; func f() { log.Fatalf("") }`, true},
		{exits, "supervisor/s.go", `import "golang.org/x/sys/unix"; var f = unix.Exit`, true},
		{exits, "supervisor/s.go", `type e struct{}; func (e) Exit(int) {}; func f(os e) { os.Exit(1) }`, false},
		{exits, "supervisor/jail/enter.go", `import "golang.org/x/sys/unix"; func f() { unix.Exit(1) }`, true},
		{exits, "cmd/depguard/c.go", `import "os"; func f() { os.Exit(1) }`, false},
		{exits, "supervisor/s_test.go", `import "os"; func f() { os.Exit(1) }`, false},
	} {
		s := parse(t, c.path, []byte("package p; "+c.body))
		if breaches := c.rule(s); (len(breaches) > 0) != c.bite {
			t.Errorf("%s: %s: breaches %q, want any: %v", c.path, c.body, breaches, c.bite)
		}
	}
}

// importDirection holds layers. Tests may look at a package from anywhere:
// they are not part of what is shipped.
func importDirection(s source) []string {
	at := layerOf(s.dir())
	if at < 0 || s.test() {
		return nil
	}
	var breaches []string
	for _, pkg := range s.imports() {
		inner, ok := strings.CutPrefix(pkg, module+"/")
		if !ok || below(inner, s.dir()) || matches(inner, layers[at].may) {
			continue
		}
		breaches = append(breaches, fmt.Sprintf("%s must not import %s (it may import %s of this module): %s",
			s.dir(), inner, orNothing(layers[at].may), layers[at].reason))
	}
	return breaches
}

// inLayer finds packages for which layers has no rule.
func inLayer(s source) []string {
	if layerOf(s.dir()) >= 0 || below(s.dir(), "testdata") {
		return nil
	}
	return []string{"no layer of this test says what the package may import: it needs a place in the order first"}
}

func confinedImports(s source) []string {
	if s.test() {
		return nil
	}
	var breaches []string
	for _, c := range confined {
		for _, pkg := range c.imports {
			if slices.Contains(s.imports(), pkg) && !slices.ContainsFunc(c.only, func(dir string) bool { return below(s.dir(), dir) }) {
				breaches = append(breaches, fmt.Sprintf("must not import %s (only %s may): %s", pkg, strings.Join(c.only, ", "), c.reason))
			}
		}
	}
	return breaches
}

func unsafeFiles(s source) []string {
	if !slices.Contains(s.imports(), "unsafe") || strings.HasSuffix(s.path, "_unsafe.go") || strings.HasSuffix(s.path, "_unsafe_test.go") {
		return nil
	}
	return []string{`imports "unsafe", which only files named *_unsafe.go may: what can break memory has to be found by its name`}
}

func cgoFiles(s source) []string {
	if !slices.Contains(s.imports(), "C") || s.dir() == "supervisor/filter" || strings.HasPrefix(s.dir(), "supervisor/filter/") {
		return nil
	}
	return []string{"uses cgo, which only supervisor/filter may: everywhere else it costs safety, build time and cross compilation for nothing"}
}

// enders are the functions that end the process, by package.
var enders = map[string][]string{
	"os":                    {"Exit"},
	"syscall":               {"Exit"},
	"golang.org/x/sys/unix": {"Exit"},
	"log":                   {"Fatal", "Fatalf", "Fatalln"},
}

// exits finds the ends of the process outside cmd. Two more may: TestMain, and
// the jail's pid 1, which has to go when the supervisor has gone, whatever its
// own goroutines wait for, and which no signal of its own can end.
func exits(s source) []string {
	if s.test() || below(s.dir(), "cmd") || s.path == "supervisor/jail/init.go" {
		return nil
	}
	var breaches []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := selector.X.(*ast.Ident); ok && slices.Contains(enders[s.named(pkg.Name)], selector.Sel.Name) {
			breaches = append(breaches, fmt.Sprintf("%s.%s ends the process, which only cmd may: it runs no deferred call, and what a run has set up has to be taken down",
				pkg.Name, selector.Sel.Name))
		}
		return true
	})
	return breaches
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || ignored(name) || slices.Contains(topLevel, name) {
			continue
		}
		t.Errorf("%s: the top level is fixed (%s): put it inside the part it belongs to", name, strings.Join(topLevel, ", "))
	}
}

// TestNoMachine finds traces of the machine and the person that a file was
// written or generated on; BPF objects and their debug information included.
func TestNoMachine(t *testing.T) {
	checkout, err := filepath.Abs(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	pattern := machinePattern(checkout)
	walk(t, func(name string, content []byte) {
		for _, found := range pattern.FindAllSubmatch(content, -1) {
			person := strings.TrimRight(string(found[1]), "0123456789")
			if person == "" || !slices.Contains(stockPersons, person) {
				t.Errorf("%s: names a path of the machine it was made on: %q", name, found[0])
				return // one is enough to find the others
			}
		}
	})
}

// stockPersons are the names that documentation and tests give to a person,
// with or without a number.
var stockPersons = []string{"user", "u", "alice", "bob", "build", "builder", "you", "me"}

// machinePattern matches absolute paths that only exist on one machine: a
// home directory, with the person's name as the first group, root's Go
// directories, and the checkout itself. A checkout right below / is left out:
// its path is too common a word.
func machinePattern(checkout string) *regexp.Regexp {
	alternatives := `/(?:home|Users)/([a-z][-a-z0-9_.]*)/|/root/(?:go|\.cache|src)/`
	if strings.Count(checkout, "/") > 1 {
		alternatives += "|" + regexp.QuoteMeta(checkout) + `\b`
	}
	return regexp.MustCompile(alternatives)
}

func TestMachinePattern(t *testing.T) {
	for text, want := range map[string]bool{
		"see /srv/checkouts/depguard/policy": true,
		"in /home/" + "carol/x":              true,
		"/root/" + "go/pkg/mod":              true,
		"/root/.netrc":                       false,
		"$HOME/x":                            false,
	} {
		if got := machinePattern("/srv/checkouts/depguard").MatchString(text); got != want {
			t.Errorf("%q: match %v, want %v", text, got, want)
		}
	}
	if machinePattern("/src").MatchString("in /src/hello.c") {
		t.Error("a checkout in /src makes every /src a breach")
	}
}

// layerOf returns the index in layers of dir's rule, the one with the longest
// prefix; -1 when there is none.
func layerOf(dir string) int {
	best := -1
	for i, l := range layers {
		if below(dir, l.dir) && (best < 0 || len(l.dir) > len(layers[best].dir)) {
			best = i
		}
	}
	return best
}

// matches reports whether the package pkg is named by patterns.
func matches(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		tree, ok := strings.CutSuffix(pattern, "/...")
		return pkg == pattern || ok && below(pkg, tree)
	})
}

// below reports whether dir is tree or lies below it.
func below(dir, tree string) bool {
	return dir == tree || strings.HasPrefix(dir, tree+"/")
}

func orNothing(patterns []string) string {
	if len(patterns) == 0 {
		return "nothing"
	}
	return strings.Join(patterns, ", ")
}

// moduleSources parses every Go file of the module.
func moduleSources(t *testing.T) []source {
	t.Helper()
	var sources []source
	walk(t, func(name string, content []byte) {
		if path.Ext(name) == ".go" {
			sources = append(sources, parse(t, name, content))
		}
	})
	if len(sources) == 0 {
		t.Fatal("no Go file found: the rules hold nothing")
	}
	return sources
}

func parse(t *testing.T, name string, content []byte) source {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, content, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return source{path: name, file: file}
}

// walk calls visit for every regular file of the module that git does not
// ignore, with its slash-separated path from the root.
func walk(t *testing.T, visit func(name string, content []byte)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(moduleRoot), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name == ".git" || name == "build" {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || ignored(name) {
			return nil
		}
		content, err := os.ReadFile(filepath.Join(moduleRoot, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		visit(name, content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ignored reports whether the file is a trace, which .gitignore keeps out.
func ignored(name string) bool {
	return slices.ContainsFunc([]string{".trace", ".trace-wal", ".trace-shm"}, func(suffix string) bool {
		return strings.HasSuffix(name, suffix)
	})
}
