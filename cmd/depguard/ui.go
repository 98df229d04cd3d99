package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/depguard/depguard/policy"
)

// How messages read: "depguard: " first, lower case, what is wrong, then what
// can be done about it. Nobody is blamed. "BUG:" marks what can't happen.

// Exit statuses of depguard's own.
const (
	statusUndeclared = 121 // the command succeeded but made undeclared accesses
	statusFailed     = 125 // depguard failed
)

// errTold says that what went wrong has been said already; the status counts.
var errTold = errors.New("already told")

// fail prints err, every error of a list by itself, and returns the status to
// exit with.
func fail(stderr *os.File, err error) int {
	var list policy.Errors
	if errors.As(err, &list) {
		for _, e := range list {
			fmt.Fprintf(stderr, "depguard: %v\n", e)
		}
		return statusFailed
	}
	fmt.Fprintf(stderr, "depguard: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	return statusFailed
}

// note prints something that is worth knowing and is no error.
func note(stderr *os.File, format string, args ...any) {
	fmt.Fprintf(stderr, "depguard: "+format+"\n", args...)
}

// terminalWidth returns the width of the terminal f in columns, or a usual one
// for what is none.
func terminalWidth(f *os.File) int {
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		return width
	}
	return 100
}
