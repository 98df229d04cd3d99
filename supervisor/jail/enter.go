package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/supervisor/filter"
	"github.com/depguard/depguard/supervisor/filter/inherited"
	"github.com/depguard/depguard/supervisor/guard"
)

// Exit statuses of a command that could not be executed, as of sh(1) and env(1).
const (
	NotExecutable = 126
	NotFound      = 127
)

// runEnter becomes the command. The order matters: capabilities are dropped
// while it still can be done, the guard comes before the filter because it
// opens nothing, and after the filter no call may be made that it notifies of,
// but the last.
func runEnter(control channel, ruleset int, c *Config) int {
	if err := enterDirectory(c); err != nil {
		return fail(control, err)
	}
	path, err := lookPath(c)
	if err != nil {
		return refuse(control, c, err)
	}
	if err := inherited.Ignore(c.Ignored); err != nil {
		return fail(control, err)
	}
	if c.Isolate {
		if err := dropCapabilities(); err != nil {
			return fail(control, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fail(control, fmt.Errorf("set no_new_privs: %w", err))
	}
	if c.Guard {
		if err := guard.Restrict(ruleset); err != nil {
			return fail(control, err)
		}
	}
	program, err := filter.Decode(c.Filter)
	if err != nil {
		return fail(control, err)
	}
	fd, err := installFilter(program)
	if err != nil {
		return fail(control, err)
	}
	if err := control.send(message{Kind: listener}, fd); err != nil {
		return stageFailed
	}
	unix.Close(fd)
	err = syscall.Exec(path, c.Args, c.Env)
	if errors.Is(err, unix.ENOEXEC) {
		// A script without "#!": execvp(3) gives it to the shell, and so does
		// every shell.
		err = syscall.Exec("/bin/sh", append([]string{"/bin/sh", path}, c.Args[1:]...), c.Env)
	}
	return refuse(control, c, err)
}

// enterDirectory enters the working directory, by name: inherited, it would be
// the host's own mount. Without a name the inherited one stays (in plain audit, a
// directory that was deleted).
func enterDirectory(c *Config) error {
	if c.Dir == "" {
		return nil
	}
	err := os.Chdir(c.Dir)
	if errors.Is(err, os.ErrNotExist) && c.Isolate {
		return fmt.Errorf("enter the working directory: %w: the jail has a /tmp, /var/tmp, /run and /dev of its own; run depguard from the workspace", err)
	}
	if err != nil {
		return fmt.Errorf("enter the working directory: %w", err)
	}
	return nil
}

// refuse tells that the command could not be executed.
func refuse(control channel, c *Config, err error) int {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		errno = unix.ENOENT
	}
	_ = control.send(message{Kind: noexec, Number: int(errno), Text: fmt.Sprintf("%s: %v", c.Args[0], err)})
	if errno == unix.ENOENT {
		return NotFound
	}
	return NotExecutable
}

// lookPath finds the command as execvp(3) does: a name with a slash is a path,
// another is looked for along PATH. It differs from os/exec in that it uses the
// command's environment and allows the current directory.
func lookPath(c *Config) (string, error) {
	name := c.Args[0]
	if name == "" {
		return "", unix.ENOENT
	}
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/bin:/usr/bin" // confstr(_CS_PATH)
	if i := slices.IndexFunc(c.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }); i >= 0 {
		path = strings.TrimPrefix(c.Env[i], "PATH=")
	}
	var found error = errors.New("command not found along PATH")
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		candidate := dir + "/" + name
		info, err := os.Stat(candidate)
		if err != nil || info.IsDir() {
			continue
		}
		if err := unix.Access(candidate, unix.X_OK); err != nil {
			found = err // EACCES, unless a later directory has it
			continue
		}
		return candidate, nil
	}
	return "", found
}
