package jail

import (
	"fmt"
	"os"
	"strconv"
)

// Invoked reports whether this process is one of the jail's own stages. The
// main function has to ask before anything else, and then call Main on the
// process's first thread.
func Invoked() bool { return len(os.Args) > 0 && os.Args[0] == stageName }

// Main is the main function of a stage. It returns the status to exit with.
func Main() int {
	if len(os.Args) < 4 {
		return misuse()
	}
	fds := make([]int, 0, 4)
	for _, arg := range os.Args[2:] {
		fd, err := strconv.Atoi(arg)
		if err != nil {
			return misuse()
		}
		fds = append(fds, fd)
	}
	control := channel(fds[0])
	closeOnExec(fds...)
	config, err := readConfig(fds[1])
	if err != nil {
		return fail(control, err)
	}
	switch {
	case os.Args[1] == "init":
		return runInit(control, fds[1], config)
	case os.Args[1] == "enter" && len(fds) == 3:
		return runEnter(control, fds[2], config)
	}
	return misuse()
}

// stageFailed is the exit status of a stage that could not do its work; what
// went wrong went to the supervisor.
const stageFailed = 125

func fail(control channel, err error) int {
	// When the supervisor is gone, nobody is left to be told.
	_ = control.send(message{Kind: failed, Text: err.Error()})
	return stageFailed
}

func misuse() int {
	fmt.Fprintf(os.Stderr, "depguard: %s is for depguard's own use\n", stageName)
	return stageFailed
}
