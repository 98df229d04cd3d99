package jail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/quick"

	"golang.org/x/sys/unix"
)

const closed = ^uintptr(0)

func TestDescriptors(t *testing.T) {
	cases := []struct {
		name           string
		keep, internal []int
		files          []uintptr
		at             []int
	}{
		{"none kept", nil, []int{40, 41}, []uintptr{0, 1, 2, 40, 41}, []int{3, 4}},
		{"kept in the way", []int{3, 4}, []int{40}, []uintptr{0, 1, 2, 3, 4, 40}, []int{5}},
		{"a gap is filled", []int{5}, []int{40, 41, 42}, []uintptr{0, 1, 2, 40, 41, 5, 42}, []int{3, 4, 6}},
		{"what is between is closed", []int{7}, []int{40}, []uintptr{0, 1, 2, 40, closed, closed, closed, 7}, []int{3}},
	}
	for _, c := range cases {
		files, at := descriptors([]int{0, 1, 2}, c.keep, c.internal...)
		if !slices.Equal(files, c.files) || !slices.Equal(at, c.at) {
			t.Errorf("%s: %v at %v; want %v at %v", c.name, files, at, c.files, c.at)
		}
	}
}

func TestDescriptorsKeepTheirNumbers(t *testing.T) {
	property := func(raw []uint8) bool {
		var keep []int
		for _, fd := range raw {
			if n := int(fd) + 3; !slices.Contains(keep, n) {
				keep = append(keep, n)
			}
		}
		files, at := descriptors([]int{0, 1, 2}, keep, 1000, 1001, 1002)
		for _, fd := range keep {
			if files[fd] != uintptr(fd) {
				return false
			}
		}
		for i, number := range at {
			if slices.Contains(keep, number) || files[number] != uintptr(1000+i) {
				return false
			}
		}
		return true
	}
	if err := quick.Check(property, nil); err != nil {
		t.Error(err)
	}
}

func TestConfigKeepsBytes(t *testing.T) {
	want := &Config{
		Args: []string{"make", "\xff\x00\n", ""}, Dir: "/not\xffutf8", Env: []string{"A=\xfe", "B="}, Isolate: true,
		Writable: []string{"/w"}, Masks: []Mask{{"/m", true}}, Keep: []int{5}, Filter: []byte{1, 2, 3}, Guard: true,
	}
	fd, err := writeConfig(want)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 2 { // init and enter read it through one open file
		got, err := readConfig(fd)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestChannel(t *testing.T) {
	a, b, err := newPair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(int(b))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := a.send(message{Kind: listener, Number: -7, Text: "t\xff"}, int(r.Fd()), int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	m, fds, err := b.receive()
	if err != nil || len(fds) != 2 || m != (message{listener, -7, "t\xff"}) {
		t.Fatalf("%+v, %v, %v", m, fds, err)
	}
	for _, fd := range fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d came without close-on-exec (%v)", fd, err)
		}
	}
	closeAll(fds)
	unix.Close(int(a))
	if _, _, err := b.receive(); !errors.Is(err, io.EOF) {
		t.Errorf("the far end is gone: %v, want io.EOF", err)
	}
	if err := b.send(message{Kind: ready}); err == nil {
		t.Error("a message to nobody was sent")
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, mode := range map[string]os.FileMode{"run": 0o755, "data": 0o644} {
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("sub", 0o755); err != nil {
		t.Fatal(err)
	}
	path := "PATH=/nowhere:" + dir
	cases := []struct {
		name, command, env, want string
		err                      error
	}{
		{"along PATH", "run", path, dir + "/run", nil},
		{"a directory is no command", "sub", path, "", nil},
		{"not executable is for exec to say", "data", path, dir + "/data", nil},
		{"with a slash it is a path", "./x/y", path, "./x/y", nil},
		{"empty element", "run", "PATH=", "", nil},
		{"current directory", "run", "PATH=:/nowhere", "./run", nil},
		{"empty name", "", path, "", unix.ENOENT},
		{"without PATH", "true", "HOME=/", "/bin/true", nil},
	}
	for _, c := range cases {
		all, err := lookPath(&Config{Args: []string{c.command}, Env: []string{c.env}})
		got := strings.Join(all, " ")
		if got != c.want && filepath.Base(got) != "true" {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if (err == nil) != (c.want != "") || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.err)
		}
	}
}

func TestCheckWorkspace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := CheckWorkspace(dir); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"/", "/proc", "/proc/self", "/dev/shm", file, filepath.Join(dir, "missing")} {
		if err := CheckWorkspace(bad); err == nil {
			t.Errorf("%s was taken for a workspace", bad)
		} else if !strings.HasPrefix(err.Error(), "workspace: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestIdentityMap(t *testing.T) {
	name := filepath.Join(t.TempDir(), "uid_map")
	if err := os.WriteFile(name, []byte("         0     100000      65536\n     65536          0          1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := identityMap(name)
	want := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}, {ContainerID: 65536, HostID: 65536, Size: 1}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if err := os.WriteFile(name, []byte("junk\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := identityMap(name); err == nil {
		t.Error("junk was taken for an id map")
	}
}

func TestInherited(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	fds, err := Inherited()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(fds, int(w.Fd())) || slices.Contains(fds, int(r.Fd())) {
		t.Errorf("inherited %v; want %d in it and %d not", fds, w.Fd(), r.Fd())
	}
}

func TestDescendants(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	process, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "sleep 100 & echo $!; wait"},
		&os.ProcAttr{Files: []*os.File{nil, w, os.Stderr}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var sleeper int
	if _, err := fmt.Fscan(r, &sleeper); err != nil {
		t.Fatal(err)
	}
	list := descendants(os.Getpid(), nil)
	_ = unix.Kill(sleeper, unix.SIGKILL)
	_ = process.Kill()
	_, _ = process.Wait()
	if !slices.Contains(list, process.Pid) || !slices.Contains(list, sleeper) {
		t.Errorf("descendants %v; want %d and %d among them", list, process.Pid, sleeper)
	}
}
