package guard

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
)

func requireLandlock(t *testing.T) {
	t.Helper()
	if _, err := ABI(); err != nil {
		if os.Getenv("DEPGUARD_MUST_WORK") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// restricted runs f on a thread under a ruleset that allows each path as given,
// and lets the thread die.
func restricted(t *testing.T, allow map[string]policy.Access, tree bool, f func()) {
	t.Helper()
	requireLandlock(t)
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for path, access := range allow {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Allow(fd, access, tree); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the restricted thread ends with the goroutine
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = Restrict(r.FD())
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func TestFileRules(t *testing.T) {
	dir := t.TempDir()
	readable, writable, other, link := filepath.Join(dir, "r"), filepath.Join(dir, "w"), filepath.Join(dir, "o"), filepath.Join(dir, "hard")
	for _, path := range []string{readable, writable, other} {
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(readable, link); err != nil {
		t.Fatal(err)
	}
	var got [7]error
	restricted(t, map[string]policy.Access{readable: policy.Read | policy.Exec, writable: policy.Read | policy.Write}, false, func() {
		got = [7]error{
			open(readable, unix.O_RDONLY), open(link, unix.O_RDONLY), open(writable, unix.O_RDWR|unix.O_TRUNC),
			open(readable, unix.O_WRONLY), open(other, unix.O_RDONLY), open(filepath.Join(dir, "new"), unix.O_CREAT|unix.O_WRONLY),
			open(dir, unix.O_RDONLY|unix.O_DIRECTORY),
		}
	})
	want := [7]error{nil, nil, nil, unix.EACCES, unix.EACCES, unix.EACCES, nil}
	if got != want {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestTreeRules(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	var create, rename, outside error
	restricted(t, map[string]policy.Access{dir: policy.Read | policy.Write | policy.Exec | policy.List}, true, func() {
		create = open(filepath.Join(dir, "new"), unix.O_CREAT|unix.O_RDWR)
		rename = unix.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "sub", "new"))
		outside = open("/etc/passwd", unix.O_RDONLY)
	})
	if create != nil || rename != nil || !errors.Is(outside, unix.EACCES) {
		t.Errorf("create %v, rename to another directory %v, outside %v", create, rename, outside)
	}
}

func TestRights(t *testing.T) {
	r := &Ruleset{handled: ^uint64(0)}
	if got := r.rights(policy.List, true); got != 0 {
		t.Errorf("list grants %#x: a rule on a directory would hold for all below it", got)
	}
	if got := r.rights(policy.Write, false); got&^fileRights != 0 {
		t.Errorf("a file rule has rights of directories: %#x", got)
	}
	if got := r.rights(policy.Exec, false); got&unix.LANDLOCK_ACCESS_FS_READ_FILE == 0 {
		t.Errorf("what may be executed may not be read (%#x), as exec does", got)
	}
	old := &Ruleset{handled: abis[0].FS}
	if got := old.rights(policy.Write, true); got&(unix.LANDLOCK_ACCESS_FS_REFER|unix.LANDLOCK_ACCESS_FS_TRUNCATE) != 0 {
		t.Errorf("a rule for ABI 1 has rights that it does not know: %#x", got)
	}
}

func TestLacks(t *testing.T) {
	if got := Lacks(abis[len(abis)-1].Version); len(got) != 0 {
		t.Errorf("the newest ABI lacks %q", got)
	}
	if got := Lacks(1); len(got) != len(abis)-1 {
		t.Errorf("ABI 1 lacks %q", got)
	}
}

func BenchmarkAllow(b *testing.B) {
	r, err := New()
	if err != nil {
		b.Skip(err)
	}
	defer r.Close()
	fd, err := unix.Open("/etc/passwd", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	for b.Loop() {
		if err := r.Allow(fd, policy.Read, false); err != nil {
			b.Fatal(err)
		}
	}
}
