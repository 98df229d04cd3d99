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
	paths, err := lookPath(c)
	if err != nil {
		return refuse(control, c, err)
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
	if err := c.Signals.Restore(); err != nil {
		return fail(control, err)
	}
	return refuse(control, c, execute(paths, c))
}

// execute executes the first of paths that can be, as execvp(3) does; what it
// returns is why none could.
func execute(paths []string, c *Config) error {
	var denied error
	for _, path := range paths {
		err := syscall.Exec(path, c.Args, c.Env)
		switch {
		case errors.Is(err, unix.ENOEXEC):
			// A script without "#!" goes to the shell, as every shell has it.
			return syscall.Exec("/bin/sh", append([]string{"/bin/sh", path}, c.Args[1:]...), c.Env)
		case errors.Is(err, unix.EACCES):
			denied = err
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
			return err
		}
	}
	if denied != nil {
		return denied
	}
	return unix.ENOENT
}

// enterDirectory enters the working directory of an isolated jail by name: the
// inherited one is on the host's own mount. In plain audit the inherited one is
// right, also where its name leads nowhere or is closed to us.
func enterDirectory(c *Config) error {
	if !c.Isolate {
		return nil
	}
	err := os.Chdir(c.Dir)
	if errors.Is(err, os.ErrNotExist) {
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

// lookPath returns what the command's name can mean: a name with a slash is a
// path, another is looked for along PATH. It differs from os/exec in that it uses
// the command's environment, allows the current directory and goes on past the
// first that exists, which the policy may hide.
func lookPath(c *Config) ([]string, error) {
	name := c.Args[0]
	if name == "" {
		return nil, unix.ENOENT
	}
	if strings.Contains(name, "/") {
		return []string{name}, nil
	}
	path := "/bin:/usr/bin" // confstr(_CS_PATH)
	if i := slices.IndexFunc(c.Env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }); i >= 0 {
		path = strings.TrimPrefix(c.Env[i], "PATH=")
	}
	var found []string
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		candidate := dir + "/" + name
		if info, err := os.Stat(candidate); err == nil && !info.IsDir() {
			found = append(found, candidate)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("command not found along PATH")
	}
	return found, nil
}
