package inroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func makeRoot(t *testing.T) (string, *Root) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"usr/lib/deep", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "usr/lib/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"lib": "usr/lib", "etc/abs": "/usr/lib", "abs": "/usr/lib", "out": "../../../../../../etc", "root": "/",
		"usr/up": "../lib/./deep/..", "self": "self", "ping": "pong", "pong": "ping",
		"dangling": "/no/where", "tofile": "abs/file", "b\xff\n": "usr",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir, r
}

func TestCanonical(t *testing.T) {
	_, r := makeRoot(t)
	for range 2 { // the second time from memory
		for _, tt := range []struct {
			name, want string
			err        error
		}{
			{"/", "/", nil},
			{"", "/", nil},
			{"/../..", "/", nil},
			{"/lib/file", "/usr/lib/file", nil},
			{"//abs/./file", "/usr/lib/file", nil},
			{"/etc/abs/file", "/usr/lib/file", nil},
			{"/tofile", "/usr/lib/file", nil},
			{"/out", "/etc", nil}, // never above the root
			{"/root/root/etc", "/etc", nil},
			{"/usr/up/file", "/usr/lib/file", nil},
			{"/abs/../lib", "/usr/lib", nil}, // .. is that of the link's target
			{"/b\xff\n/lib", "/usr/lib", nil},
			{"/self", "", unix.ELOOP},
			{"/ping/x", "", unix.ELOOP},
			{"/dangling", "", unix.ENOENT},
			{"/usr/none", "", unix.ENOENT},
			{"/usr/lib/file/x", "", unix.ENOTDIR},
			{"/" + strings.Repeat("x", 300), "", unix.ENAMETOOLONG},
			{strings.Repeat("/x", 3000), "", unix.ENAMETOOLONG},
		} {
			got, err := r.Canonical(tt.name)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("Canonical(%q) = %q, %v; want %q, %v", tt.name, got, err, tt.want, tt.err)
			}
		}
	}
}

// A link that comes after the name was resolved must not lead out.
func TestOpenRefusesLinks(t *testing.T) {
	dir, r := makeRoot(t)
	name, err := r.Canonical("/lib/deep")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := r.Open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if err := os.Remove(filepath.Join(dir, "usr/lib/deep")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "usr/lib/deep")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{name: unix.ELOOP, "/lib/file": unix.ELOOP, "/../etc": unix.EXDEV, "/none": unix.ENOENT} {
		fd, err := r.Open(name, unix.O_PATH)
		if !errors.Is(err, want) {
			t.Errorf("Open(%q) = %v, want %v", name, err, want)
		}
		if err == nil {
			unix.Close(fd)
		}
	}
}

// What Canonical returns is what the kernel's own walk beneath the root
// arrives at, and its errors are the kernel's.
func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"/lib/../abs", "/out/..", "tofile/", "usr/up/../..", "/self", "\x00", "/root/b\xff\n/lib/file"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		_, r := makeRoot(t)
		if strings.IndexByte(name, 0) >= 0 || name == "" || len(name) > 1000 || strings.Contains(name, "file/") {
			_, _ = r.Canonical(name) // no panic is all that is asked
			return
		}
		canonical, err := r.Canonical(name)
		fd, kerr := unix.Openat2(r.fd, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
		if (err == nil) != (kerr == nil) {
			t.Fatalf("Canonical(%q) = %q, %v; the kernel says %v", name, canonical, err, kerr)
		}
		if err != nil {
			return
		}
		defer unix.Close(fd)
		own, err := r.Open(canonical, unix.O_PATH)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(own)
		var a, b unix.Stat_t
		if err := errors.Join(unix.Fstat(fd, &a), unix.Fstat(own, &b)); err != nil {
			t.Fatal(err)
		}
		if a.Ino != b.Ino || a.Dev != b.Dev {
			t.Errorf("Canonical(%q) = %q, which is another file", name, canonical)
		}
	})
}

func TestNames(t *testing.T) {
	for _, tt := range []struct{ name, dir, base string }{{"/a/b", "/a", "b"}, {"/a", "/", "a"}, {"/", "/", ""}} {
		if dir, base := Split(tt.name); dir != tt.dir || base != tt.base {
			t.Errorf("Split(%q) = %q, %q", tt.name, dir, base)
		}
		if tt.base != "" && Join(tt.dir, tt.base) != tt.name {
			t.Errorf("Join(%q, %q) = %q", tt.dir, tt.base, Join(tt.dir, tt.base))
		}
	}
	for _, tt := range []struct {
		name, dir string
		want      bool
	}{{"/a/b", "/a", true}, {"/a", "/a", true}, {"/ab", "/a", false}, {"/a", "/", true}, {"/a", "/a/b", false}} {
		if got := Within(tt.name, tt.dir); got != tt.want {
			t.Errorf("Within(%q, %q) = %v", tt.name, tt.dir, got)
		}
	}
}
