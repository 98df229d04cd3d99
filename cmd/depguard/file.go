package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/depguard/depguard/policy"
)

// maxPolicy bounds what is read of a policy file; the parser's own limit is
// lower, and says so with a position.
const maxPolicy = 16 << 20

// readPolicy reads and parses a policy file.
func readPolicy(name string) (*policy.Policy, error) {
	data, err := readPolicyFile(name)
	if err != nil {
		return nil, err
	}
	return policy.Parse(name, data)
}

func readPolicyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("read the policy: %s is a directory; name the file in it, such as %s", name, filepath.Join(name, defaultPolicy))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPolicy))
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	return data, nil
}

// writeFile writes a file beside its name and renames it into place, so that
// nobody ever sees half of it.
func writeFile(name string, data []byte) error {
	o, err := openOutput(name)
	if err != nil {
		return err
	}
	defer o.Close()
	return o.Write(data)
}

// output is a file that is to be written later, in a directory that others may
// have changed by then: where it goes is settled when it is opened.
type output struct {
	file *os.File // a device or a pipe, such as /dev/stdout, is written as it is
	dir  *os.Root // else: the directory of the file
	base string
	mode os.FileMode
}

// openOutput settles what name leads to.
func openOutput(name string) (*output, error) {
	if full, err := filepath.EvalSymlinks(name); err == nil {
		name = full
	}
	o := &output{base: filepath.Base(name), mode: 0o644}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a directory", name)
	case err == nil && !info.Mode().IsRegular():
		o.file, err = os.OpenFile(name, os.O_WRONLY, 0)
		return o, err
	case err == nil:
		o.mode = info.Mode().Perm()
	}
	o.dir, err = os.OpenRoot(filepath.Dir(name))
	return o, err
}

// Write writes the whole file. A new one is made in the directory and renamed, over
// whatever has the name by then.
func (o *output) Write(data []byte) (err error) {
	if o.file != nil {
		_, err = o.file.Write(data)
		return err
	}
	passing := "." + o.base + "." + rand.Text()
	f, err := o.dir.OpenFile(passing, os.O_WRONLY|os.O_CREATE|os.O_EXCL, o.mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = o.dir.Remove(passing)
		}
	}()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(o.mode), f.Close()); err != nil {
		return err
	}
	return o.dir.Rename(passing, o.base)
}

// Close closes what openOutput opened.
func (o *output) Close() {
	if o.file != nil {
		o.file.Close()
	}
	if o.dir != nil {
		o.dir.Close()
	}
}
