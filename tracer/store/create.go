package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/depguard/depguard/tracer"
	"golang.org/x/sys/unix"
)

// Create makes the trace file of a run that is about to start and returns
// its Writer; the caller ends it with Finish, or Close when there is no run
// to tell of. A symbolic link at path is followed.
//
// An earlier trace at path is replaced. Any other file there is not, and
// neither is a trace that another process is writing (ErrBusy).
func Create(path string, run tracer.Run) (*Writer, error) {
	w, err := create(path, run)
	if err != nil {
		return nil, fmt.Errorf("create trace %s: %w", path, err)
	}
	return w, nil
}

func create(path string, run tracer.Run) (*Writer, error) {
	path, err := destination(path)
	if err != nil {
		return nil, err
	}
	lock, err := draft(path, run)
	if err != nil {
		return nil, err
	}
	w, err := openWriter(path, lock)
	if err != nil {
		_ = lock.Close() // read-only descriptor
		return nil, err
	}
	return w, nil
}

// destination returns the path to rename onto, links resolved, once it is
// clear that what stands there may be replaced.
func destination(path string) (string, error) {
	info, err := os.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			info, err = os.Lstat(path)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("it exists and is not a regular file; name another file with --trace")
	}
	return path, replaceable(path)
}

// replaceable reports why the regular file at path must stay: it is no
// trace, or it is being written.
func replaceable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if !isTrace(f) {
		return fmt.Errorf("the file that is there is %w and stays; name another file with --trace, or move it away", ErrNotTrace)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		return fmt.Errorf("%w; name another file with --trace, or wait for it", ErrBusy)
	}
	return nil
}

// isTrace looks for the magic string and the application id in the header
// of an SQLite file (sqlite.org/fileformat2.html, section 1.3).
func isTrace(r io.Reader) bool {
	var header [100]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return false
	}
	return string(header[:16]) == "SQLite format 3\x00" && binary.BigEndian.Uint32(header[68:]) == applicationID
}

// draft makes the empty trace under a temporary name and renames it to path.
// It returns the file, locked.
func draft(path string, run tracer.Run) (_ *os.File, err error) {
	dir, base := filepath.Split(path)
	temp := dir + "." + base + "." + rand.Text()[:8]
	lock, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666) // 0666: the caller's umask decides, as for any build output
	if err != nil {
		return nil, unnamed(err)
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
			_ = os.Remove(temp) // the first error is the one to tell
		}
	}()
	// Filesystems without flock(2) have no protection against a second run,
	// which is no reason to refuse the first.
	_ = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err := fill(temp, run); err != nil {
		return nil, explain(err)
	}
	if err := lock.Sync(); err != nil { // a crash after the rename must not leave an empty file
		return nil, unnamed(err)
	}
	// A log that a killed run left would be replayed into the new file:
	// nothing in it says whose it was (sqlite.org/howtocorrupt.html, 1.4).
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return lock, os.Rename(temp, path)
}

// unnamed strips the temporary name, which says nothing to anyone, from err.
func unnamed(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// fill writes the schema and the run's head into the empty file temp. No
// journal and no sync: until the rename the file is nobody's.
func fill(temp string, run tracer.Run) (err error) {
	db, conn, err := open(temp, url.Values{"_synchronous": {"OFF"}, "_journal_mode": {"MEMORY"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(), db.Close()) }()
	ctx := context.Background()
	head := fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, userVersion)
	if _, err := conn.ExecContext(ctx, head+"BEGIN;"+schema); err != nil {
		return err
	}
	if err := writeRun(ctx, conn, &run); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}
