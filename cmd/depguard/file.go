package main

import (
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
func writeFile(name string, data []byte) (err error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(name, data, 0o666) // a device or a pipe, such as /dev/stdout
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(mode(name)); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// mode is the mode that the file name has, or that a new one gets.
func mode(name string) os.FileMode {
	if info, err := os.Stat(name); err == nil {
		return info.Mode().Perm()
	}
	return 0o644
}
