package jail

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// waitFor reaps one child.
func waitFor(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return status, err
		}
	}
}

// endDescendants kills every descendant of this process, a child subreaper, and
// returns when none is left: wait(2) says exactly that (ECHILD). They are
// stopped first, until a look finds no new one: killed one by one, the processes
// of a fork bomb would make room for each other.
func endDescendants() {
	const pause = time.Millisecond
	for {
		stopped := map[int]bool{}
		for found := true; found; {
			found = false
			for _, pid := range descendants(os.Getpid(), nil) {
				if !stopped[pid] {
					stopped[pid], found = true, true
					_ = unix.Kill(pid, unix.SIGSTOP) // ESRCH: gone meanwhile
				}
			}
		}
		for pid := range stopped {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if !reapAll() {
			return
		}
		time.Sleep(pause)
	}
}

// reapAll reaps all children that have ended, and reports whether any is left.
func reapAll() bool {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false // ECHILD
		case pid == 0:
			return true
		}
	}
}

// descendants appends the descendants of pid to list, children before
// grandchildren.
func descendants(pid int, list []int) []int {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return list // gone meanwhile
	}
	for _, task := range tasks {
		// Needs CONFIG_PROC_CHILDREN, which every distribution sets.
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			continue
		}
		for field := range bytes.FieldsSeq(data) {
			child, err := strconv.Atoi(string(field))
			if err != nil {
				continue
			}
			list = append(list, child)
			list = descendants(child, list)
		}
	}
	return list
}
