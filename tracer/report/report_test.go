package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/tracer"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

const both = tracer.BySupervisor | tracer.ByKernel

// build returns the trace of a small C build.
func build() *tracer.Trace {
	t := &tracer.Trace{
		Run: tracer.Run{
			Command: []string{"make", "-j2", "all"}, Dir: "/home/u/hello", Workspace: []string{"/home/u/hello"},
			Mode: policy.Audit, Network: policy.NetworkHost, Start: start, End: start.Add(3217 * time.Millisecond),
			Kernel: "6.18.0", Version: "v0.1.0",
			Mechanisms: []tracer.Mechanism{
				{Name: "notify", Active: true, Detail: "seccomp user notification"},
				{Name: "witness", Active: true, Detail: "tp_btf"},
				{Name: "guard", Detail: "audit refuses nothing"},
			},
		},
		Processes: []tracer.Process{
			{PID: 4700, Parent: -1, Exe: "/usr/bin/make", Args: []string{"make", "-j2", "all"}},
			{PID: 4711, Parent: 0, Exe: "/usr/libexec/gcc/cc1", Args: []string{"/usr/libexec/gcc/cc1", "-quiet", "hello.c", "-o", "/tmp/cc.s", "-I", "a b", strings.Repeat("x", 60)}},
			{PID: 4712, Parent: 1, Exe: "/usr/bin/ld", Args: []string{"ld", "-lz"}},
		},
		Files: []tracer.File{
			{Path: "/usr/include/stdio.h", Mode: 0o100644, Owners: []string{"libc6-dev"}},
			{Path: "/usr/include/zlib.h", Mode: 0o100644, Owners: []string{"zlib1g-dev"}},
			{Path: "/usr/include/zconf.h", Mode: 0o100644, Owners: []string{"zlib1g-dev"}},
			{Path: "/usr/lib/libz.so.1.2.13", Mode: 0o100644, Owners: []string{"zlib1g"}},
			{Path: "/home/u/hello/hello.c", Mode: 0o100644},
			{Path: "/opt/sdk/x.h", Mode: 0o100644},
			{Path: "/etc/ld.so.cache", Mode: 0o100644},
			{Path: "/usr/bin/make", Mode: 0o100755, Owners: []string{"make"}},
			{Path: "/usr/include", Mode: 0o040755, Owners: []string{"libc6-dev"}},
			{Path: "/var/cache/out", Mode: 0o100644},
			{Path: "/dev/null", Mode: 0o020666},
			{Path: "pipe:[17]", Mode: 0o010600},
			{Path: "/tmp/cc.s"},
		},
		Packages:   []tracer.Package{{Name: "libc6-dev", Version: "2.36-9"}, {Name: "make", Version: "4.3-4.1"}, {Name: "zlib1g", Version: "1:1.2.13"}, {Name: "zlib1g-dev", Version: "1:1.2.13"}},
		NameOwners: map[string][]string{"/usr/lib/libz.so": {"zlib1g", "zlib1g-dev"}},
	}
	add := func(process, file int, asked string, op policy.Access, count uint64) {
		if asked == "" {
			asked = t.Files[file].Path
		}
		t.Accesses = append(t.Accesses, tracer.Access{
			Process: process, File: file, Asked: asked, Op: op, Count: count,
			First: start.Add(time.Duration(len(t.Accesses)) * time.Millisecond), Seen: both,
		})
	}
	add(0, 7, "", policy.Exec, 1)
	add(1, 0, "", policy.Read, 1200)
	add(1, 1, "/usr/include/../include/zlib.h", policy.Read, 1)
	add(1, 2, "", policy.Read, 1)
	add(2, 3, "/usr/lib/libz.so", policy.Read, 2)
	add(1, 4, "", policy.Read, 1)
	add(1, 5, "", policy.Read, 3)
	add(1, 6, "", policy.Read, 3)
	add(1, -1, "/usr/local/include/zlib.h", policy.Read, 9)
	add(1, 8, "", policy.List, 1)
	add(2, 9, "", policy.Write, 1)
	add(1, 10, "", policy.Write, 1)
	add(1, 11, "", policy.Read, 1)
	add(1, 12, "", policy.Write, 1)
	t.Accesses[len(t.Accesses)-1].Created = true
	return t
}

// enforced returns build as enforce mode saw it without zlib declared.
func enforced() *tracer.Trace {
	t := build()
	t.Run.Mode, t.Run.Status, t.Run.PolicyFile = policy.Enforce, 2, "/home/u/hello/depguard.yaml"
	for i := range t.Accesses {
		a := &t.Accesses[i]
		switch {
		case a.File < 0:
			a.Verdict = allowlist.Hide // a miss is no refusal, whatever it says
		case slices.Contains([]int{1, 2, 3, 5, 7, 9}, a.File):
			a.Verdict, a.Errno = allowlist.Hide, 2
		}
	}
	t.Files = append(t.Files, tracer.File{Path: "/home/u/.netrc", Mode: 0o100600})
	t.Accesses = append(t.Accesses, tracer.Access{
		Process: 1, File: len(t.Files) - 1, Asked: "/home/u/.netrc", Op: policy.Read, Verdict: allowlist.Deny,
		Rule: "files ~/.netrc (line 9)", Count: 1, First: start.Add(time.Minute), Seen: both,
	})
	return t
}

// trouble returns a trace of which nearly everything is wrong, and hostile.
func trouble() *tracer.Trace {
	t := build()
	t.Run.Command = []string{"sh", "-c", "\x1b[2Jrm\n\u202egnp.exe", "\xff"}
	t.Run.End, t.Run.Status = time.Time{}, -1
	t.Run.Losses = tracer.Losses{KernelDropped: 12, IOUring: 1}
	t.Accesses[1].Seen = tracer.ByKernel
	t.Files[5].Path = "/opt/\xff\x1b]0;title\x07"
	for i := range 20 {
		t.Files = append(t.Files, tracer.File{Path: fmt.Sprintf("/opt/sdk/include/%d.h", i), Mode: 0o100644})
		t.Accesses = append(t.Accesses, tracer.Access{Process: 1, File: len(t.Files) - 1, Op: policy.Read, Count: 1, Seen: both})
	}
	for i := range 20 {
		pkg := fmt.Sprintf("lib%02d", i)
		t.Files = append(t.Files, tracer.File{Path: "/usr/lib/" + pkg, Mode: 0o100644, Owners: []string{pkg}})
		t.Packages = append(t.Packages, tracer.Package{Name: pkg, Version: "1"})
		t.Accesses = append(t.Accesses, tracer.Access{Process: 1, File: len(t.Files) - 1, Op: policy.Read, Count: 1, Seen: both})
	}
	t.Connects = []tracer.Connect{{Process: 1, Family: "inet", Address: "192.0.2.1:443", Count: 1}, {Process: 2, Family: "inet", Address: "192.0.2.1:443", Count: 1}}
	return t
}

func text(t *testing.T, trace *tracer.Trace, style Style) string {
	t.Helper()
	var b bytes.Buffer
	if err := Summarize(trace, policy.Base()).WriteText(&b, style); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGolden holds what people read, and what programs read, word for word.
func TestGolden(t *testing.T) {
	for name, got := range map[string]string{
		"audit.txt":    text(t, build(), Style{}),
		"enforce.txt":  text(t, enforced(), Style{}),
		"trouble.txt":  text(t, trouble(), Style{}),
		"full.txt":     text(t, trouble(), Style{Full: true, Width: 120}),
		"color.txt":    text(t, trouble(), Style{Color: true}),
		"enforce.json": marshal(t, enforced()),
		"trouble.json": marshal(t, trouble()),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s (go test -update rewrites it):\n%s\nwant:\n%s", name, got, want)
		}
	}
}

func marshal(t *testing.T, trace *tracer.Trace) string {
	t.Helper()
	data, err := json.MarshalIndent(Summarize(trace, policy.Base()), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data) + "\n"
}

// TestDeclaration pins the package that a hint names.
func TestDeclaration(t *testing.T) {
	for _, c := range []struct {
		owners, links string
		closure       bool
		want          string
	}{
		{"zlib1g-dev", "", false, "zlib1g-dev"},
		{"a b", "", false, "a"},
		{"zlib1g", "zlib1g", false, "zlib1g"},
		{"zlib1g", "zlib1g zlib1g-dev", true, "zlib1g-dev"},
		{"zlib1g", "zlib1g zlib1g-dev", false, "zlib1g-dev zlib1g"},
		{"", "gcc", false, "gcc"},
	} {
		got := declaration(strings.Fields(c.owners), strings.Fields(c.links), c.closure)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

// TestClosure pins that the hint knows whether the policy follows dependencies.
func TestClosure(t *testing.T) {
	trace := enforced()
	hint := "depguard policy add zlib1g-dev zlib1g"
	trace.Accesses = trace.Accesses[4:5] // libz.so
	if got := text(t, trace, Style{}); !strings.Contains(got, hint) {
		t.Errorf("without closure:\n%s", got)
	}
	trace.Run.PolicyText = "version: 1\npackages: {closure: true}\n"
	if got := text(t, trace, Style{}); strings.Contains(got, hint) || !strings.Contains(got, "depguard policy add zlib1g-dev") {
		t.Errorf("with closure:\n%s", got)
	}
}

// TestHostileTrace pins that indexes that lead nowhere, which only a trace
// that did not come from Load can have, do no harm.
func TestHostileTrace(t *testing.T) {
	text(t, &tracer.Trace{
		Accesses: []tracer.Access{{Process: 7, File: 9, Verdict: allowlist.Deny}, {Process: -1, File: -1, Created: true, Op: policy.Write}},
		Connects: []tracer.Connect{{Process: -5}},
	}, Style{Width: 1, Full: true})
}

// brokenPipe fails every write.
type brokenPipe struct{}

var errPipe = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errPipe }

func TestWriteError(t *testing.T) {
	if err := Summarize(build(), nil).WriteText(brokenPipe{}, Style{}); !errors.Is(err, errPipe) {
		t.Errorf("got %v", err)
	}
}

// TestScalar pins that what the hint says can be pasted into a policy.
func TestScalar(t *testing.T) {
	for _, file := range []string{"/opt/sdk/x.h", "/opt/a b", "/opt/é", `/opt/"q"`, "/opt/a, b}", "/opt/#x", "/opt/\u202e", "/opt/tab\there", "/opt/star*[a]"} {
		text := fmt.Sprintf("version: 1\nfiles: [{path: %s, access: r}]\n", scalar(file))
		p, err := policy.Parse("p", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := strings.ReplaceAll(p.Files[0].Path, `\`, ""); got != file {
			t.Errorf("%q became %q", file, got)
		}
	}
	if got := scalar("/opt/x/\xff/y"); got != "/opt/x/**" {
		t.Errorf("a name that is no UTF-8: %s", got)
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"/usr/include/zlib.h": "/usr/include/zlib.h",
		"é 日本":                "é 日本",
		"\x1b[31m":            `\x1b[31m`,
		"a\nb\tc\rd":          `a\nb\tc\x0dd`,
		`back\slash`:          `back\\slash`,
		"\xff\xc3":            `\xff\xc3`,
		"\u202egnp.exe":       `\u202egnp.exe`,
		"\u200b\u2028\u0085":  `\u200b\u2028\u0085`,
		"\U000e0001":          `\U000e0001`,
		"\x7f\x00":            `\x7f\x00`,
		"\ufffd":              "\ufffd",
	} {
		if got := Escape(in); got != want {
			t.Errorf("Escape(%q) = %s, want %s", in, got, want)
		}
	}
}

// FuzzEscape pins that nothing unprintable passes and that no two strings
// look the same.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "/usr", "\x1b]8;;http://x\x07", "\\x1b", "\xf0\x9f\x98", "\u2066\u2069", "\u0600"} {
		f.Add(s, "\\"+s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		got := Escape(a)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not UTF-8", got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q has %q", got, r)
			}
		}
		if a != b && got == Escape(b) {
			t.Fatalf("%q and %q both show as %s", a, b, got)
		}
		if n := utf8.RuneCountInString(cut(got, 10)); n > 10 {
			t.Fatalf("cut to %d characters", n)
		}
	})
}

// BenchmarkSummarize sorts 200,000 accesses of 5,000 files.
func BenchmarkSummarize(b *testing.B) {
	t := build()
	for i := range 5000 {
		t.Files = append(t.Files, tracer.File{Path: fmt.Sprintf("/usr/include/%d.h", i), Mode: 0o100644, Owners: []string{"libc6-dev"}})
	}
	for i := range 200_000 {
		t.Accesses = append(t.Accesses, tracer.Access{Process: i % 3, File: i % len(t.Files), Op: policy.Read, Count: 1, Seen: both})
	}
	base := policy.Base()
	for b.Loop() {
		Summarize(t, base)
	}
}
