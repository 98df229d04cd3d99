package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// childName is the zeroth argument that makes this executable a trial's child.
// No shell passes it by accident, and it can't be mistaken for a command.
const childName = "depguard-probe-child"

// childLife bounds the life of a child. It is far more than one needs: a
// trial takes milliseconds.
const childLife = 10 * time.Second

// hooked says that main calls Child. Without that, running the executable
// again would run the whole program again.
var hooked atomic.Bool

// children are the parts that a child can play, by its first argument.
var children = map[string]func(){
	"memory":     playMemory,
	"namespaces": playNamespaces,
}

// Child plays the other side of a trial when this process was started for
// that, and reports whether it did; main then returns at once. It must be the
// first thing in main, before arguments are parsed:
//
//	func main() {
//		if probe.Child() {
//			return
//		}
//		…
//
// A child that someone starts by hand is harmless: it changes only namespaces
// that it has just made.
func Child() bool {
	hooked.Store(true)
	if len(os.Args) == 0 || os.Args[0] != childName {
		return false
	}
	if len(os.Args) == 2 {
		if play, ok := children[os.Args[1]]; ok {
			play()
		}
	}
	return true // by that name it is never the program itself: a trial must not start another
}

// child is a running trial child. It lives until finish.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer // its end tells the child to leave
	stdout io.Reader // what it has to say: bounded
	cancel context.CancelFunc
}

// startChild runs this executable again to play part. The child ends when its
// standard input does, so also when this process is killed.
func startChild(ctx context.Context, part string, attr *syscall.SysProcAttr) (*child, error) {
	if !hooked.Load() {
		return nil, fmt.Errorf("this program does not call probe.Child")
	}
	ctx, cancel := context.WithTimeout(ctx, childLife)
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{childName, part}
	cmd.SysProcAttr = attr
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		_ = stdin.Close()
		return nil, err
	}
	cmd.Stderr = cmd.Stdout             // not /dev/null, which a chroot may lack; a complaint spoils the report, and shows
	if err := cmd.Start(); err != nil { // closes both pipes
		cancel()
		return nil, err
	}
	return &child{cmd, stdin, io.LimitReader(stdout, 64<<10), cancel}, nil
}

// finish ends the child's input, waits until it is gone and returns how it
// ended.
func (c *child) finish() error {
	defer c.cancel()
	_ = c.stdin.Close()
	_, _ = io.Copy(io.Discard, c.stdout) // Wait closes the pipe under a reader
	return c.cmd.Wait()
}

// hearJSON decodes what the child says.
func (c *child) hearJSON(v any) error { return json.NewDecoder(c.stdout).Decode(v) }
