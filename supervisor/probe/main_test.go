package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// hostileEnv names the entry of hostilePlaces in which this test binary, run
// again, is to try everything.
const hostileEnv = "DEPGUARD_TEST_HOSTILE_PLACE"

func TestMain(m *testing.M) {
	if Child() {
		return
	}
	if place := os.Getenv(hostileEnv); place != "" {
		tryIn(place)
		return
	}
	// The race detector has every process sleep for a second at its end.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// tryIn makes this process's surroundings hostile and prints what All finds.
func tryIn(place string) {
	if err := hostilePlaces[place].spoil(); err != nil {
		fmt.Fprintf(os.Stderr, "make the place %q: %v\n", place, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(All(context.Background())); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// requires ends a test that this machine can't run: skipped with the reason,
// or failed where DEPGUARD_MUST_WORK=1 says that the machine can.
func requires(t *testing.T, have bool, reason string) {
	t.Helper()
	if have {
		return
	}
	if os.Getenv("DEPGUARD_MUST_WORK") == "1" {
		t.Fatalf("DEPGUARD_MUST_WORK=1, but %s", reason)
	}
	t.Skip(reason)
}
