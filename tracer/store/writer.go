package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"net/url"
	"os"
	"slices"

	"github.com/depguard/depguard/tracer"
	sqlite3 "modernc.org/sqlite/lib"
)

// Writer adds to the trace of a run that goes on. It is not safe for
// concurrent use.
type Writer struct {
	path string
	lock *os.File // holds the flock; closed last, since closing any descriptor of a file drops SQLite's fcntl locks on it
	db   *sql.DB
	conn *sql.Conn

	statements                     []*sql.Stmt // all of them; an open one would keep the file open after Close
	process, file, access, connect *sql.Stmt
	names, rules                   interner

	// What is in the file, so that Finish writes only what is not: the
	// number of rows, and for the two long tables a fingerprint of each row.
	processes, files   int
	accesses, connects []uint64
	seed               maphash.Seed
}

// openWriter opens the trace that draft made for appending.
func openWriter(path string, lock *os.File) (*Writer, error) {
	// NORMAL syncs when the log is folded into the file, not at every
	// transaction: a power cut may lose the last ones, never the file
	// (sqlite.org/pragma.html#pragma_synchronous). Where the filesystem has
	// no shared memory for WAL, SQLite stays with its rollback journal.
	db, conn, err := open(path, url.Values{"mode": {"rw"}, "_journal_mode": {"WAL"}, "_synchronous": {"NORMAL"}})
	if err != nil {
		return nil, explain(err)
	}
	w := &Writer{path: path, lock: lock, db: db, conn: conn, seed: maphash.MakeSeed()}
	if err := w.prepare(); err != nil {
		return nil, errors.Join(explain(err), w.closeDatabase())
	}
	return w, nil
}

// prepare compiles the statements that Append repeats.
func (w *Writer) prepare() error {
	w.names.ids, w.rules.ids = map[string]int{}, map[string]int{}
	for _, s := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.process, "INSERT OR REPLACE INTO process VALUES (?,?,?,?,?,?)"},
		{&w.file, "INSERT OR REPLACE INTO file VALUES (?,?,?,?,?,?)"},
		{&w.access, "INSERT OR REPLACE INTO access VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&w.connect, "INSERT OR REPLACE INTO connect VALUES (?,?,?,?,?)"},
		{&w.names.insert, "INSERT INTO name VALUES (?,?)"},
		{&w.rules.insert, "INSERT INTO rule VALUES (?,?)"},
	} {
		stmt, err := w.conn.PrepareContext(context.Background(), s.text)
		if err != nil {
			return err
		}
		*s.stmt = stmt
		w.statements = append(w.statements, stmt)
	}
	return nil
}

// Append adds the rows of d in one transaction: all of them or, with an
// error, none. After an error the Writer goes on working; Finish writes what
// is missing then, if it can.
//
// Rows may come again with new values. A new row's Index is the next one of
// its slice, and what it refers to is in the file or in d.
func (w *Writer) Append(d tracer.Delta) error {
	return w.transaction(func() error { return w.write(d) })
}

// Finish writes the end of the run: every row that was not yet appended, the
// head, losses, owners and packages. It closes the Writer in any case.
// Without an error the trace is one file that stands alone.
//
// Should another program be reading the file right now, -wal and -shm stay
// until that program is done with them.
func (w *Writer) Finish(trace *tracer.Trace) error {
	err := w.transaction(func() error {
		if err := w.write(w.missing(trace)); err != nil {
			return err
		}
		if err := writeRun(context.Background(), w.conn, &trace.Run); err != nil {
			return err
		}
		return w.writeOwners(trace)
	})
	if err == nil {
		err = w.fold()
	}
	return errors.Join(err, w.Close())
}

// Close gives up the file and leaves it as the last Append did: readable,
// with a run that has no end. After Finish it does nothing.
func (w *Writer) Close() error {
	if w.db == nil {
		return nil
	}
	err := errors.Join(w.closeDatabase(), w.lock.Close())
	w.db = nil
	return err
}

func (w *Writer) closeDatabase() error {
	var errs []error
	for _, s := range w.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

// fold moves the log into the file and leaves WAL mode, so that a reader
// without write permission needs no -shm.
func (w *Writer) fold() error {
	ctx := context.Background()
	if _, err := w.conn.ExecContext(ctx, "PRAGMA busy_timeout = 100"); err != nil {
		return w.failed(err)
	}
	_, err := w.conn.ExecContext(ctx, "PRAGMA journal_mode = DELETE")
	if err == nil || primary(err) == sqlite3.SQLITE_BUSY {
		return nil // busy: the reader folds when it is done
	}
	return w.failed(err)
}

// transaction runs f between BEGIN and COMMIT, and takes back on an error
// what f wrote and remembered.
func (w *Writer) transaction(f func() error) error {
	if w.db == nil {
		return fmt.Errorf("BUG: trace %s is closed", w.path)
	}
	ctx := context.Background()
	processes, files, accesses, connects := w.processes, w.files, len(w.accesses), len(w.connects)
	_, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	if err == nil {
		if err = f(); err == nil {
			_, err = w.conn.ExecContext(ctx, "COMMIT")
		}
	}
	if err == nil {
		w.names.keep()
		w.rules.keep()
		return nil
	}
	// SQLite may have rolled back by itself; then this fails, rightly.
	_, _ = w.conn.ExecContext(ctx, "ROLLBACK")
	w.names.drop()
	w.rules.drop()
	w.processes, w.files = processes, files
	w.accesses, w.connects = w.accesses[:accesses], w.connects[:connects]
	// Rows that existed may have been remembered with values that were taken back.
	clear(w.accesses)
	clear(w.connects)
	return w.failed(err)
}

// failed says which trace could not be written, and why.
func (w *Writer) failed(err error) error {
	return fmt.Errorf("write trace %s: %w", w.path, explain(err))
}

// missing returns what of trace is not in the file. Processes and files are
// few and go again as a whole.
func (w *Writer) missing(trace *tracer.Trace) tracer.Delta {
	d := tracer.Delta{Processes: rows(trace.Processes), Files: rows(trace.Files)}
	for i, a := range trace.Accesses {
		if i >= len(w.accesses) || w.accesses[i] != maphash.Comparable(w.seed, a) {
			d.Accesses = append(d.Accesses, tracer.Row[tracer.Access]{Index: i, Value: a})
		}
	}
	for i, c := range trace.Connects {
		if i >= len(w.connects) || w.connects[i] != maphash.Comparable(w.seed, c) {
			d.Connects = append(d.Connects, tracer.Row[tracer.Connect]{Index: i, Value: c})
		}
	}
	return d
}

func rows[T any](s []T) []tracer.Row[T] {
	all := make([]tracer.Row[T], len(s))
	for i, v := range s {
		all[i] = tracer.Row[T]{Index: i, Value: v}
	}
	return all
}

// write writes the rows of d in the order of what refers to what.
func (w *Writer) write(d tracer.Delta) error {
	for _, r := range d.Files {
		if err := w.writeFile(r.Index, &r.Value); err != nil {
			return err
		}
	}
	for _, r := range d.Processes {
		if err := w.writeProcess(r.Index, &r.Value); err != nil {
			return err
		}
	}
	for _, r := range d.Accesses {
		if err := w.writeAccess(r.Index, &r.Value); err != nil {
			return err
		}
	}
	for _, r := range d.Connects {
		if err := w.writeConnect(r.Index, &r.Value); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) writeFile(i int, f *tracer.File) error {
	if err := within("file", i, 0, w.files); err != nil {
		return err
	}
	w.files = max(w.files, i+1)
	_, err := w.file.Exec(i, int64(f.ID.Dev), int64(f.ID.Ino), f.ID.Birth, exact(f.Path), int64(f.Mode))
	return err
}

func (w *Writer) writeProcess(i int, p *tracer.Process) error {
	// A parent comes before its children: whoever walks up, arrives.
	if err := errors.Join(within("process", i, 0, w.processes), within("parent of a process", p.Parent, -1, i-1)); err != nil {
		return err
	}
	w.processes = max(w.processes, i+1)
	_, err := w.process.Exec(i, p.PID, index(p.Parent), exact(p.Exe), encodeList(p.Args), nanoseconds(p.Start))
	return err
}

func (w *Writer) writeAccess(i int, a *tracer.Access) error {
	err := errors.Join(within("access", i, 0, len(w.accesses)), checkEnumerations(a),
		within("process of an access", a.Process, 0, w.processes-1), within("file of an access", a.File, -1, w.files-1))
	if err != nil {
		return err
	}
	name, err := w.names.id(a.Asked)
	if err != nil {
		return err
	}
	rule, err := w.rules.id(a.Rule)
	if err != nil {
		return err
	}
	w.accesses = remember(w.accesses, i, maphash.Comparable(w.seed, *a))
	_, err = w.access.Exec(i, a.Process, index(a.File), name, a.Op.String(), a.Verdict.String(), rule,
		a.Created, a.Errno, saturate(a.Count), nanoseconds(a.First), int64(a.Seen))
	return err
}

func (w *Writer) writeConnect(i int, c *tracer.Connect) error {
	err := errors.Join(within("connect", i, 0, len(w.connects)), within("process of a connect", c.Process, 0, w.processes-1))
	if err != nil {
		return err
	}
	w.connects = remember(w.connects, i, maphash.Comparable(w.seed, *c))
	_, err = w.connect.Exec(i, c.Process, exact(c.Family), exact(c.Address), saturate(c.Count))
	return err
}

// within reports an index outside [low, high]: a trace with a hole or a
// dangling reference could not be loaded again.
func within(what string, i, low, high int) error {
	if i < low || i > high {
		return fmt.Errorf("BUG: %s has index %d, want %d to %d", what, i, low, high)
	}
	return nil
}

// remember sets prints[i], which exists or is the next.
func remember(prints []uint64, i int, print uint64) []uint64 {
	if i == len(prints) {
		return append(prints, print)
	}
	prints[i] = print
	return prints
}

// writeOwners writes the packages and what they own.
func (w *Writer) writeOwners(trace *tracer.Trace) error {
	ctx := context.Background()
	ids := map[string]int{}
	for i, p := range trace.Packages {
		ids[p.Name] = i
		if _, err := w.conn.ExecContext(ctx, "INSERT INTO package VALUES (?,?,?)", i, exact(p.Name), exact(p.Version)); err != nil {
			return err
		}
	}
	own := func(statement string, id int, owners []string) error {
		for _, name := range owners {
			p, ok := ids[name]
			if !ok {
				return fmt.Errorf("BUG: owner %q is not among the packages", name)
			}
			if _, err := w.conn.ExecContext(ctx, statement, id, p); err != nil {
				return err
			}
		}
		return nil
	}
	for i, f := range trace.Files {
		if err := own("INSERT OR IGNORE INTO owner VALUES (?,?)", i, f.Owners); err != nil {
			return err
		}
	}
	for _, asked := range slices.Sorted(maps.Keys(trace.NameOwners)) {
		id, err := w.names.id(asked)
		if err != nil {
			return err
		}
		if err := own("INSERT OR IGNORE INTO name_owner VALUES (?,?)", id, trace.NameOwners[asked]); err != nil {
			return err
		}
	}
	return nil
}

// writeRun writes the head of the trace with its mechanisms and losses.
func writeRun(ctx context.Context, conn *sql.Conn, r *tracer.Run) error {
	_, err := conn.ExecContext(ctx, "INSERT OR REPLACE INTO run VALUES (0,?,?,?,?,?,?,?,?,?,?,?,?,?)",
		encodeList(r.Command), exact(r.Dir), encodeList(r.Workspace), exact(string(r.Mode)), exact(r.PolicyFile), exact(r.PolicyText),
		exact(string(r.Network)), nanoseconds(r.Start), nanoseconds(r.End), r.Status, exact(r.Kernel), exact(r.Version), exact(r.Tail))
	if err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "DELETE FROM mechanism"); err != nil {
		return err
	}
	for i, m := range r.Mechanisms {
		if _, err := conn.ExecContext(ctx, "INSERT INTO mechanism VALUES (?,?,?,?)", i, exact(m.Name), m.Active, exact(m.Detail)); err != nil {
			return err
		}
	}
	for _, l := range lossNames {
		if _, err := conn.ExecContext(ctx, "INSERT OR REPLACE INTO loss VALUES (?,?)", l.name, saturate(*l.field(&r.Losses))); err != nil {
			return err
		}
	}
	return nil
}

// interner gives each distinct string a row and an id. Ids that were given
// out in a transaction are forgotten when it fails.
type interner struct {
	insert *sql.Stmt
	ids    map[string]int
	fresh  []string // given out in this transaction
}

func (n *interner) id(s string) (int, error) {
	if id, ok := n.ids[s]; ok {
		return id, nil
	}
	id := len(n.ids)
	if _, err := n.insert.Exec(id, exact(s)); err != nil {
		return 0, err
	}
	n.ids[s] = id
	n.fresh = append(n.fresh, s)
	return id, nil
}

func (n *interner) keep() { n.fresh = n.fresh[:0] }

func (n *interner) drop() {
	for _, s := range n.fresh {
		delete(n.ids, s)
	}
	n.fresh = n.fresh[:0]
}
