package allowlist

import (
	"errors"
	"os"
	"testing"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/owner"
)

// realBuild returns a policy for C builds on this machine. Where there is no
// dpkg with build-essential the test is skipped, but with
// DEPGUARD_MUST_WORK=1 it fails.
func realBuild(t testing.TB) Options {
	t.Helper()
	db, err := owner.Open("/", "dpkg")
	if err != nil && !errors.Is(err, owner.ErrNoDatabase) {
		t.Fatal(err)
	}
	installed := false
	if err == nil {
		_, installed = db.Lookup("build-essential")
	}
	if !installed {
		const reason = "this machine has no dpkg database with build-essential"
		if os.Getenv("DEPGUARD_MUST_WORK") == "1" {
			t.Fatalf("DEPGUARD_MUST_WORK=1: %s", reason)
		}
		t.Skip(reason)
	}
	return Options{DB: db, Policy: &policy.Policy{
		Packages: policy.Packages{System: names("build-essential")},
		Files:    []policy.FileRule{{Set: "base"}},
	}}
}

func TestRealBuildEssential(t *testing.T) {
	m := machine{TB: t} // the root is /
	l, err := Compile(realBuild(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/usr/bin/make", "/usr/bin/dpkg", "/usr/bin/x86_64-linux-gnu-ld.bfd", "/usr/include/stdio.h"} {
		if v := m.decide(l, name, read); v.Action != Allow || v.Rule.Package == "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if v := m.decide(l, "/etc/passwd", read); v.Action != Allow || v.Rule.Text != "base /etc/passwd" {
		t.Errorf("/etc/passwd: %+v", v)
	}
	undeclared := t.TempDir() + "/file"
	if err := os.WriteFile(undeclared, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if v, ok := l.ByID(m.id(undeclared), read); ok {
		t.Errorf("a new file: %+v", v)
	}
	if s := l.Stats(); s.Packages < 50 || s.Files < 2000 {
		t.Errorf("stats %+v", s)
	}
}

func BenchmarkCompile(b *testing.B) {
	o := realBuild(b)
	for _, visit := range []bool{false, true} {
		name := "list"
		if visit {
			name = "visit"
			o.Visit = func(Grant) error { return nil }
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			files := 0
			for b.Loop() {
				l, err := Compile(o)
				if err != nil {
					b.Fatal(err)
				}
				files = l.Stats().Files
			}
			b.ReportMetric(float64(files), "files")
		})
	}
}
