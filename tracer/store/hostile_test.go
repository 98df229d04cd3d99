package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/depguard/depguard/tracer"
	"golang.org/x/sys/unix"
)

// finished returns the path of a small finished trace.
func finished(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace")
	trace := bulk(300)
	trace.Processes, trace.Files = trace.Processes[:300], trace.Files[:300]
	trace.Packages = []tracer.Package{{Name: "a"}, {Name: "b"}}
	trace.Files[7].Owners = []string{"a", "b"}
	for i := range trace.Accesses {
		trace.Accesses[i].File = i - 1
	}
	trace.NameOwners = map[string][]string{trace.Accesses[3].Asked: {"b"}}
	if err := create1(t, path, tracer.Run{}).Finish(trace); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := os.ReadFile(finished(t))
	if err != nil {
		t.Fatal(err)
	}
	patched := func(offset int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:offset]), b...), good[offset+len(b):]...)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want error
	}{
		{filepath.Join(dir, "missing"), os.ErrNotExist},
		{dir, ErrNotTrace},
		{fifo, ErrNotTrace},
		{"/dev/zero", ErrNotTrace},
		{file("empty", nil), ErrNotTrace},
		{file("text", []byte(strings.Repeat("not a database\n", 100))), ErrNotTrace},
		{file("other", patched(68, 0, 0, 0, 1)), ErrNotTrace},    // application_id
		{file("newer", patched(60, 0, 0, 0, 2)), ErrNewer},       // user_version
		{file("version 0", patched(60, 0, 0, 0, 0)), ErrCorrupt}, // user_version
		{file("half", good[:len(good)/2]), ErrCorrupt},           // truncated
		{file("head", good[:4096]), ErrCorrupt},                  // truncated
		{file("zeros", patched(5000, make([]byte, len(good)-5000)...)), ErrCorrupt},
	} {
		if _, err := Load(c.path); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.path, err, c.want)
		}
	}
}

// TestLoadChecks changes a good trace with SQL, as anyone can, and pins that
// Load refuses each change instead of believing it.
func TestLoadChecks(t *testing.T) {
	for _, statement := range []string{
		"UPDATE access SET file = 100000 WHERE id = 7",
		"UPDATE access SET file = -2 WHERE id = 7",
		"UPDATE access SET process = -1 WHERE id = 7",
		"UPDATE access SET name = 9223372036854775807 WHERE id = 7",
		"UPDATE access SET rule = 1 WHERE id = 7",
		"UPDATE access SET count = -1 WHERE id = 7",
		"UPDATE access SET errno = -1 WHERE id = 7",
		"UPDATE access SET seen = 4 WHERE id = 7",
		"UPDATE access SET created = 2 WHERE id = 7",
		"UPDATE access SET op = 'steal' WHERE id = 7",
		"UPDATE access SET verdict = 'maybe' WHERE id = 7",
		"UPDATE process SET parent = 7 WHERE id = 7",
		"UPDATE process SET parent = 8 WHERE id = 7",
		"UPDATE process SET args = '{' WHERE id = 7",
		"UPDATE process SET args = '[1]' WHERE id = 7",
		"UPDATE process SET args = '[{\"bytes\":1}]' WHERE id = 7",
		"UPDATE file SET path = 1.5 WHERE id = 7",
		"UPDATE file SET mode = 4294967296 WHERE id = 7",
		"UPDATE owner SET file = 100000",
		"UPDATE owner SET package = 2 WHERE package = 1",
		"UPDATE name_owner SET name = 100000",
		"UPDATE run SET status = 99999999999",
		"UPDATE run SET id = 1",
		"DELETE FROM run",
		"DELETE FROM access WHERE id = 7",
		"DELETE FROM process",
		"DELETE FROM package",
		"DELETE FROM loss WHERE name = 'foreign'",
		"INSERT INTO loss VALUES ('luck', 1)",
		"DROP TABLE connect",
		"ALTER TABLE access ADD COLUMN more ANY",
		"DROP TABLE access; CREATE VIEW access AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n) SELECT i,0,0,0,'read','allow',0,0,0,0,0,0 FROM n",
		"DROP TABLE name; CREATE TABLE name (id INTEGER PRIMARY KEY, path AS (zeroblob(1000000000)))",
		"PRAGMA user_version = -1",
	} {
		path := finished(t)
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		db.Close()
		if _, err := Load(path); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v", statement, err)
		}
	}
}

// TestOwnViews pins that what a person adds to a trace does no harm.
func TestOwnViews(t *testing.T) {
	path := finished(t)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE VIEW mine AS SELECT * FROM reads; CREATE INDEX i ON access(name)"); err != nil {
		t.Fatal(err)
	}
	load1(t, path)
}

// TestViews pins that the views of the schema answer.
func TestViews(t *testing.T) {
	path := finished(t)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for view, want := range map[string]int{"reads": 299, "writes": 0, "misses": 1, "undeclared": 0, "files_by_package": 2} {
		var n int
		if err := db.QueryRow("SELECT count(*) FROM " + view).Scan(&n); err != nil || n != want {
			t.Errorf("%s has %d rows, want %d: %v", view, n, want, err)
		}
	}
}

// FuzzLoad changes bytes of a good trace. Load may refuse or believe, but not
// panic, hang or answer with an index that leads nowhere.
func FuzzLoad(f *testing.F) {
	good, err := os.ReadFile(finished(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), []byte{})
	f.Add(uint32(100), []byte{0x05})
	f.Add(uint32(18), []byte{2, 2}) // WAL mode
	for page := range len(good) / 4096 {
		f.Add(uint32(page*4096), []byte{0x0d, 0, 0, 0, 1})
		f.Add(uint32(page*4096+8), []byte{0, 0, 0, 0})
		f.Add(uint32(page*4096+4000), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, offset uint32, change []byte) {
		data := bytes.Clone(good)
		copy(data[int(offset)%len(data):], change)
		path := filepath.Join(t.TempDir(), "trace")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		trace, err := Load(path)
		if err != nil {
			return
		}
		for _, a := range trace.Accesses {
			_ = trace.Processes[a.Process]
			if a.File >= 0 {
				_ = trace.Files[a.File]
			}
		}
		alone(t, path)
	})
}

// helperEnv makes the test binary act as a depguard that is about to be killed.
const helperEnv = "DEPGUARD_STORE_TEST_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(helperEnv); path != "" {
		appendForever(path)
	}
	os.Exit(m.Run())
}

// appendForever writes one line to stdout for every finished Append.
func appendForever(path string) {
	w, err := Create(path, tracer.Run{Command: []string{"make"}, Status: -1})
	if err != nil {
		panic(err)
	}
	d := tracer.Delta{Processes: []tracer.Row[tracer.Process]{{Index: 0, Value: tracer.Process{Parent: -1}}}}
	for i := 0; ; i++ {
		for j := range 100 {
			d.Accesses = append(d.Accesses, tracer.Row[tracer.Access]{Index: i*100 + j, Value: tracer.Access{File: -1, Asked: fmt.Sprint(i, j), Count: 1}})
		}
		if err := w.Append(d); err != nil {
			panic(err)
		}
		fmt.Println(i)
		d = tracer.Delta{}
	}
}

// killed starts a writer at path, kills it with SIGKILL after at least n
// Appends and returns how many it said it had finished.
func killed(t *testing.T, path string, n int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, buf := 0, make([]byte, 4096)
	for said < n {
		k, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the writer ended by itself: %v", err)
		}
		said += bytes.Count(buf[:k], []byte("\n"))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		k, err := out.Read(buf)
		said += bytes.Count(buf[:k], []byte("\n"))
		if err != nil {
			break
		}
	}
	_ = cmd.Wait() // killed, as asked
	return said
}

// TestKilled pins promise 4 at its worst moment: what was appended before
// SIGKILL is there, whole transactions of it, and the run has no end.
func TestKilled(t *testing.T) {
	for _, n := range []int{1, 5, 60} { // 60 transactions fold the log at least once
		path := filepath.Join(t.TempDir(), "trace")
		said := killed(t, path, n)
		for _, gone := range []string{"", "-shm"} { // a trace that was copied has no -shm
			if gone != "" {
				os.Remove(path + gone)
			}
			trace := load1(t, path)
			if !trace.Run.End.IsZero() || trace.Run.Status != -1 {
				t.Errorf("the run has an end: %v", trace.Run)
			}
			if got := len(trace.Accesses); got < said*100 || got%100 != 0 {
				t.Errorf("%d accesses, but %d Appends of 100 were finished", got, said)
			}
			if _, err := os.Stat(path + "-shm"); (gone == "") != (err == nil) {
				t.Errorf("-shm removed: %q, then: %v", gone, err)
			}
		}
		if err := create1(t, path, tracer.Run{}).Finish(&tracer.Trace{}); err != nil {
			t.Errorf("the next run cannot replace it: %v", err)
		}
		alone(t, path)
	}
}

// TestReadMeanwhile pins that a trace can be read by another process while it
// is written, and that such a reader costs the writer nothing.
func TestReadMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	w := create1(t, path, tracer.Run{})
	trace := &tracer.Trace{Processes: []tracer.Process{{Parent: -1}}}
	if err := w.Append(all(trace)); err != nil {
		t.Fatal(err)
	}
	reader, err := sql.Open("sqlite", path) // SQLite shares locks within a process
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	tx, err := reader.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		if err := tx.QueryRow("SELECT count(*) FROM access").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(); n != 0 {
		t.Fatalf("%d accesses", n)
	}
	trace.Accesses = []tracer.Access{{File: -1}}
	if err := w.Append(all(trace)); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Errorf("the reader's moment moved: %d accesses", n)
	}
	if err := w.Finish(trace); err != nil {
		t.Errorf("finish with a reader: %v", err)
	}
	_ = tx.Rollback()
	_ = reader.Close()
	same(t, load1(t, path), trace)
}

// TestQuota fills the database up to a number of pages, as TestDiskFull does with a
// real filesystem, where user namespaces are not to be had.
func TestQuota(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	w := create1(t, path, tracer.Run{Status: -1})
	if _, err := w.conn.ExecContext(context.Background(), "PRAGMA max_page_count = 200"); err != nil {
		t.Fatal(err)
	}
	full(t, w, path)
}

// full appends until the disk is full, and checks what then is left.
func full(t *testing.T, w *Writer, path string) {
	t.Helper()
	d := tracer.Delta{Processes: []tracer.Row[tracer.Process]{{Index: 0, Value: tracer.Process{Parent: -1}}}}
	kept := 0
	var err error
	for kept < 1_000_000 {
		for i := range 500 {
			d.Accesses = append(d.Accesses, tracer.Row[tracer.Access]{Index: kept + i, Value: tracer.Access{File: -1, Asked: strings.Repeat("x", 100) + fmt.Sprint(kept+i)}})
		}
		if err = w.Append(d); err != nil {
			break
		}
		kept += 500
		d = tracer.Delta{}
	}
	if err == nil || !strings.Contains(err.Error(), "disk full") || !strings.Contains(err.Error(), "--trace") {
		t.Errorf("got %v", err)
	}
	if err := w.Finish(&tracer.Trace{Run: tracer.Run{Tail: strings.Repeat("long", 1<<20)}}); err == nil {
		t.Error("finished on a full disk")
	}
	trace := load1(t, path)
	if len(trace.Accesses) != kept || kept == 0 {
		t.Errorf("%d accesses are left of %d", len(trace.Accesses), kept)
	}
	if trace.Run.Status != -1 {
		t.Error("the run has an end")
	}
}
