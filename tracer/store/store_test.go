package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/tracer"
)

// text returns a string of the kinds that occur: words, empty, not UTF-8,
// with controls and NUL, and what looks like this package's own JSON.
func text(r *rand.Rand) string {
	switch r.IntN(6) {
	case 0:
		return ""
	case 1:
		b := make([]byte, r.IntN(20))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	case 2:
		return "nul\x00 and \xff"
	case 3:
		return `{"bytes":"eA=="}`
	case 4:
		return "\u202e\ufffd<é>\n"
	}
	return fmt.Sprintf("/usr/include/%d.h", r.IntN(50))
}

// fill sets every field of v, which is how a field that is added to the model
// and not to the store makes the round trip fail.
func fillRandom(r *rand.Rand, v reflect.Value) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = instant(r.Int64() >> 1)
		return
	case *policy.Access:
		*x = policy.Access(r.IntN(16))
		return
	case *allowlist.Action:
		*x = allowlist.Action(r.IntN(3))
		return
	case *tracer.Witness:
		*x = tracer.Witness(r.IntN(4))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text(r))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 1)
	case reflect.Int:
		v.SetInt(int64(r.Int32()))
	case reflect.Int64:
		v.SetInt(r.Int64() - r.Int64())
	case reflect.Uint32:
		v.SetUint(uint64(r.Uint32()))
	case reflect.Uint64: // counts
		v.SetUint([]uint64{0, 1, 7, math.MaxInt64}[r.IntN(4)])
	case reflect.Struct:
		for i := range v.NumField() {
			fillRandom(r, v.Field(i))
		}
	case reflect.Slice:
		for range r.IntN(5) {
			e := reflect.New(v.Type().Elem()).Elem()
			fillRandom(r, e)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Map: // NameOwners, made by link
	default:
		panic("no random " + v.Type().String())
	}
}

// random returns a trace with every field set and every index valid.
func random(r *rand.Rand) *tracer.Trace {
	t := &tracer.Trace{}
	fillRandom(r, reflect.ValueOf(t).Elem())
	t.Processes = append(t.Processes, tracer.Process{})
	t.Packages = nil
	for i := range r.IntN(5) {
		t.Packages = append(t.Packages, tracer.Package{Name: fmt.Sprintf("p%d\xff", i), Version: text(r)})
	}
	owners := func() (names []string) {
		for _, p := range t.Packages {
			if r.IntN(2) == 0 {
				names = append(names, p.Name)
			}
		}
		return names
	}
	for i := range t.Processes {
		t.Processes[i].Parent = r.IntN(i+1) - 1
	}
	for i := range t.Files {
		t.Files[i].ID.Dev, t.Files[i].ID.Ino = r.Uint64(), r.Uint64()
		t.Files[i].Owners = owners()
	}
	for i := range t.Accesses {
		a := &t.Accesses[i]
		a.Process, a.File = r.IntN(len(t.Processes)), r.IntN(len(t.Files)+1)-1
		if o := owners(); o != nil {
			if t.NameOwners == nil {
				t.NameOwners = map[string][]string{}
			}
			t.NameOwners[a.Asked] = o
		}
	}
	for i := range t.Connects {
		t.Connects[i].Process = r.IntN(len(t.Processes))
	}
	return t
}

// all returns the whole of t as a Delta.
func all(t *tracer.Trace) tracer.Delta {
	return tracer.Delta{Processes: rows(t.Processes), Files: rows(t.Files), Accesses: rows(t.Accesses), Connects: rows(t.Connects)}
}

func create1(t testing.TB, path string, run tracer.Run) *Writer {
	t.Helper()
	w, err := Create(path, run)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func load1(t testing.TB, path string) *tracer.Trace {
	t.Helper()
	trace, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return trace
}

func same(t *testing.T, got, want *tracer.Trace) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	g, _ := json.MarshalIndent(got, "", " ")
	w, _ := json.MarshalIndent(want, "", " ")
	t.Fatalf("got %s\nwant %s", g, w)
}

// alone fails unless path is the only file of its directory.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("%s was left beside the trace", e.Name())
		}
	}
}

// TestRoundTrip writes random traces in random portions, some rows early with
// values that change later, and reads them back.
func TestRoundTrip(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		want := random(r)
		path := filepath.Join(t.TempDir(), "a ?#%41\xff.trace")
		w := create1(t, path, tracer.Run{Status: -1})
		d := all(want)
		cut := func(n int) int { return r.IntN(n + 1) }
		early := tracer.Delta{Processes: d.Processes, Files: d.Files[:cut(len(d.Files))], Connects: d.Connects[:cut(len(d.Connects))]}
		for _, row := range d.Accesses[:cut(len(d.Accesses))] {
			row.Value.Count, row.Value.File = 0, -1
			early.Accesses = append(early.Accesses, row)
		}
		if err := w.Append(early); err != nil {
			t.Fatal(err)
		}
		if r.IntN(2) == 0 {
			if err := w.Append(d); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Finish(want); err != nil {
			t.Fatal(err)
		}
		alone(t, path)
		same(t, load1(t, path), want)
		alone(t, path)
	}
}

// TestCountsSaturate pins what becomes of a count that SQLite can't hold.
func TestCountsSaturate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	w := create1(t, path, tracer.Run{Losses: tracer.Losses{Foreign: math.MaxUint64}})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := load1(t, path).Run.Losses.Foreign; got != math.MaxInt64 {
		t.Errorf("got %d", got)
	}
}

// TestLossNames pins that every field of Losses has a row of its own.
func TestLossNames(t *testing.T) {
	if want := reflect.TypeFor[tracer.Losses]().NumField(); len(lossNames) != want {
		t.Fatalf("%d names for %d fields", len(lossNames), want)
	}
	var l tracer.Losses
	for _, n := range lossNames {
		*n.field(&l)++
	}
	v := reflect.ValueOf(l)
	for i := range v.NumField() {
		if v.Field(i).Uint() != 1 {
			t.Errorf("%s has %d names", v.Type().Field(i).Name, v.Field(i).Uint())
		}
	}
}

// TestUnfinished pins that every finished Append is there, and that Run.End
// tells that more was to come.
func TestUnfinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	w := create1(t, path, tracer.Run{Command: []string{"make"}, Status: -1})
	want := &tracer.Trace{Processes: []tracer.Process{{PID: 1, Parent: -1}}, Accesses: []tracer.Access{{File: -1, Asked: "/x", Op: policy.Read, Count: 3}}}
	if err := w.Append(all(want)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if held := descriptors(t, path); len(held) > 0 {
		t.Errorf("after Close open: %q", held)
	}
	want.Run = tracer.Run{Command: []string{"make"}, Status: -1}
	same(t, load1(t, path), want)
	if err := w.Append(tracer.Delta{}); err == nil {
		t.Error("a closed Writer appends")
	}
	if err := w.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// descriptors returns the open files of this process whose names begin with path.
func descriptors(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(name, path) {
			names = append(names, name)
		}
	}
	return names
}

// TestAppendRefuses pins that rows which could not be loaded again are
// refused as a whole, and that the Writer goes on.
func TestAppendRefuses(t *testing.T) {
	process := []tracer.Row[tracer.Process]{{Index: 0, Value: tracer.Process{Parent: -1}}}
	access := func(i int, a tracer.Access) tracer.Delta {
		return tracer.Delta{Processes: process, Accesses: []tracer.Row[tracer.Access]{{Index: i, Value: a}}}
	}
	for name, d := range map[string]tracer.Delta{
		"hole":            access(1, tracer.Access{File: -1}),
		"negative index":  access(-1, tracer.Access{File: -1}),
		"unknown process": access(0, tracer.Access{Process: 1, File: -1}),
		"unknown file":    access(0, tracer.Access{File: 0}),
		"operation":       access(0, tracer.Access{File: -1, Op: 128}),
		"verdict":         access(0, tracer.Access{File: -1, Verdict: 9}),
		"own parent":      {Processes: []tracer.Row[tracer.Process]{{Index: 0, Value: tracer.Process{Parent: 0}}}},
		"file hole":       {Files: []tracer.Row[tracer.File]{{Index: 2, Value: tracer.File{}}}},
		"connect process": {Connects: []tracer.Row[tracer.Connect]{{Index: 0, Value: tracer.Connect{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "trace")
			w := create1(t, path, tracer.Run{})
			if err := w.Append(d); err == nil {
				t.Error("appended")
			}
			want := &tracer.Trace{
				Processes: []tracer.Process{{Parent: -1}},
				Accesses:  []tracer.Access{{File: -1, Asked: "/a"}},
			}
			if err := w.Finish(want); err != nil {
				t.Fatal(err)
			}
			same(t, load1(t, path), want)
		})
	}
}

// TestRollbackForgets pins that a failed Append leaves no trace in the
// Writer's memory: neither names nor the values of rows that existed.
func TestRollbackForgets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	w := create1(t, path, tracer.Run{})
	old := &tracer.Trace{Processes: []tracer.Process{{Parent: -1}}, Accesses: []tracer.Access{{File: -1, Asked: "/a", Count: 1}}}
	if err := w.Append(all(old)); err != nil {
		t.Fatal(err)
	}
	want := &tracer.Trace{Processes: old.Processes, Accesses: []tracer.Access{
		{File: -1, Asked: "/a", Count: 2}, {File: -1, Asked: "/new", Rule: "r"},
	}}
	d := all(want)
	d.Accesses = append(d.Accesses, tracer.Row[tracer.Access]{Index: 9, Value: tracer.Access{File: -1}})
	if err := w.Append(d); err == nil {
		t.Fatal("appended a hole")
	}
	if err := w.Finish(want); err != nil {
		t.Fatal(err)
	}
	same(t, load1(t, path), want)
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sqliteFile := "SQLite format 3\x00" + string(make([]byte, 100))
	for path, want := range map[string]error{
		write("notes", "mine"):            ErrNotTrace,
		write("empty", ""):                ErrNotTrace,
		write("other.sqlite", sqliteFile): ErrNotTrace,
		dir:                               nil,
		"/dev/null":                       nil,
		filepath.Join(dir, "no", "dir"):   os.ErrNotExist,
	} {
		before, _ := os.ReadFile(path)
		w, err := Create(path, tracer.Run{})
		if err == nil {
			w.Close()
			t.Errorf("%s was replaced", path)
			continue
		}
		if want != nil && !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
		if after, _ := os.ReadFile(path); !slices.Equal(before, after) {
			t.Errorf("%s changed", path)
		}
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 3 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestCreateReplaces pins that a new trace takes nothing over from the one
// before, whose log a killed run left, and follows a symbolic link.
func TestCreateReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "trace")
	old := create1(t, path, tracer.Run{Tail: "old"})
	if err := old.Append(tracer.Delta{Processes: []tracer.Row[tracer.Process]{{Index: 0, Value: tracer.Process{Parent: -1}}}}); err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"-wal", wal, 0o644); err != nil { // as after kill -9
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("trace", link); err != nil {
		t.Fatal(err)
	}
	want := &tracer.Trace{Run: tracer.Run{Tail: "new"}}
	if err := create1(t, link, tracer.Run{}).Finish(want); err != nil {
		t.Fatal(err)
	}
	same(t, load1(t, path), want)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", info, err)
	}
}

// TestTwoWriters pins that a trace in use is not replaced.
func TestTwoWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	w := create1(t, path, tracer.Run{})
	if _, err := Create(path, tracer.Run{}); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want %v", err, ErrBusy)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := create1(t, path, tracer.Run{}).Close(); err != nil {
		t.Error(err)
	}
}

// bulk returns n accesses such as a large build makes: 2,000 processes that
// ask for 20,000 names.
func bulk(n int) *tracer.Trace {
	t := &tracer.Trace{}
	for i := range 2000 {
		t.Processes = append(t.Processes, tracer.Process{PID: i, Parent: i - 1, Exe: "/usr/bin/cc1", Args: []string{"cc1", "-quiet", "hello.c"}})
	}
	for i := range 5000 {
		t.Files = append(t.Files, tracer.File{ID: allowlist.FileID{Dev: 1, Ino: uint64(i)}, Path: fmt.Sprintf("/usr/include/dir/file%d.h", i), Mode: 0o100644})
	}
	for i := range n {
		a := tracer.Access{Process: i % 2000, File: i%10000 - 5000, Asked: fmt.Sprintf("/usr/lib/gcc/x86_64-linux-gnu/12/include/file%d.h", i%20000), Op: policy.Read, Rule: "package libc6-dev", Count: 1, First: time.Unix(1, int64(i)), Seen: tracer.BySupervisor}
		a.File = max(a.File, -1)
		t.Accesses = append(t.Accesses, a)
	}
	return t
}

// BenchmarkAppend writes 200,000 accesses in 20 transactions and finishes.
func BenchmarkAppend(b *testing.B) {
	const n = 200_000
	trace := bulk(n)
	b.ReportAllocs()
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "trace")
		w := create1(b, path, tracer.Run{})
		d := all(trace)
		first := d
		for part := range slices.Chunk(d.Accesses, n/20) {
			first.Accesses = part
			if err := w.Append(first); err != nil {
				b.Fatal(err)
			}
			first = tracer.Delta{}
		}
		if err := w.Finish(trace); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/access")
}

// BenchmarkLoad reads what BenchmarkAppend writes.
func BenchmarkLoad(b *testing.B) {
	path := filepath.Join(b.TempDir(), "trace")
	trace := bulk(200_000)
	if err := create1(b, path, tracer.Run{}).Finish(trace); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		load1(b, path)
	}
}

// BenchmarkCreate is what a run waits for before the build starts.
func BenchmarkCreate(b *testing.B) {
	path := filepath.Join(b.TempDir(), "trace")
	for b.Loop() {
		if err := create1(b, path, tracer.Run{}).Close(); err != nil {
			b.Fatal(err)
		}
	}
}
