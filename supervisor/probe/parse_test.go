package probe

import (
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestParseMountinfo(t *testing.T) {
	const text = `24 30 0:22 / /proc rw,relatime - proc proc rw,hidepid=2
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:27 /a\040b /mnt/x\134y\011z ro - cgroup2 none rw
not a mount
33 30 0:28 / /too/short - cgroup2
34 30 0:28 / /empty/source rw - cgroup2  rw
`
	got, err := parseMountinfo(strings.NewReader(text), "cgroup2")
	want := []mount{
		{"/", "/sys/fs/cgroup/unified", "cgroup2", "rw,nsdelegate"},
		{"/a b", "/mnt/x\\y\tz", "cgroup2", "rw"},
		{"/", "/empty/source", "cgroup2", "rw"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if _, err := parseMountinfo(strings.NewReader(strings.Repeat("x", 1<<20)), "proc"); err == nil {
		t.Error("a line of a megabyte was taken")
	}
	endless := strings.Repeat("34 30 0:28 / /p rw - cgroup2 c rw\n", 10*maxMounts)
	if got, _ := parseMountinfo(strings.NewReader(endless), "cgroup2"); len(got) != maxMounts {
		t.Errorf("kept %d mounts, want %d", len(got), maxMounts)
	}
}

func TestUnescape(t *testing.T) {
	for escaped, want := range map[string]string{
		`/a\040b`:     "/a b",
		`\134040`:     `\040`, // a backslash, then digits: not a space
		`/tail\`:      `/tail\`,
		`/half\04`:    `/half\04`,
		`/not\777one`: `/not\777one`,
	} {
		if got := unescape(escaped); got != want {
			t.Errorf("%s: %q, want %q", escaped, got, want)
		}
	}
}

func TestCgroupDir(t *testing.T) {
	for _, c := range []struct{ root, memberships, dir string }{
		{"/", "0::/\n", "/cg"},
		{"/", "12:pids:/x\n0::/user.slice/a b\n", "/cg/user.slice/a b"},
		{"/docker/1", "0::/docker/1\n", "/cg"},
		{"/docker/1", "0::/docker/1/job\n", "/cg/job"},
		{"/docker/1", "0::/docker/12\n", ""}, // a neighbor whose name begins alike
		{"/docker/1", "0::/\n", ""},
		{"/", "0::/../outside\n", ""},
		{"/", "0::/a/../../outside\n", ""},
		{"/", "0::relative\n", ""},
		{"/", "12:pids:/x\n", ""},
		{"/", "", ""},
	} {
		got, ok := cgroupDir(mount{root: c.root, point: "/cg"}, c.memberships)
		if got != c.dir || ok != (c.dir != "") {
			t.Errorf("root %s, %q: %q, %v; want %q", c.root, c.memberships, got, ok, c.dir)
		}
	}
}

func TestParseIDMap(t *testing.T) {
	got := parseIDMap(strings.NewReader("         0       1000          1\n 1 100000 65536\n-1 0 5\n7 7 0\nnonsense\n"))
	want := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: 1, HostID: 1, Size: 65536}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := parseIDMap(strings.NewReader(strings.Repeat("1 1 1\n", 1000))); len(got) != maxIDMapLines {
		t.Errorf("%d lines, want %d", len(got), maxIDMapLines)
	}
}

// FuzzParse feeds what the kernel writes, and what it never would, to the
// parsers: they don't panic, and no cgroup is found outside its mount.
func FuzzParse(f *testing.F) {
	f.Add("31 30 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n", "/", "0::/a/b\n")
	f.Add("31 30 0:27 /x\\040y / rw - cgroup2  rw", "/x", "0::/x/../..\n")
	f.Add(" - \\", "", "0::")
	f.Fuzz(func(t *testing.T, mountinfo, root, memberships string) {
		mounts, _ := parseMountinfo(strings.NewReader(mountinfo), "cgroup2")
		for _, m := range mounts {
			if m.fsType != "cgroup2" {
				t.Errorf("asked for cgroup2, got %+v", m)
			}
		}
		if ids := parseIDMap(strings.NewReader(mountinfo)); len(ids) > maxIDMapLines {
			t.Errorf("%d id ranges", len(ids))
		}
		dir, ok := cgroupDir(mount{root: root, point: "/cg"}, memberships)
		if ok && dir != "/cg" && !strings.HasPrefix(dir, "/cg/") {
			t.Errorf("root %q, %q: outside the mount: %q", root, memberships, dir)
		}
	})
}
