package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The tests of this file and of process_test.go and terminal_test.go run the
// real binary, which is built once, and small C programs, which are compiled
// once. They pass as root and as an ordinary user, who sees another kernel than
// root does.
//
// DEPGUARD_BINARY names a binary to test instead of building one, for users who
// have no Go.

func TestMain(m *testing.M) {
	status := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(status)
}

// built is what the tests run: bin/depguard, and one program for each file of
// testdata/programs.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// tools returns the directory that holds the binary and the programs. It skips
// the test, or fails it where DEPGUARD_MUST_WORK=1 says that the machine can,
// when this kernel or user can't have a jail.
func tools(t *testing.T) string {
	t.Helper()
	built.once.Do(func() { built.err = build() })
	var lacking *cannotEnforce
	if errors.As(built.err, &lacking) && os.Getenv("DEPGUARD_MUST_WORK") != "1" {
		t.Skip(lacking.Error())
	}
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

// cannotEnforce says why nothing can be tested here, in the words of
// `depguard doctor`.
type cannotEnforce struct{ reasons []string }

func (e *cannotEnforce) Error() string {
	return "this machine and user cannot enforce: " + strings.Join(e.reasons, "; ")
}

func build() (err error) {
	if built.dir, err = os.MkdirTemp("", "depguard-test-"); err != nil {
		return err
	}
	if err := os.Chmod(built.dir, 0o755); err != nil {
		return err
	}
	if err := buildBinary(filepath.Join(built.dir, "bin", "depguard")); err != nil {
		return err
	}
	if err := compilePrograms(filepath.Join(built.dir, "programs")); err != nil {
		return err
	}
	return examine(filepath.Join(built.dir, "bin", "depguard"))
}

// buildBinary builds the static binary as `make build` does.
func buildBinary(to string) error {
	if err := os.Mkdir(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if from := os.Getenv("DEPGUARD_BINARY"); from != "" {
		from, err := filepath.Abs(from)
		if err != nil {
			return err
		}
		return os.Symlink(from, to)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "netgo,osusergo",
		"-ldflags", "-s -w -linkmode external -extldflags -static", "-o", to, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build depguard: %w\n%s", err, out)
	}
	return nil
}

// programFlags are the flags of the programs that need some.
var programFlags = map[string][]string{
	"race":     {"-pthread"},
	"compress": {"-lz"},
}

func compilePrograms(to string) error {
	for _, needed := range []struct{ package_, file string }{
		{"build-essential", "/usr/bin/gcc"}, {"zlib1g-dev", "/usr/include/zlib.h"}, {"pkgconf", "/usr/bin/pkg-config"},
	} {
		if _, err := os.Stat(needed.file); err != nil {
			return fmt.Errorf("these tests need the package %s: run `make setup` (%w)", needed.package_, err)
		}
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	sources, err := filepath.Glob(filepath.Join(moduleRoot, "testdata", "programs", "*.c"))
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return errors.New("no programs in testdata/programs")
	}
	for _, source := range sources {
		name := strings.TrimSuffix(filepath.Base(source), ".c")
		if err := compile(source, filepath.Join(to, name), programFlags[name]...); err != nil {
			return err
		}
	}
	return compile(filepath.Join(moduleRoot, "testdata", "programs", "doors.c"), filepath.Join(to, "doors-static"), "-static")
}

func compile(source, to string, flags ...string) error {
	args := append([]string{"-O1", "-Wall", "-Wextra", "-o", to, source}, flags...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", source, err, out)
	}
	return nil
}

// examine asks depguard itself whether enforce, and so everything, is possible.
func examine(binary string) error {
	out, err := exec.Command(binary, "doctor", "--json").Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("depguard doctor: %w", err)
	}
	var found struct {
		Enforce  bool
		Features []struct {
			Name, Detail, Outcome string
			Needed                []string
		}
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return fmt.Errorf("depguard doctor --json: %w: %s", err, out)
	}
	if found.Enforce {
		return nil
	}
	lacking := &cannotEnforce{}
	for _, f := range found.Features {
		if f.Outcome != "yes" && strings.Contains(strings.Join(f.Needed, " "), "enforce") {
			lacking.reasons = append(lacking.reasons, f.Name+": "+f.Detail)
		}
	}
	return lacking
}

// TestScripts runs testdata/scripts. Beside testscript's own commands there is
//
//	status N PROGRAM [ARG…]    runs a program, which must exit with status N
//
// and the conditions root and user. The variables PROGRAMS and EXAMPLES name the
// compiled programs and the module's examples, OUTSIDE a directory that lies
// neither in a workspace nor among the temporary files. A script starts in its own directory, $WORK.
func TestScripts(t *testing.T) {
	dir := tools(t)
	examples, err := filepath.Abs(filepath.Join(moduleRoot, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join(moduleRoot, "testdata", "scripts"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Join(dir, "bin")+":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
			env.Setenv("PROGRAMS", filepath.Join(dir, "programs"))
			env.Setenv("EXAMPLES", examples)
			env.Setenv("LC_ALL", "C")
			// Where programs put their temporary files; testscript's own choice
			// lies outside of the workspaces.
			env.Setenv("TMPDIR", "/tmp")
			return outside(env)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "user":
				return os.Geteuid() != 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds:               map[string]func(*testscript.TestScript, bool, []string){"status": status},
		RequireUniqueNames: true,
	})
}

// outside makes the directory OUTSIDE.
func outside(env *testscript.Env) error {
	dir, err := outsideDir()
	if err != nil {
		return err
	}
	env.Defer(func() { os.RemoveAll(dir) })
	env.Setenv("OUTSIDE", dir)
	return nil
}

// outsideDir makes a directory that lies neither in a workspace nor among the
// temporary files, which are everyone's: in the user's home.
func outsideDir() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(home, ".depguard-test-")
}

func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
