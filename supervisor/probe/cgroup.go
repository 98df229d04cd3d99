package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tryCgroup makes a cgroup below this process's own, starts a child in it
// (CLONE_INTO_CGROUP, Linux 5.7), ends the child with cgroup.kill (Linux 5.14)
// and takes the cgroup away again.
func tryCgroup(m *machine) finding {
	own, found := ownCgroup()
	if own == "" {
		return found
	}
	dir, err := os.MkdirTemp(own, "depguard-probe-")
	if err != nil {
		return failure("mkdir in "+own, err)
	}
	found = useCgroup(m, dir)
	if err := removeCgroup(dir); err != nil {
		return unknown("the trial's cgroup %s stays behind: %v; remove it with rmdir", dir, err)
	}
	return found
}

// ownCgroup returns the directory of this process's cgroup in the version 2
// hierarchy, or why there is none.
func ownCgroup() (string, finding) {
	mounts, err := mountsOf("cgroup2")
	if err != nil {
		return "", unknown("not tried: /proc/self/mountinfo: %v", err)
	}
	if len(mounts) == 0 {
		found := no("the version 2 hierarchy is not mounted")
		found.remedy = "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1"
		return "", found
	}
	memberships, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", unknown("not tried: /proc/self/cgroup: %v", err)
	}
	for _, m := range mounts {
		if dir, ok := cgroupDir(m, string(memberships)); ok && isOn(dir, unix.CGROUP2_SUPER_MAGIC) {
			return dir, finding{}
		}
	}
	return "", unknown("not tried: this process's cgroup does not show below %s", mounts[0].point)
}

// cgroupDir finds the directory below m of the cgroup that memberships, the
// text of /proc/PID/cgroup (cgroups(7)), names for version 2.
func cgroupDir(m mount, memberships string) (dir string, ok bool) {
	for line := range strings.Lines(memberships) {
		name, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !found {
			continue
		}
		below, inside := strings.CutPrefix(name, strings.TrimSuffix(m.root, "/"))
		if !inside || !strings.HasPrefix(below, "/") && below != "" {
			return "", false
		}
		// Clean, because a cgroup outside this cgroup namespace is /../x.
		if path.Clean(below) != below && below != "" {
			return "", false
		}
		return path.Join(m.point, below), true
	}
	return "", false
}

// useCgroup runs and kills a child in dir.
func useCgroup(m *machine, dir string) finding {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return failure("open "+dir, err)
	}
	defer func() { _ = unix.Close(fd) }()
	kid, err := startChild(m.ctx, "memory", &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd})
	if err != nil {
		return failure("clone3(CLONE_INTO_CGROUP)", err)
	}
	// Killed first, then dismissed: finish closes the child's input, and a child
	// that ended by itself would prove nothing.
	killErr := os.WriteFile(path.Join(dir, "cgroup.kill"), []byte("1"), 0)
	if killErr == nil {
		_, _ = io.Copy(io.Discard, kid.stdout) // until it is dead
	}
	ended := kid.finish()
	if killErr != nil {
		return failure("cgroup.kill", killErr)
	}
	if kid.cmd.ProcessState == nil || !killed(kid.cmd.ProcessState) {
		return unknown("the trial's child: %v", ended)
	}
	return yes("own cgroup in %s, controllers: %s", path.Dir(dir), controllers(dir))
}

// killed reports whether SIGKILL ended the process.
func killed(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == unix.SIGKILL
}

// controllers lists what can be limited in dir (cgroup.controllers).
func controllers(dir string) string {
	list, err := os.ReadFile(path.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Sprintf("could not tell (%v)", err)
	}
	if len(strings.TrimSpace(string(list))) == 0 {
		return "none, so no limits"
	}
	return strings.TrimSpace(string(list))
}

// removeCgroup removes an emptied cgroup. A killed process counts for a moment
// after its parent has seen it end, and the directory is busy until then.
func removeCgroup(dir string) error {
	var err error
	for range 100 {
		if err = unix.Rmdir(dir); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
