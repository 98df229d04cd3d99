// Package store keeps a trace on disk: one SQLite file per run, its schema
// described in schema.sql, readable by the sqlite3 command at any time.
//
// The life of a trace file:
//
//  1. Create, before the build starts, makes a complete empty trace under a
//     temporary name beside the path, syncs it and renames it into place, so
//     that an unwritable directory or a file that is no trace is an error
//     while nothing is lost yet, and nobody ever sees half a schema.
//  2. Append adds what changed since the last time, one transaction each, in
//     write-ahead-log mode: readers see whole transactions and block nobody.
//     Killed at any moment, the file holds every finished Append and its
//     run.ended is 0.
//  3. Finish writes the end of the run and folds the log into the file, which
//     then stands alone, without -wal and -shm beside it.
//
// A Writer holds flock(2) on the file while it lives, so that a second run
// with the same trace path is refused instead of mixing two logs.
//
// Load trusts nothing: a file may come from anywhere. The tables must be
// declared word for word as in schema.sql (so no view or generated column
// hides behind a table's name), ids must count up without gaps and texts
// cannot be longer in sum than the file (so a crafted page graph cannot loop
// or multiply), and every index, count and enumeration is checked.
package store

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed schema.sql
var schema string

const (
	applicationID = 0x44504754 // "DPGT"
	userVersion   = 1
)

// What can be wrong with a file that should be a trace; test with errors.Is.
var (
	ErrNotTrace = errors.New("not a depguard trace")
	ErrNewer    = errors.New("trace of a newer depguard")
	ErrCorrupt  = errors.New("damaged trace")
	ErrBusy     = errors.New("another depguard is writing this trace")
)

// open opens the database at path on one connection of its own. The name is
// a URI so that no byte of the path can be taken for a parameter.
func open(path string, params url.Values) (*sql.DB, *sql.Conn, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	params.Set("_dqs", "0")
	params.Set("_error_rc", "1")
	params.Set("_defensive", "1")
	params.Set("_busy_timeout", "5000")
	uri := url.URL{Scheme: "file", Path: abs, RawQuery: params.Encode()}
	db, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(context.Background())
	if err != nil {
		_ = db.Close() // the first error is the one to tell
		return nil, nil, err
	}
	return db, conn, nil
}

// primary returns the primary result code of an SQLite error, or 0.
// Source: sqlite.org/rescode.html.
func primary(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// explain gives the failure to write a trace its cause and next step.
func explain(err error) error {
	switch primary(err) {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("disk full, what was recorded before stays readable; free space, or put the trace on another filesystem with --trace: %w", err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("the filesystem refused, what was recorded before stays readable; check its space, quota and health: %w", err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("another program keeps the file locked; end it: %w", err)
	}
	return err
}
