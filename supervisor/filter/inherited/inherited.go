// Package inherited tells which signals this process was told to ignore by the
// one that executed it.
//
// A command keeps ignoring them (nohup(1), a shell's background jobs, daemons that
// ignore SIGPIPE), and so must the command that depguard executes in its turn. Go's
// runtime puts its own handlers in place of all but SIGHUP and SIGINT before any Go
// code runs, and exec resets handlers to the default: the only moment to look is
// before the runtime starts, in a constructor in C. It is below package filter
// because nothing else is linked with C.
package inherited

/*
#include <signal.h>

static unsigned long long ignored;

__attribute__((constructor)) static void look(void)
{
	for (int sig = 1; sig <= 64; sig++) {
		struct sigaction action;

		// The C library keeps two signals for itself, and refuses them here.
		if (sigaction(sig, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			ignored |= 1ULL << (sig - 1);
	}
}

static unsigned long long ignored_at_start(void)
{
	return ignored;
}

// Go's os/signal leaves alone the signals that its runtime lives on.
static int ignore(int sig)
{
	struct sigaction action = {.sa_handler = SIG_IGN};

	return sigaction(sig, &action, NULL);
}
*/
import "C"

import (
	"fmt"
	"syscall"
)

// Ignored returns the signals that were ignored when this process was executed.
func Ignored() []syscall.Signal {
	var signals []syscall.Signal
	set := uint64(C.ignored_at_start())
	for sig := range 64 {
		if set&(1<<sig) != 0 {
			signals = append(signals, syscall.Signal(sig+1))
		}
	}
	return signals
}

// Ignore makes this process ignore the signals, those of the runtime too. It is
// for the moment before an exec, through which they stay ignored.
func Ignore(signals []syscall.Signal) error {
	for _, sig := range signals {
		if result, err := C.ignore(C.int(sig)); result != 0 {
			return fmt.Errorf("ignore the signal %v: %w", sig, err)
		}
	}
	return nil
}
