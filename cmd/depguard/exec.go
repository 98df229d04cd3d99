package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/policy/owner"
	"github.com/depguard/depguard/supervisor"
	"github.com/depguard/depguard/supervisor/console"
	"github.com/depguard/depguard/supervisor/jail"
	"github.com/depguard/depguard/tracer"
	"github.com/depguard/depguard/tracer/report"
)

// ExecCmd is `depguard exec`.
type ExecCmd struct {
	Policy    string    `placeholder:"FILE" help:"Policy to hold the command to. With --enforce, ${defaultPolicy} when not given."`
	Enforce   bool      `help:"Refuse what the policy does not declare, whatever its mode says."`
	Isolate   bool      `help:"Give audit the jail of enforce: host read-only, private /tmp, /run, /dev, /proc and process ids."`
	Workspace []string  `sep:"none" placeholder:"DIR" help:"Directory that the command may read, write and execute. Default: the policy's, or the current directory."`
	Net       string    `enum:",host,none" default:"" placeholder:"host|none" help:"Network of an isolated jail; none is a loopback of its own. Default: the policy's, or host."`
	Trace     traceFile `placeholder:"FILE" help:"Keep everything that the command did in FILE (SQLite); ${defaultTrace} when -- stands right behind it."`
	Report    string    `placeholder:"FILE" help:"Write the report to FILE as JSON."`
	Full      bool      `help:"Print the report in full, not only what fits a screen."`
	Quiet     bool      `short:"q" help:"Print no report when there is nothing wrong."`
	PassFD    []string  `name:"pass-fd" placeholder:"N" help:"Descriptors that an isolated command inherits besides 0 to 2; \"jobserver\" means those of GNU make's. Audit passes all."`
	FailOn    string    `enum:",undeclared" default:"" placeholder:"undeclared" help:"Exit with 121 when audit saw an access that the policy does not declare."`
	IOUring   string    `name:"io-uring" enum:"allow,refuse" default:"allow" help:"In audit, io_uring is allowed and makes the trace incomplete; refuse it to have it complete. Enforce always refuses it."`
	Guard     string    `enum:"landlock,none" default:"landlock" help:"none accepts enforce on a kernel without Landlock."`
	NoWitness bool      `help:"Do without the tracing programs, also where they would load."`
	LogLevel  string    `enum:"debug,info,warn,error" default:"warn" help:"How much depguard says about itself: debug, info, warn or error."`
	LogJSON   bool      `name:"log-json" help:"Log as JSON."`

	Command []string `arg:"" passthrough:"" placeholder:"COMMAND" help:"The command and its arguments, best behind --."`
}

// defaultPolicy is the policy file that --enforce takes when none is named.
const defaultPolicy = "depguard.yaml"

// defaultTrace is the trace that --trace writes when no file is named, and that
// policy learn reads then.
const defaultTrace = "depguard.trace"

// traceFile is a file name that can be left out where the command begins.
type traceFile string

// Decode is kong's way to set the flag (kong.MapperValue).
func (t *traceFile) Decode(ctx *kong.DecodeContext) error {
	if ctx.Scan.Peek().String() == "--" {
		*t = defaultTrace
		return nil
	}
	token, err := ctx.Scan.PopValue("file")
	if err != nil {
		return err
	}
	*t = traceFile(token.String())
	return nil
}

// Help is the long help text (kong.HelpProvider).
func (ExecCmd) Help() string {
	return `In audit, the default, nothing is denied and nothing changes for the command; at
the end a report on standard error says which packages it used. In enforce only
declared files can be read and executed, and nothing outside the workspace can be
written.

Exit status: the command's own; 128+n when signal n ended it; 121 when it succeeded
but made undeclared accesses (enforce, or audit with --fail-on=undeclared); 125 when
depguard failed; 126 when the command was found but cannot be executed; 127 when it
was not found.

Examples:
  depguard exec -- make -j4
  depguard exec --trace make.trace -- make
  depguard exec --policy depguard.yaml --enforce --net=none -- make check
  +depguard exec --pass-fd jobserver --enforce -- $(MAKE) all       (in a makefile)`
}

// Run runs the command.
func (c *ExecCmd) Run(ctx context.Context, stdout, stderr *os.File) (int, error) {
	config, err := c.config(stdout, stderr)
	if err != nil {
		return statusFailed, err
	}
	log := c.logger(stderr)
	// Before the command runs: it may change what the name leads to.
	var reportFile *output
	if c.Report != "" {
		if reportFile, err = openOutput(c.Report); err != nil {
			return statusFailed, fmt.Errorf("open the report: %w", err)
		}
		defer reportFile.Close()
	}
	var keeper *keeper
	config.Started = func(r *tracer.Recorder) error {
		for _, m := range r.Run().Mechanisms {
			log.Info().Str("mechanism", m.Name).Bool("active", m.Active).Msg(m.Detail)
		}
		if c.Trace != "" {
			keeper, err = keep(string(c.Trace), r)
		}
		return err
	}
	result, err := supervisor.Run(ctx, *config)
	if result == nil {
		keeper.abandon()
		return statusFailed, err
	}
	if err != nil {
		fail(stderr, err)
	}
	if result.NotExecuted != nil {
		fail(stderr, result.NotExecuted)
	}
	stopped := keeper.pause()
	if silent := c.silent(result); !silent || c.Trace != "" || c.Report != "" {
		c.attribute(config, result.Trace, stderr)
	}
	told := c.tell(result, reportFile, stderr)
	kept := keeper.finish(result.Trace)
	if kept != nil {
		kept = errors.Join(kept, stopped)
	}
	if err := errors.Join(told, kept); err != nil {
		fail(stderr, err)
		return statusFailed, errTold
	}
	if err != nil {
		return statusFailed, errTold
	}
	return c.status(result, stderr), nil
}

// config turns the flags, the policy and the surroundings into a run.
func (c *ExecCmd) config(stdout, stderr *os.File) (*supervisor.Config, error) {
	args := c.Command
	switch {
	case len(args) > 0 && args[0] == "--":
		args = args[1:]
	case len(args) > 0 && strings.HasPrefix(args[0], "-"):
		return nil, fmt.Errorf("unknown flag %s\nsee depguard exec --help; a command of that name goes behind --", args[0])
	}
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("no command was given\nwrite it behind --, as in: depguard exec -- make")
	}
	// Without a name (it was deleted), plain audit stays in it all the same.
	dir, lost := os.Getwd()
	if full, err := filepath.EvalSymlinks(dir); err == nil {
		dir = full // a link to it may lie where the jail has a directory of its own
	}
	config := &supervisor.Config{
		Args: args, Dir: dir, Env: os.Environ(), Isolate: c.Isolate,
		NoGuard: c.Guard == "none", NoIOUring: c.IOUring == "refuse", NoWitness: c.NoWitness,
		Network: policy.Network(c.Net),
		Streams: console.Streams{In: os.Stdin, Out: stdout, Err: stderr},
	}
	var err error
	if config.Home, err = os.UserHomeDir(); err != nil {
		config.Home = "" // only a policy that says ~ needs it, and says so
	}
	if err := c.loadPolicy(config); err != nil {
		return nil, err
	}
	if lost != nil && (config.Isolate || config.Enforce) {
		return nil, fmt.Errorf("find the current directory: %w", lost)
	}
	if config.Network == "" {
		config.Network = policy.NetworkHost
	}
	if err := c.findWorkspace(config); err != nil {
		return nil, err
	}
	config.Keep, err = c.descriptors(config.Isolate || config.Enforce)
	return config, err
}

// loadPolicy reads the policy, if there is to be one, and opens the package
// database where it names packages.
func (c *ExecCmd) loadPolicy(config *supervisor.Config) error {
	name := c.Policy
	if name == "" {
		if !c.Enforce {
			return nil
		}
		name = defaultPolicy
	}
	p, err := readPolicy(name)
	if errors.Is(err, fs.ErrNotExist) && c.Policy == "" {
		return fmt.Errorf("--enforce needs a policy, and there is no %s here\nname one with --policy, or write one from an audit:\n  depguard exec --trace build.trace -- %s\n  depguard policy learn build.trace > %s",
			defaultPolicy, strings.Join(config.Args, " "), defaultPolicy)
	}
	if err != nil {
		return err
	}
	full, err := filepath.Abs(name)
	if err != nil {
		return err
	}
	if resolved, err := filepath.EvalSymlinks(full); err == nil {
		full = resolved
	}
	config.Policy, config.PolicyDir = p, filepath.Dir(full)
	config.Enforce = c.Enforce || p.Mode == policy.Enforce
	if config.Network == "" {
		config.Network = p.Network
	}
	if len(p.Packages.Depend)+len(p.Packages.System) > 0 {
		config.Packages, err = owner.Open("/", p.Packages.Manager)
	}
	return err
}

// findWorkspace makes the workspaces absolute, without symbolic links. Those of
// the flag replace the policy's.
func (c *ExecCmd) findWorkspace(config *supervisor.Config) error {
	trees, base := c.Workspace, config.Dir
	switch {
	case len(trees) > 0 && config.Policy != nil:
		config.Policy.Workspace = nil
	case len(trees) == 0 && config.Policy != nil:
		base = config.PolicyDir
		for _, w := range config.Policy.Workspace {
			trees = append(trees, w.Path)
		}
	case len(trees) == 0 && base != "":
		trees = []string{"."}
	}
	plain := !config.Isolate && !config.Enforce
	for _, tree := range trees {
		tree = expandHome(tree, config.Home)
		if !filepath.IsAbs(tree) {
			tree = filepath.Join(base, tree)
		}
		full, err := filepath.EvalSymlinks(tree)
		switch {
		case err != nil && len(c.Workspace) == 0 && plain:
			full = tree // below a directory that is closed to us; it only counts in the report
		case err != nil:
			return fmt.Errorf("workspace: %w", err)
		}
		if !plain {
			if err := jail.CheckWorkspace(full); err != nil {
				return err
			}
		}
		config.Workspace = append(config.Workspace, full)
		if len(c.Workspace) > 0 && config.Policy != nil {
			config.Policy.Workspace = append(config.Policy.Workspace, policy.WorkspaceTree{Path: full})
		}
	}
	return nil
}

func expandHome(path, home string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(home, rest)
	}
	return path
}

// descriptors are those that the command inherits besides 0 to 2: in plain
// audit all that depguard itself was given.
func (c *ExecCmd) descriptors(isolated bool) ([]int, error) {
	inherited, err := jail.Inherited()
	if err != nil || !isolated && len(c.PassFD) == 0 {
		return inherited, err
	}
	var keep []int
	for _, word := range c.PassFD {
		fds, err := passed(word)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			if !slices.Contains(inherited, fd) {
				return nil, fmt.Errorf("--pass-fd %s: descriptor %d is not open in depguard itself\nin a makefile, a recipe gets make's jobserver only when its line starts with +", word, fd)
			}
			keep = append(keep, fd)
		}
	}
	return keep, nil
}

// passed returns the descriptors that one value of --pass-fd names.
func passed(word string) ([]int, error) {
	if word == "jobserver" {
		return jobserver(os.Getenv("MAKEFLAGS"))
	}
	fd, err := strconv.Atoi(word)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("--pass-fd %s: it takes a descriptor number from 3 on, or the word jobserver", word)
	}
	return []int{fd}, nil
}

// jobserver reads the descriptors of GNU make's jobserver out of MAKEFLAGS
// ("POSIX Jobserver" in the manual of make). A jobserver that is a named pipe
// (fifo:PATH, make 4.4) needs none.
func jobserver(flags string) ([]int, error) {
	for word := range strings.FieldsSeq(flags) {
		value, ok := strings.CutPrefix(word, "--jobserver-auth=")
		if !ok {
			value, ok = strings.CutPrefix(word, "--jobserver-fds=") // make < 4.2
		}
		if !ok || strings.HasPrefix(value, "fifo:") {
			continue
		}
		var r, w int
		if _, err := fmt.Sscanf(value, "%d,%d", &r, &w); err != nil {
			return nil, fmt.Errorf("MAKEFLAGS has a jobserver that depguard does not know: %s", word)
		}
		if r < 0 {
			continue // make's way to say that this recipe gets none
		}
		return []int{r, w}, nil
	}
	return nil, nil
}

func (c *ExecCmd) logger(stderr *os.File) zerolog.Logger {
	level, err := zerolog.ParseLevel(c.LogLevel)
	if err != nil {
		level = zerolog.WarnLevel // the flag's enum admits levels only
	}
	if c.LogJSON {
		return zerolog.New(stderr).Level(level).With().Timestamp().Logger()
	}
	return zerolog.New(zerolog.ConsoleWriter{Out: stderr, NoColor: !isColorTerminal(stderr), TimeFormat: time.TimeOnly}).Level(level).With().Timestamp().Logger()
}

// attribute names the packages behind the files of t, where there is a package
// database.
func (c *ExecCmd) attribute(config *supervisor.Config, t *tracer.Trace, stderr *os.File) {
	db, err := config.Packages, error(nil)
	if db == nil {
		db, err = owner.Open("/", "auto")
	}
	if err == nil {
		err = t.Attribute(db)
	}
	if err != nil && !c.Quiet {
		note(stderr, "files are listed without their packages: %v", err)
	}
}

// silent reports whether there is nothing to print: nothing is wrong, and that
// is either not to be told or goes without saying.
func (c *ExecCmd) silent(result *supervisor.Result) bool {
	fine := undeclared(result.Trace) == 0 && result.Trace.Run.Losses.Complete()
	return fine && (c.Quiet || result.NotExecuted != nil)
}

// tell prints the report, and writes it where --report says.
func (c *ExecCmd) tell(result *supervisor.Result, file *output, stderr *os.File) error {
	summary := report.Summarize(result.Trace, policy.Base())
	if file != nil {
		data, err := json.MarshalIndent(summary, "", "  ")
		if err != nil {
			return fmt.Errorf("BUG: encode the report: %w", err)
		}
		if err := file.Write(append(data, '\n')); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if c.silent(result) {
		return nil
	}
	// Nobody reads any more when this fails.
	_ = summary.WriteText(stderr, report.Style{Color: isColorTerminal(stderr), Width: terminalWidth(stderr), Full: c.Full})
	return nil
}

// status is what depguard exits with after a command that ran.
func (c *ExecCmd) status(result *supervisor.Result, stderr *os.File) int {
	enforced := result.Trace.Run.Mode == policy.Enforce
	switch {
	case result.Status != 0:
		return result.Status
	case enforced && !result.Trace.Run.Losses.Complete():
		note(stderr, "the trace of this enforced run is incomplete, so that it proves nothing; the report says what was lost")
		return statusFailed
	case undeclared(result.Trace) > 0 && (enforced || c.FailOn == "undeclared"):
		return statusUndeclared
	}
	return 0
}

// undeclared counts the accesses that the policy does not cover.
func undeclared(t *tracer.Trace) int {
	n := 0
	for i := range t.Accesses {
		if t.Accesses[i].Verdict != allowlist.Allow {
			n++
		}
	}
	return n
}
