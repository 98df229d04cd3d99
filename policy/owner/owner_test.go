package owner

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// machine makes a root with a merged /usr around the database in
// testdata/root, and with /opt/include moved elsewhere behind an absolute
// link, as an administrator does when a disk is full.
func machine(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("testdata/root")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"usr/bin", "usr/lib/x86_64-linux-gnu", "usr/lib/i386-linux-gnu", "usr/include", "usr/share/doc/libc6", "usr/lib/wine", "opt", "srv/include", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"bin": "usr/bin", "lib": "/usr/lib", "opt/include": "/srv/include"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func openMachine(t testing.TB) DB {
	t.Helper()
	db, err := Open(machine(t), "auto")
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestLookup(t *testing.T) {
	db := openMachine(t)
	for _, tt := range []struct {
		name string
		want Package
	}{
		{"zlib1g-dev", Package{Name: "zlib1g-dev", Arch: "amd64", Version: "1:1.2.13.dfsg-1"}},
		{"zlib1g-dev:amd64", Package{Name: "zlib1g-dev", Arch: "amd64", Version: "1:1.2.13.dfsg-1"}},
		{"libc6", Package{Name: "libc6", Arch: "amd64", Version: "2.36-9"}},
		{"libc6:i386", Package{Name: "libc6", Arch: "i386", Version: "2.36-9", foreign: true}},
		{"wine32", Package{Name: "wine32", Arch: "i386", Version: "8.0-1", foreign: true}},
		{"dash", Package{Name: "dash", Arch: "amd64", Version: "0.5.12-2", Essential: true}},
		{"gawk", Package{Name: "gawk", Arch: "amd64", Version: "1:5.2"}},
	} {
		got, ok := db.Lookup(tt.name)
		if !ok || got != tt.want {
			t.Errorf("Lookup(%q) = %+v, %v; want %+v", tt.name, got, ok, tt.want)
		}
	}
	for _, name := range []string{"", "awk", "libc6-dev", "broken", "zlib1g:i386", "libc6:", ":amd64", "../dash"} {
		if p, ok := db.Lookup(name); ok {
			t.Errorf("Lookup(%q) found %+v, which is not installed", name, p)
		}
	}
	names := db.Names()
	if !slices.IsSorted(names) || !slices.Contains(names, "libc6:i386") || slices.Contains(names, "broken") {
		t.Errorf("Names() = %q", names)
	}
	if got, want := db.Essential(), []string{"base-files", "dash", "dpkg"}; !slices.Equal(got, want) {
		t.Errorf("Essential() = %q, want %q", got, want)
	}
}

func TestClosure(t *testing.T) {
	db := openMachine(t)
	for _, tt := range []struct {
		why   string
		names []string
		want  string
	}{
		{"a cycle ends", []string{"libc6"}, "libc6 libgcc-s1"},
		{"dependencies stay in their architecture", []string{"libc6:i386"}, "libc6:i386 libgcc-s1:i386"},
		{"multi-arch foreign satisfies any architecture", []string{"wine32"}, "base-files gawk libc6 libc6:i386 libgcc-s1 libgcc-s1:i386 mawk wine32:i386"},
		{"an alternative that is not installed is passed over; fields continue", []string{"zlib1g-dev"}, "musl-dev zlib1g zlib1g-dev"},
		{"every provider of a virtual package", []string{"base-files"}, "base-files gawk libc6 libgcc-s1 mawk"},
		{"an alternative in the wrong version is passed over; versioned provision", []string{"wants-new-perl"}, "libtest-perl musl-dev perl wants-new-perl zlib1g zlib1g-dev"},
		{"on a broken machine a wrong version is better than none", []string{"wants-old-zlib"}, "musl-dev wants-old-zlib zlib1g zlib1g-dev"},
		{"a provision in the wrong version is passed over", []string{"wants-other"}, "dash wants-other"},
		{"unknown names are left out", []string{"dash", "nothing"}, "dash"},
		{"nothing", nil, ""},
	} {
		if got := strings.Join(db.Closure(tt.names), " "); got != tt.want {
			t.Errorf("%s: Closure(%q)\n got %s\nwant %s", tt.why, tt.names, got, tt.want)
		}
	}
}

func TestFiles(t *testing.T) {
	db := openMachine(t)
	for id, want := range map[string][]string{
		"dash":       {"/", "/bin", "/bin/dash", "/bin/sh"},
		"busybox-sh": {"/", "/bin", "/bin/sh.distrib"},
		"mawk":       {"/", "/usr/bin/mawk", "/usr/share/doc/tool.txt.local"},
		"libc6:i386": {"/", "/lib", "/lib/i386-linux-gnu", "/lib/i386-linux-gnu/libc.so.6", "/usr/share/doc/libc6/copyright"},
	} {
		if got, err := db.Files(id); err != nil || !slices.Equal(got, want) {
			t.Errorf("Files(%s) = %q, %v; want %q", id, got, err, want)
		}
	}
	if _, err := db.Files("broken"); err == nil {
		t.Error("Files of a package that is not installed succeeded")
	}
}

func TestOwners(t *testing.T) {
	db := openMachine(t)
	want := map[string][]string{
		"/usr/lib/x86_64-linux-gnu/libc.so.6":     {"libc6"}, // listed beneath /lib
		"/usr/lib/i386-linux-gnu/libc.so.6":       {"libc6:i386"},
		"/usr/lib/x86_64-linux-gnu/libgcc_s.so.1": {"libgcc-s1"}, // listed by both names
		"/usr/share/doc/libc6/copyright":          {"libc6", "libc6:i386"},
		"/usr/bin/sh":                             {"dash"},       // which keeps it
		"/usr/bin/sh.distrib":                     {"busybox-sh"}, // whose sh was diverted
		"/usr/share/doc/tool.txt.local":           {"mawk"},       // a local diversion
		"/srv/include/stdio.h":                    {"musl-dev"},   // through an absolute link
		"/usr/include/zlib.h":                     {"zlib1g-dev"},
	}
	unowned := []string{"/usr/share/doc/tool.txt", "/lib/x86_64-linux-gnu/libc.so.6", "/opt/include/stdio.h", "/usr/local/include/zlib.h", "/", "", "zlib.h"}
	paths := slices.Clone(unowned)
	for p := range want {
		paths = append(paths, p)
	}
	got, err := db.Owners(paths)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Owners:\n got %q, %v\nwant %q", got, err, want)
	}
}

// A diverted file is found even when nothing of its listed name is wanted.
func TestOwnersOfDiverted(t *testing.T) {
	got, err := openMachine(t).Owners([]string{"/usr/bin/sh.distrib"})
	if err != nil || !slices.Equal(got["/usr/bin/sh.distrib"], []string{"busybox-sh"}) {
		t.Errorf("Owners = %q, %v; want busybox-sh", got, err)
	}
}

func TestUpdatesOverrideStatus(t *testing.T) {
	root := machine(t)
	dir := filepath.Join(root, dpkgDir, "updates")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "0000"), "Package: dash\nStatus: install ok unpacked\nArchitecture: amd64\nVersion: 9\n")
	write(t, filepath.Join(dir, "tmp.i"), "unfinished\n")
	db, err := Open(root, "dpkg")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := db.Lookup("dash"); ok {
		t.Error("dash counts as installed, although an update says that it is unpacked")
	}
}

// Without foreign architectures there is no arch file.
func TestNativeArchitecture(t *testing.T) {
	for _, tt := range []struct{ status, arch, want string }{
		{"Package: dpkg\nStatus: install ok installed\nArchitecture: arm64\n", "amd64\n", "arm64"},
		{"Package: a\nStatus: install ok installed\nArchitecture: arm64\n", "amd64\narm64\n", "amd64"},
		{"Package: a\nStatus: install ok installed\nArchitecture: all\n\nPackage: b\nStatus: install ok installed\nArchitecture: arm64\n", "", "arm64"},
		{"", "", ""},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, dpkgDir), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, dpkgStatus), tt.status)
		if tt.arch != "" {
			write(t, filepath.Join(root, dpkgDir, "arch"), tt.arch)
		}
		db, err := Open(root, "dpkg")
		if err != nil {
			t.Fatal(err)
		}
		if got := db.(*dpkg).native; got != tt.want {
			t.Errorf("status %q, arch %q: native architecture %q, want %q", tt.status, tt.arch, got, tt.want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	empty := t.TempDir()
	if _, err := Open(empty, "auto"); !errors.Is(err, ErrNoDatabase) || !strings.Contains(err.Error(), filepath.Join(empty, "var/lib/dpkg/status")) {
		t.Errorf("no database: %v", err)
	}
	if _, err := Open("/", "winget"); err == nil || errors.Is(err, ErrNoDatabase) || !strings.Contains(err.Error(), "winget") {
		t.Errorf("unknown manager: %v", err)
	}
	root := machine(t)
	status := filepath.Join(root, dpkgStatus)
	if err := os.Remove(status); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(status, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(root, "auto"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("status is a FIFO: %v", err)
	}
}

func TestDamagedDatabase(t *testing.T) {
	for _, tt := range []struct{ file, content, want string }{
		{"status", "Package: a\nno colon here\n", "status:2: \"no colon here\" is not a field"},
		{"status", " continued\n", "status:1: a continued line"},
		{"status", "\n\nStatus: install ok installed\n", "status:3: a stanza has no Package"},
		{"status", "Package: ../../etc/passwd\n", "status:1: \"../../etc/passwd\" is not a package name"},
		{"status", "Package: a\nArchitecture: x/y\n", "is not an architecture"},
		{"status", "Package: a\nPackage: b\n", "status:2: field Package stands twice"},
		{"diversions", "/a\n/b\n", "diversions:2: the file ends inside a record"},
		{"diversions", "/a\nb\n:\n", "diversions:2: \"b\" is not an absolute path"},
		{"diversions", "/a\n/b\n../x\n", "diversions:3: \"../x\" is not a package name"},
	} {
		root := machine(t)
		write(t, filepath.Join(root, dpkgDir, tt.file), tt.content)
		_, err := Open(root, "auto")
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %q: %v; want %s", tt.file, tt.content, err, tt.want)
		}
	}

	root := machine(t)
	write(t, filepath.Join(root, dpkgDir, "info/dash.list"), "/.\nbin/sh\n/bin/dash\x00\n")
	if err := os.Remove(filepath.Join(root, dpkgDir, "info/mawk.list")); err != nil {
		t.Fatal(err)
	}
	db, err := Open(root, "auto")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Files("dash"); err == nil || !strings.Contains(err.Error(), "dash.list:2: ") {
		t.Errorf("Files with a relative path: %v", err)
	}
	if _, err := db.Files("mawk"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Files without a list: %v", err)
	}
	got, err := db.Owners([]string{"/usr/bin/sh", "/usr/bin/mawk", "/usr/bin/gawk"})
	if err != nil || len(got) != 1 || !slices.Equal(got["/usr/bin/gawk"], []string{"gawk"}) {
		t.Errorf("Owners over damaged lists = %q, %v", got, err)
	}
}

func TestCompareVersions(t *testing.T) {
	ascending := []string{"~~", "~~a", "~", "", "1.0~rc1-1", "1.0-0~x", "1.0", "1.0-1", "1.0-1+b1", "1.0+dfsg", "1.0.1", "1.2a", "1.2+", "1.10", "00099999999999999999999999999", "1:0.1", "2:0"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got, want := compareVersions(a, b), sign(i-j); got != want {
				t.Errorf("compareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
	if compareVersions("0:1.00-0", "1.0") != 0 {
		t.Error("missing epoch and revision are not zero")
	}
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
