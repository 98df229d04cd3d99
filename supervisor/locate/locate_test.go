package locate

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func newLocator(t *testing.T) *Locator {
	t.Helper()
	l, err := New("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func self(path string) *Name { return &Name{TID: os.Getpid(), Dir: unix.AT_FDCWD, Path: []byte(path)} }

// locate returns the state and the canonical name.
func locate(t *testing.T, l *Locator, n *Name) (State, string) {
	t.Helper()
	var f File
	l.Locate(n, &f)
	defer f.Release()
	if f.State == Located || f.State == Creatable {
		return f.State, string(l.Canonical(&f))
	}
	return f.State, ""
}

// tree makes a directory with one of each kind of file and enters it.
func tree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir("sub", 0o755))
	must(os.WriteFile("file", []byte("x"), 0o644))
	must(os.WriteFile("not\xffutf8", nil, 0o644))
	must(os.Symlink("file", "link"))
	must(os.Symlink(filepath.Join(dir, "file"), "absolute"))
	must(os.Symlink("nowhere", "dangling"))
	must(os.Symlink("loop", "loop"))
	must(unix.Mkfifo("fifo", 0o644))
	return dir
}

func TestLocate(t *testing.T) {
	dir := tree(t)
	l := newLocator(t)
	open, err := unix.Open("sub", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(open)
	cases := []struct {
		name  string
		path  string
		want  State
		canon string
		own   bool // by a name of the task's own part of procfs
	}{
		{"relative", "file", Located, dir + "/file", false},
		{"absolute", dir + "/file", Located, dir + "/file", false},
		{"through ..", "sub/../file", Located, dir + "/file", false},
		{"above the root", "/../../../.." + dir + "/file", Located, dir + "/file", false},
		{"symbolic link", "link", Located, dir + "/file", false},
		{"absolute symbolic link", "absolute", Located, dir + "/file", false},
		{"directory", "sub", Located, dir + "/sub", false},
		{"trailing slash", "sub/", Located, dir + "/sub", false},
		{"a fifo does not block", "fifo", Located, dir + "/fifo", false},
		{"not UTF-8", "not\xffutf8", Located, dir + "/not\xffutf8", false},
		{"missing", "missing", Absent, "", false},
		{"below a file", "file/x", Absent, "", false},
		{"dangling link", "dangling", Absent, "", false},
		{"empty path", "", Absent, "", false},
		{"component too long", string(bytes.Repeat([]byte("a"), 256)), Absent, "", false},
		{"loop", "loop", Unlocated, "", false},
		{"procfs", "/proc/self/status", Unlocated, "", false},
		{"procfs, spelled otherwise", "//proc/./self//status", Unlocated, "", false},
		{"procfs, by a detour", "/usr/../proc/version", Unlocated, "", false},
		{"link into procfs", "/etc/mtab", Unlocated, "", false},
		{"magic link", "/proc/self/cwd/file", Located, dir + "/file", true},
		{"magic link of the thread", "/proc/thread-self/root" + dir + "/file", Located, dir + "/file", true},
		{"descriptor", "/dev/fd/" + strconv.Itoa(open), Located, dir + "/sub", true},
		{"root", "/", Located, "/", false},
	}
	for _, moved := range []bool{false, true} {
		l.moved = moved
		for _, c := range cases {
			if moved && c.own {
				c.want, c.canon = Unlocated, "" // in a root of its own, a name of procfs may be any file's
			}
			state, canon := locate(t, l, self(c.path))
			if state != c.want || canon != c.canon {
				t.Errorf("moved %v: %s: state %d, name %q; want %d, %q", moved, c.name, state, canon, c.want, c.canon)
			}
		}
	}
}

func TestIdentity(t *testing.T) {
	tree(t)
	l := newLocator(t)
	var a, b, dir File
	l.Locate(self("file"), &a)
	l.Locate(self("link"), &b)
	l.Locate(self("sub"), &dir)
	defer a.Release()
	defer b.Release()
	defer dir.Release()
	var st unix.Stat_t
	if err := unix.Stat("file", &st); err != nil {
		t.Fatal(err)
	}
	if a.ID != b.ID || a.ID.Dev != uint64(st.Dev) || a.ID.Ino != st.Ino {
		t.Errorf("identities %v and %v, stat says %d:%d", a.ID, b.ID, st.Dev, st.Ino)
	}
	if !a.Regular() || a.Directory() || !dir.Directory() {
		t.Errorf("modes %#o and %#o", a.Mode, dir.Mode)
	}
}

func TestNoFollow(t *testing.T) {
	tree(t)
	l := newLocator(t)
	n := self("link")
	n.NoFollow = true
	var f File
	l.Locate(n, &f)
	defer f.Release()
	if f.State != Located || f.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("state %d, mode %#o; want the link itself", f.State, f.Mode)
	}
}

func TestCreate(t *testing.T) {
	dir := tree(t)
	l := newLocator(t)
	for path, want := range map[string]string{
		"new":                dir + "/new",
		"sub/new":            dir + "/sub/new",
		dir + "/sub/../new2": dir + "/new2",
		"/depguard-new":      "/depguard-new",
	} {
		n := self(path)
		n.Create = true
		if state, canon := locate(t, l, n); state != Creatable || canon != want {
			t.Errorf("%s: state %d, name %q; want it creatable as %q", path, state, canon, want)
		}
	}
	n := self("missing/new")
	n.Create = true
	if state, _ := locate(t, l, n); state != Unlocated && state != Absent {
		t.Errorf("in a missing directory: state %d", state)
	}
}

func TestDirectoryDescriptor(t *testing.T) {
	dir := tree(t)
	l := newLocator(t)
	fd, err := unix.Open("sub", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n := self("../file")
	n.Dir = fd
	if state, canon := locate(t, l, n); state != Located || canon != dir+"/file" {
		t.Errorf("relative to a descriptor: state %d, name %q", state, canon)
	}
	n.Dir = 1 << 20
	if state, _ := locate(t, l, n); state != Unlocated {
		t.Errorf("relative to a descriptor that is not open: state %d", state)
	}
}

func TestEmptyPathIsTheDescriptor(t *testing.T) {
	tree(t)
	l := newLocator(t)
	fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n := &Name{TID: os.Getpid(), Dir: fd, Empty: true}
	if state, canon := locate(t, l, n); state != Located || canon != "" {
		t.Errorf("a memfd: state %d, name %q; want it located and nameless", state, canon)
	}
}

func TestDeletedWorkingDirectory(t *testing.T) {
	tree(t)
	l := newLocator(t)
	if err := os.Mkdir("gone", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir("gone")
	if err := os.Remove("../gone"); err != nil {
		t.Fatal(err)
	}
	if state, _ := locate(t, l, self("file")); state != Absent {
		t.Errorf("in it: state %d", state)
	}
	if state, canon := locate(t, l, self("../file")); state != Located || filepath.Base(canon) != "file" {
		t.Errorf("next to it: state %d, name %q", state, canon)
	}
}

// A name that ends as the kernel marks deleted files is a name all the same.
func TestNameThatLooksDeleted(t *testing.T) {
	dir := tree(t)
	l := newLocator(t)
	if err := os.WriteFile("zz (deleted)", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if state, canon := locate(t, l, self("zz (deleted)")); state != Located || canon != dir+"/zz (deleted)" {
		t.Errorf("state %d, name %q", state, canon)
	}
}

func TestCreateThroughADanglingLink(t *testing.T) {
	dir := tree(t)
	l := newLocator(t)
	if err := os.Symlink(dir+"/sub/made", "sub/far"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"dangling": dir + "/nowhere", "sub/far": dir + "/sub/made"} {
		n := self(path)
		n.Create = true
		if state, canon := locate(t, l, n); state != Creatable || canon != want {
			t.Errorf("%s: state %d, name %q; want it creatable as %q", path, state, canon, want)
		}
	}
}

func TestResolveInRoot(t *testing.T) {
	dir := tree(t)
	l := newLocator(t)
	fd, err := unix.Open("sub", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := os.WriteFile("sub/in", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n := self("/in")
	n.Dir, n.Resolve = fd, unix.RESOLVE_IN_ROOT
	if state, canon := locate(t, l, n); state != Located || canon != dir+"/sub/in" {
		t.Errorf("state %d, name %q", state, canon)
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	dir := tree(t)
	l := newLocator(t)
	for _, path := range []string{"file", dir + "/file", "missing", "link"} {
		n := self(path)
		n.Path = append(n.Path, 0)[:len(n.Path)]
		var f File
		allocs := testing.AllocsPerRun(100, func() {
			l.Locate(n, &f)
			if f.State == Located {
				l.Canonical(&f)
			}
			f.Release()
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", path, allocs)
		}
	}
}

func BenchmarkLocate(b *testing.B) {
	b.Chdir(b.TempDir())
	if err := os.WriteFile("file", nil, 0o644); err != nil {
		b.Fatal(err)
	}
	l, err := New("/")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for name, path := range map[string]string{"relative": "file", "absolute": "/usr/include/stdio.h", "missing": "/usr/include/missing.h"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			n := self(path)
			var f File
			for b.Loop() {
				l.Locate(n, &f)
				f.Release()
			}
		})
	}
}

func TestInterpreter(t *testing.T) {
	tree(t)
	l := newLocator(t)
	cases := []struct {
		name, content, want string
		script              bool
	}{
		{"plain", "#!/bin/sh\n", "/bin/sh", true},
		{"with an argument and blanks", "#! \t/usr/bin/env -S x\n", "/usr/bin/env", true},
		{"without a newline", "#!/bin/sh", "/bin/sh", true},
		{"relative", "#!tool\n", "tool", true},
		{"nothing named", "#!\n", "", true},
		{"text", "hello\n", "", false},
		{"empty", "", "", false},
		{"half an ELF header", "\x7fELF\x02\x01\x01", "", false},
	}
	for i, c := range cases {
		path := "case" + strconv.Itoa(i)
		if err := os.WriteFile(path, []byte(c.content), 0o755); err != nil {
			t.Fatal(err)
		}
		var f File
		l.Locate(self(path), &f)
		name, script := l.Interpreter(&f)
		f.Release()
		if string(name) != c.want || script != c.script {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, name, script, c.want, c.script)
		}
	}
	var f File
	l.Locate(self("/bin/sh"), &f)
	defer f.Release()
	if name, script := l.Interpreter(&f); !bytes.Contains(name, []byte("ld-")) || script {
		t.Errorf("/bin/sh is loaded by %q, script %v", name, script)
	}
	var fifo File
	l.Locate(self("fifo"), &fifo)
	defer fifo.Release()
	if name, _ := l.Interpreter(&fifo); name != nil {
		t.Errorf("a fifo was read: %q", name)
	}
}

func FuzzELFInterpreter(f *testing.F) {
	if program, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(program[:min(len(program), 4096)])
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		name := elfInterpreter(bytes.NewReader(data), data[:min(len(data), headSize)])
		if len(name) > maxInterpreterPath || bytes.IndexByte(name, 0) >= 0 {
			t.Errorf("%d bytes were taken for a name", len(name))
		}
	})
}
