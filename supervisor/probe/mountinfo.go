package probe

import (
	"bufio"
	"io"
	"os"
	"strings"
)

// mount is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	root    string // the directory of the file system that is mounted
	point   string // where, below this process's root
	fsType  string
	options string // per-superblock options, comma-separated
}

// mountsOf returns this process's mounts of one type of file system.
func mountsOf(fsType string) ([]mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return parseMountinfo(f, fsType)
}

// maxMounts bounds what parseMountinfo keeps; a machine has one to three
// mounts of the types asked for.
const maxMounts = 256

// parseMountinfo returns the first mounts of type fsType in r. A line that is
// no mount is left out; one beyond 64 KiB is an error (bufio.ErrTooLong).
func parseMountinfo(r io.Reader, fsType string) ([]mount, error) {
	var mounts []mount
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(mounts) < maxMounts {
		if m, ok := parseMount(lines.Text()); ok && m.fsType == fsType {
			mounts = append(mounts, m)
		}
	}
	return mounts, lines.Err()
}

// parseMount reads one line. The optional fields in its middle end with a
// single hyphen:
//
//	36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parseMount(line string) (mount, bool) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 6 || len(right) < 2 {
		return mount{}, false
	}
	m := mount{root: unescape(left[3]), point: unescape(left[4]), fsType: right[0]}
	m.options = right[len(right)-1] // the source before it may be empty
	return m, true
}

// unescape undoes the kernel's mangling of space, tab, newline and backslash
// into backslash and three octal digits. Anything else stays as it is.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
