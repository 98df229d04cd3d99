// Command depguard runs a build in a jail, sees every file that it opens, and
// holds it to the dependencies that it declared.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"runtime"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/supervisor"
	"github.com/depguard/depguard/supervisor/jail"
	"github.com/depguard/depguard/supervisor/probe"
)

// The main goroutine stays on the process's first thread. The jail's parent
// death signal comes when the thread that forked it ends (prctl(2)), and the
// first thread ends last; the stages of the jail fork and execute on it too.
func init() { runtime.LockOSThread() }

func main() {
	switch {
	case jail.Invoked():
		os.Exit(jail.Main())
	case probe.Child():
		return
	}
	os.Exit(run(os.Args[1:]))
}

// command is what every subcommand is to main. It returns the status to exit
// with; an error makes it statusFailed.
type command interface {
	Run(ctx context.Context, stdout, stderr *os.File) (int, error)
}

// cli is the command line. Kong reads it.
type cli struct {
	Exec    ExecCmd    `cmd:"" help:"Run a command and see every file that it uses."`
	Policy  PolicyCmd  `cmd:"" help:"Write, check and edit policies."`
	Doctor  DoctorCmd  `cmd:"" help:"Say what this kernel and user can do."`
	Version VersionCmd `cmd:"" help:"Print the version."`
}

const description = `depguard runs a build in a jail, sees every file that it opens, and holds it to the
dependencies that it declared.

  depguard exec -- make                                what does this build really use?
  depguard exec --trace make.trace -- make             keep everything it did
  depguard policy learn make.trace > depguard.yaml     write that down as a policy
  depguard exec --policy depguard.yaml -- make         hold the build to it`

func run(args []string) int {
	// A closed pipe is an error of write(2), not the end of depguard, which
	// has a jail to take down. Caught and not ignored: the command is to have
	// the default.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)

	var c cli
	exit := -1
	parser, err := kong.New(&c, kong.Name("depguard"), kong.Description(description), kong.UsageOnError(),
		kong.Vars{"defaultPolicy": defaultPolicy, "defaultTrace": defaultTrace},
		kong.KindMapper(reflect.String, kong.MapperFunc(exactString)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Exit(func(status int) { exit = status }))
	if err != nil {
		return fail(os.Stderr, fmt.Errorf("BUG: %w", err))
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	selected, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help was asked for and given
	}
	if err != nil {
		fail(os.Stderr, err)
		fmt.Fprintf(os.Stderr, "  see         %s --help\n", usageOf(err))
		return statusFailed
	}
	chosen, ok := selected.Selected().Target.Addr().Interface().(command)
	if !ok {
		return fail(os.Stderr, fmt.Errorf("BUG: the command %s does nothing", selected.Command()))
	}
	status, err := chosen.Run(context.Background(), os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, errTold) {
		fail(os.Stderr, err)
		return statusFailed
	}
	return status
}

// exactString stores an argument byte by byte. Kong's own mapper goes through
// JSON, which replaces what is not UTF-8, and names of files need not be.
func exactString(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("string")
	if err != nil {
		return err
	}
	target.SetString(token.String())
	return nil
}

// usageOf names the command whose --help tells more about a parse error.
func usageOf(err error) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context.Selected() != nil {
		return "depguard " + parse.Context.Selected().Name
	}
	return "depguard"
}

// VersionCmd is `depguard version`.
type VersionCmd struct{}

// Run prints the version, and what it was built with.
func (VersionCmd) Run(_ context.Context, stdout, _ *os.File) (int, error) {
	_, err := fmt.Fprintf(stdout, "depguard %s (%s, %s/%s)\n", supervisor.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return 0, err
}
