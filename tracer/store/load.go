package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"os"
	"sync"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/tracer"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// maxCell bounds one text of a trace in bytes. The longest that depguard
// writes is a command line, which execve(2) limits to 6 MiB.
const maxCell = 64 << 20

// Load reads the trace at path, finished or not, without changing it or
// leaving a file beside it. Times are in UTC. A trace whose run has not
// ended has a zero Run.End; one that is being written may be read meanwhile,
// though not in the process that writes it.
//
// The file may be hostile: errors are ErrNotTrace, ErrNewer, ErrCorrupt or
// those of the filesystem.
func Load(path string) (*tracer.Trace, error) {
	t, err := load(path)
	if err != nil {
		return nil, fmt.Errorf("read trace %s: %w", path, err)
	}
	return t, nil
}

func load(path string) (t *tracer.Trace, err error) {
	size, err := sizes(path)
	if err != nil {
		return nil, err
	}
	params := url.Values{
		"mode":    {"ro"},
		"_pragma": {"trusted_schema(0)", "cell_size_check(1)"}, // sqlite.org/security.html
	}
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		params.Set("immutable", "1") // the file stands alone: no lock, no -shm
	} else {
		defer removeNew(path + "-shm")()
	}
	db, conn, err := open(path, params)
	if err != nil {
		return nil, classify(err)
	}
	defer func() { err = errors.Join(err, conn.Close(), db.Close()) }()
	if _, err := sqlite.Limit(conn, sqlite3.SQLITE_LIMIT_LENGTH, maxCell); err != nil {
		return nil, err
	}
	l := &loader{conn: conn, budget: size}
	if err := l.run(); err != nil {
		return nil, classify(err)
	}
	return &l.trace, nil
}

// sizes returns how many bytes the trace has, its log included. It refuses
// what is no regular file before anything can block on it.
func sizes(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, errors.Unwrap(err) // the caller names the path
	}
	if info.IsDir() {
		return 0, fmt.Errorf("%w: it is a directory; give the file that --trace wrote", ErrNotTrace)
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%w: it is not a regular file", ErrNotTrace)
	}
	size := info.Size()
	if wal, err := os.Stat(path + "-wal"); err == nil {
		size += wal.Size()
	}
	return size, nil
}

// removeNew returns a function that removes the file path if it does not
// exist yet: the index of a dead writer's log, which SQLite makes to read it.
func removeNew(path string) func() {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return func() {}
	}
	return func() { _ = os.Remove(path) } // it may be gone, or was never made
}

// classify turns SQLite's view of a bad file into ours.
func classify(err error) error {
	switch primary(err) {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: it is not an SQLite file", ErrNotTrace)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_FORMAT:
		return fmt.Errorf("%w: %w; sqlite3's .recover may save some of it", ErrCorrupt, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%w, or an unreadable one: %w", ErrCorrupt, err)
	case sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%w; a trace whose run was killed needs its -wal file beside it and a directory that can be written: copy them together to one", err)
	}
	return err
}

// loader reads one trace, table by table.
type loader struct {
	conn   *sql.Conn
	budget int64 // bytes of text the file can still have
	trace  tracer.Trace
	names  []string
	rules  []string
}

// run reads everything in one read transaction, so that a trace that is
// being written is seen at one moment.
func (l *loader) run() error {
	if _, err := l.conn.ExecContext(context.Background(), "BEGIN"); err != nil {
		return err
	}
	for _, step := range []func() error{
		l.checkHeader, l.checkSchema, l.loadRun, l.loadMechanisms, l.loadLosses, l.loadProcesses, l.loadFiles,
		l.loadNames, l.loadRules, l.loadAccesses, l.loadConnects, l.loadPackages, l.loadOwners, l.loadNameOwners,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	_, err := l.conn.ExecContext(context.Background(), "COMMIT")
	return err
}

func (l *loader) checkHeader() error {
	var id, version int64
	if err := l.conn.QueryRowContext(context.Background(), "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if err := l.conn.QueryRowContext(context.Background(), "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch {
	case id != applicationID:
		return fmt.Errorf("%w: it is another program's SQLite file", ErrNotTrace)
	case version > userVersion:
		return fmt.Errorf("%w: it has form %d, this depguard reads up to %d; update depguard", ErrNewer, version, userVersion)
	case version < 1:
		return corrupt("form %d", version)
	}
	return nil
}

// declarations returns how each table of schema.sql is declared, as
// sqlite_schema has it.
var declarations = sync.OnceValues(func() (map[string]string, error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // every connection has a memory of its own
	if _, err := db.Exec(schema); err != nil {
		return nil, err
	}
	rows, err := db.Query("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	tables := map[string]string{}
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			return nil, err
		}
		tables[name] = text
	}
	return tables, rows.Err()
})

// checkSchema holds every table to its declaration, word for word. What else
// the file defines (a person's own views) is never used.
func (l *loader) checkSchema() error {
	tables, err := declarations()
	if err != nil {
		return err
	}
	for name, want := range tables {
		var text string
		err := l.conn.QueryRowContext(context.Background(),
			"SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ? LIMIT 1", name).Scan(&text)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if text != want {
			return corrupt("table %s is not declared as in a trace of form %d", name, userVersion)
		}
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// each calls f for every row of query, which returns columns columns.
func (l *loader) each(table string, columns int, query string, f func(*row)) error {
	rows, err := l.conn.QueryContext(context.Background(), query)
	if err != nil {
		return err
	}
	defer rows.Close()
	r := row{loader: l, table: table, cells: make([]any, columns)}
	into := make([]any, columns)
	for i := range into {
		into[i] = &r.cells[i]
	}
	for ; rows.Next(); r.number++ {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		r.next = 0
		if f(&r); r.err != nil {
			return r.err
		}
	}
	return rows.Err()
}

// row hands out the cells of one row from left to right. The first cell that
// is not what it should be sets err; what is handed out then has no meaning.
type row struct {
	*loader
	table  string
	number int // rows before this one
	cells  []any
	next   int
	err    error
}

func (r *row) fail(format string, args ...any) {
	if r.err == nil {
		r.err = corrupt("table %s, row %d, column %d: %s", r.table, r.number, r.next, fmt.Sprintf(format, args...))
	}
}

func (r *row) cell() any {
	c := r.cells[r.next]
	r.next++
	return c
}

// integer returns an integer in [low, high].
func (r *row) integer(low, high int64) int64 {
	n, ok := r.cell().(int64)
	if !ok || n < low || n > high {
		r.fail("want an integer from %d to %d", low, high)
		return low
	}
	return n
}

// any64 returns any integer.
func (r *row) any64() int64 { return r.integer(math.MinInt64, math.MaxInt64) }

func (r *row) count() uint64 { return uint64(r.integer(0, math.MaxInt64)) }

func (r *row) flag() bool { return r.integer(0, 1) == 1 }

// id consumes the primary key, which counts rows.
func (r *row) id() { r.integer(int64(r.number), int64(r.number)) }

// index returns an index into a slice of length n.
func (r *row) index(n int) int {
	if n == 0 {
		r.fail("refers to an empty table")
		r.next++
		return 0
	}
	return int(r.integer(0, int64(n)-1))
}

// optional returns an index into a slice of length n, or -1 for NULL.
func (r *row) optional(n int) int {
	if r.cells[r.next] == nil {
		r.next++
		return -1
	}
	return r.index(n)
}

// text returns bytes kept by exact.
func (r *row) text() string {
	var s string
	switch c := r.cell().(type) {
	case string:
		s = c
	case []byte:
		s = string(c)
	default:
		r.fail("want text")
	}
	if r.budget -= int64(len(s)); r.budget < 0 {
		r.fail("the texts are longer than the file")
	}
	return s
}

func (r *row) list() []string {
	list, err := decodeList(r.text())
	if err != nil {
		r.fail("want a list: %v", err)
	}
	return list
}

// ascending reports a pair of keys that does not come after the last one.
func (r *row) ascending(last *[2]int, a, b int) {
	if r.number > 0 && (a < last[0] || a == last[0] && b <= last[1]) {
		r.fail("out of order")
	}
	*last = [2]int{a, b}
}

func (l *loader) loadRun() error {
	n := 0
	err := l.each("run", 14, "SELECT * FROM run ORDER BY id", func(r *row) {
		r.id()
		n++
		l.trace.Run = tracer.Run{
			Command: r.list(), Dir: r.text(), Workspace: r.list(), Mode: policy.Mode(r.text()), PolicyFile: r.text(), PolicyText: r.text(),
			Network: policy.Network(r.text()), Start: instant(r.any64()), End: instant(r.any64()),
			Status: int(r.integer(math.MinInt32, math.MaxInt32)), Kernel: r.text(), Version: r.text(), Tail: r.text(),
		}
	})
	if err == nil && n != 1 {
		return corrupt("table run has %d rows, want 1", n)
	}
	return err
}

func (l *loader) loadMechanisms() error {
	return l.each("mechanism", 4, "SELECT * FROM mechanism ORDER BY id", func(r *row) {
		r.id()
		l.trace.Run.Mechanisms = append(l.trace.Run.Mechanisms, tracer.Mechanism{Name: r.text(), Active: r.flag(), Detail: r.text()})
	})
}

func (l *loader) loadLosses() error {
	fields := map[string]*uint64{}
	for _, f := range lossNames {
		fields[f.name] = f.field(&l.trace.Run.Losses)
	}
	err := l.each("loss", 2, "SELECT * FROM loss", func(r *row) {
		name := r.text()
		field, ok := fields[name]
		if !ok {
			r.fail("loss %q is unknown or comes twice", name)
			return
		}
		delete(fields, name)
		*field = r.count()
	})
	if err == nil && len(fields) > 0 {
		return corrupt("table loss has not every loss") // silence must not read as zero
	}
	return err
}

func (l *loader) loadProcesses() error {
	return l.each("process", 6, "SELECT * FROM process ORDER BY id", func(r *row) {
		r.id()
		l.trace.Processes = append(l.trace.Processes, tracer.Process{
			PID: int(r.integer(math.MinInt32, math.MaxInt32)), Parent: r.optional(r.number), Exe: r.text(), Args: r.list(), Start: instant(r.any64()),
		})
	})
}

func (l *loader) loadFiles() error {
	return l.each("file", 6, "SELECT * FROM file ORDER BY id", func(r *row) {
		r.id()
		l.trace.Files = append(l.trace.Files, tracer.File{
			ID:   allowlist.FileID{Dev: uint64(r.any64()), Ino: uint64(r.any64()), Birth: r.any64()},
			Path: r.text(), Mode: uint32(r.integer(0, math.MaxUint32)),
		})
	})
}

func (l *loader) loadNames() error {
	return l.each("name", 2, "SELECT * FROM name ORDER BY id", func(r *row) {
		r.id()
		l.names = append(l.names, r.text())
	})
}

func (l *loader) loadRules() error {
	return l.each("rule", 2, "SELECT * FROM rule ORDER BY id", func(r *row) {
		r.id()
		l.rules = append(l.rules, r.text())
	})
}

func (l *loader) loadAccesses() error {
	t := &l.trace
	return l.each("access", 12, "SELECT * FROM access ORDER BY id", func(r *row) {
		r.id()
		a := tracer.Access{Process: r.index(len(t.Processes)), File: r.optional(len(t.Files))}
		name := r.index(len(l.names))
		op, verdict := r.text(), r.text()
		rule := r.index(len(l.rules))
		a.Created, a.Errno, a.Count = r.flag(), int(r.integer(0, math.MaxInt32)), r.count()
		a.First, a.Seen = instant(r.any64()), tracer.Witness(r.integer(0, int64(tracer.BySupervisor|tracer.ByKernel)))
		var known bool
		if a.Op, known = ops[op]; !known {
			r.fail("operation %q is unknown", op)
		}
		if a.Verdict, known = verdicts[verdict]; !known {
			r.fail("verdict %q is unknown", verdict)
		}
		if r.err != nil {
			return
		}
		a.Asked, a.Rule = l.names[name], l.rules[rule]
		t.Accesses = append(t.Accesses, a)
	})
}

func (l *loader) loadConnects() error {
	t := &l.trace
	return l.each("connect", 5, "SELECT * FROM connect ORDER BY id", func(r *row) {
		r.id()
		t.Connects = append(t.Connects, tracer.Connect{
			Process: r.index(len(t.Processes)), Family: r.text(), Address: r.text(), Count: r.count(),
		})
	})
}

func (l *loader) loadPackages() error {
	return l.each("package", 3, "SELECT * FROM package ORDER BY id", func(r *row) {
		r.id()
		l.trace.Packages = append(l.trace.Packages, tracer.Package{Name: r.text(), Version: r.text()})
	})
}

func (l *loader) loadOwners() error {
	t := &l.trace
	var last [2]int
	return l.each("owner", 2, "SELECT * FROM owner ORDER BY file, package", func(r *row) {
		file, pkg := r.index(len(t.Files)), r.index(len(t.Packages))
		if r.ascending(&last, file, pkg); r.err != nil {
			return
		}
		t.Files[file].Owners = append(t.Files[file].Owners, t.Packages[pkg].Name)
	})
}

func (l *loader) loadNameOwners() error {
	t := &l.trace
	var last [2]int
	return l.each("name_owner", 2, "SELECT * FROM name_owner ORDER BY name, package", func(r *row) {
		name, pkg := r.index(len(l.names)), r.index(len(t.Packages))
		if r.ascending(&last, name, pkg); r.err != nil {
			return
		}
		if t.NameOwners == nil {
			t.NameOwners = map[string][]string{}
		}
		t.NameOwners[l.names[name]] = append(t.NameOwners[l.names[name]], t.Packages[pkg].Name)
	})
}
