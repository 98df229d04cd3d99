package store

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/depguard/depguard/tracer"
	"golang.org/x/sys/unix"
)

const insideEnv = "DEPGUARD_STORE_TEST_INSIDE"

// inside reports whether the test runs in a user and mount namespace of its
// own, where anyone may mount a small filesystem and nothing of it outlives
// the process. If not, it runs the test there and reports how that ended.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	switch exit := (*exec.ExitError)(nil); {
	case errors.As(err, &exit) || err == nil && !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Errorf("inside: %v\n%s", err, out)
	case err != nil && os.Getenv("DEPGUARD_MUST_WORK") != "1":
		t.Skipf("needs user namespaces: %v", err)
	case err != nil:
		t.Errorf("needs user namespaces: %v", err)
	}
	return false
}

// small mounts a filesystem of 2 MiB and returns where.
func small(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("depguard-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=2m"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil { // busy: a descriptor was left open
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// TestDiskFull pins that a build whose trace fills the disk is told so, and
// that what was recorded stays.
func TestDiskFull(t *testing.T) {
	if inside(t) {
		path := filepath.Join(small(t), "trace")
		full(t, create1(t, path, tracer.Run{Status: -1}), path)
	}
}

// TestCreateDiskFull pins that a trace that has no room is an error before
// the build starts, and that the trace that was there stays.
func TestCreateDiskFull(t *testing.T) {
	if !inside(t) {
		return
	}
	dir := small(t)
	path := filepath.Join(dir, "trace")
	if err := create1(t, path, tracer.Run{}).Finish(&tracer.Trace{Run: tracer.Run{Tail: "first"}}); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 4<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill: %v", err)
	}
	if w, err := Create(path, tracer.Run{}); err == nil {
		w.Close()
		t.Fatal("created without room")
	} else if !strings.Contains(err.Error(), "disk full") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if got := load1(t, path).Run.Tail; got != "first" {
		t.Errorf("the first trace is gone: %q", got)
	}
	alone(t, path)
}
