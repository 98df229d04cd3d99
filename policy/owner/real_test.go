package owner

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// realDB opens the machine's own database. Where there is none the test is
// skipped, but with DEPGUARD_MUST_WORK=1 it fails.
func realDB(t testing.TB) DB {
	t.Helper()
	db, err := Open("/", "dpkg")
	if errors.Is(err, ErrNoDatabase) {
		unavailable(t, "this machine has no dpkg database")
	}
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func unavailable(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("DEPGUARD_MUST_WORK") == "1" {
		t.Fatalf("DEPGUARD_MUST_WORK=1: %s", reason)
	}
	t.Skip(reason)
}

// tool returns the path of a program that answers the same question.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		unavailable(t, "this machine has no "+name)
	}
	return path
}

// realFiles returns up to n regular files of the machine's packages, by
// canonical name, evenly spread, with the package that lists each.
func realFiles(t testing.TB, db DB, n int) map[string]string {
	t.Helper()
	var all []string
	by := make(map[string]string)
	for _, id := range db.Names() {
		files, err := db.Files(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			all = append(all, f)
			by[f] = id
		}
	}
	found := make(map[string]string)
	for i := 0; i < len(all) && len(found) < n; i += max(1, len(all)/(2*n)) {
		dir, err := filepath.EvalSymlinks(filepath.Dir(all[i]))
		if err != nil {
			continue
		}
		name := filepath.Join(dir, filepath.Base(all[i]))
		if st, err := os.Lstat(name); err == nil && st.Mode().IsRegular() {
			found[name] = by[all[i]]
		}
	}
	return found
}

func TestRealNames(t *testing.T) {
	query := tool(t, "dpkg-query")
	db := realDB(t)
	out, err := exec.Command(query, "-W", "-f", "${binary:Package} ${Architecture} ${Version} ${Essential} ${db:Status-Status}\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if status := f[len(f)-1]; status != "installed" && !strings.HasPrefix(status, "triggers-") {
			continue
		}
		n++
		p, ok := db.Lookup(f[0])
		if !ok || p.Arch != f[1] || p.Version != f[2] || p.Essential != (f[3] == "yes") {
			t.Errorf("dpkg-query has %q, Lookup has %+v, %v", f, p, ok)
		}
	}
	if names := db.Names(); len(names) != n {
		t.Errorf("%d packages, dpkg-query has %d", len(names), n)
	}
}

// Every file must be owned by the package that lists it, under the name by
// which processes see it.
func TestRealOwners(t *testing.T) {
	db := realDB(t)
	want := realFiles(t, db, 5000)
	if len(want) == 0 {
		t.Fatal("no files found")
	}
	paths := make([]string, 0, len(want))
	for p := range want {
		paths = append(paths, p)
	}
	got, err := db.Owners(paths)
	if err != nil {
		t.Fatal(err)
	}
	for p, id := range want {
		if !slices.Contains(got[p], id) {
			t.Errorf("owners of %s are %q, but %s lists it", p, got[p], id)
		}
	}
}

func TestRealVersions(t *testing.T) {
	dpkg := tool(t, "dpkg")
	versions := []string{"1.0", "1.0-1", "1.0~rc1", "1:0.9", "2.36-9+deb12u14", "2.36-9", "1.0a", "1.0+", "1.0.", "10", "9", "1.0-1~bpo1", "0:1.0"}
	for i, a := range versions {
		for _, b := range versions[i:] {
			want := 1
			for _, op := range []struct {
				name string
				c    int
			}{{"lt", -1}, {"eq", 0}} {
				if exec.Command(dpkg, "--compare-versions", a, op.name, b).Run() == nil {
					want = op.c
				}
			}
			if got := compareVersions(a, b); got != want {
				t.Errorf("compareVersions(%q, %q) = %d, dpkg says %d", a, b, got, want)
			}
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	realDB(b)
	for b.Loop() {
		if _, err := Open("/", "dpkg"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClosure(b *testing.B) {
	db := realDB(b)
	names := append(db.Essential(), "build-essential")
	for b.Loop() {
		db.Closure(names)
	}
}

func BenchmarkOwners500(b *testing.B) {
	db := realDB(b)
	paths := make([]string, 0, 500)
	for p := range realFiles(b, db, 500) {
		paths = append(paths, p)
	}
	b.Run("depguard", func(b *testing.B) {
		for b.Loop() {
			if _, err := db.Owners(paths); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(paths)), "paths")
		b.ReportMetric(float64(len(db.Names())), "packages")
	})
	b.Run("dpkg -S", func(b *testing.B) {
		dpkg := tool(b, "dpkg")
		found := 0
		for b.Loop() {
			out, _ := exec.Command(dpkg, append([]string{"-S"}, paths...)...).Output() // fails when one is not found
			found = bytes.Count(out, []byte("\n"))
		}
		b.ReportMetric(float64(found), "found")
	})
}
