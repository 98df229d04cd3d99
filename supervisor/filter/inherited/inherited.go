// Package inherited tells which signals this process was told to ignore, and which
// to block, by the one that executed it.
//
// A command keeps both (nohup(1), a shell's background jobs, daemons that ignore
// SIGPIPE), and so must the command that depguard executes in its turn. Go's runtime
// unblocks signals and puts its own handlers in place of all but SIGHUP and SIGINT before any Go
// code runs, and exec resets handlers to the default: the only moment to look is
// before the runtime starts, in a constructor in C. It is below package filter
// because nothing else is linked with C.
package inherited

/*
#include <signal.h>

static unsigned long long ignored, blocked;

__attribute__((constructor)) static void look(void)
{
	sigset_t mask;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (int sig = 1; sig <= 64; sig++) {
		struct sigaction action;

		if (sigismember(&mask, sig) == 1)
			blocked |= 1ULL << (sig - 1);

		// The C library keeps two signals for itself, and refuses them here.
		if (sigaction(sig, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			ignored |= 1ULL << (sig - 1);
	}
}

static unsigned long long ignored_at_start(void)
{
	return ignored;
}

static unsigned long long blocked_at_start(void)
{
	return blocked;
}

// block sets the signal mask of the calling thread.
static int block(unsigned long long set)
{
	sigset_t mask;

	sigemptyset(&mask);
	for (int sig = 1; sig <= 64; sig++)
		if (set & 1ULL << (sig - 1))
			sigaddset(&mask, sig);
	return sigprocmask(SIG_SETMASK, &mask, NULL);
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

// Signals is what a process inherits about signals through exec.
type Signals struct {
	Ignored, Blocked uint64 // bit n-1 stands for signal n, as in proc_pid_status(5)
}

// AtStart returns what this process inherited.
func AtStart() Signals {
	return Signals{Ignored: uint64(C.ignored_at_start()), Blocked: uint64(C.blocked_at_start())}
}

// Restore makes the calling thread, and the one image that it is about to execute,
// inherit the same: it is for the moment before an exec. The calling goroutine has
// to be locked to its thread.
func (s Signals) Restore() error {
	for sig := 1; sig <= 64; sig++ {
		if s.Ignored&(1<<(sig-1)) == 0 {
			continue
		}
		if result, err := C.ignore(C.int(sig)); result != 0 {
			return fmt.Errorf("ignore the signal %v: %w", syscall.Signal(sig), err)
		}
	}
	if result, err := C.block(C.ulonglong(s.Blocked)); result != 0 {
		return fmt.Errorf("set the signal mask: %w", err)
	}
	return nil
}
