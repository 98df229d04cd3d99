// Package console stands between the user's terminal and the jail's: the
// command runs on a pseudo-terminal of its own, so that it can neither
// reconfigure the user's terminal nor push input into it (TIOCSTI).
//
// The jail opens the pseudo-terminal (its slave has a name in the jail's own
// /dev/pts); here is the master. Output is copied to the user's terminal and
// into a ring of the last lines, input is copied the other way, the window
// size follows, and the user's terminal is in raw mode meanwhile: what ^C means
// is decided by the inner terminal.
package console

import (
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Streams are the descriptors 0 to 2 of depguard, and which are terminals.
type Streams struct {
	In, Out, Err *os.File
}

// Terminals says which of the streams are terminals.
func (s Streams) Terminals() [3]bool {
	return [3]bool{isTerminal(s.In), isTerminal(s.Out), isTerminal(s.Err)}
}

// display is the stream on which the user sees what the pseudo-terminal shows: the
// first terminal of output, error and input.
func (s Streams) display() *os.File {
	for _, f := range []*os.File{s.Out, s.Err} {
		if isTerminal(f) {
			return f
		}
	}
	return s.In
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// ringSize is how much of the output a Terminal remembers.
const ringSize = 64 << 10

// Terminal is the user's side of the jail's pseudo-terminal.
type Terminal struct {
	master  *os.File
	streams Streams
	ring    *Ring

	restore func() // sets the user's terminal back; nil when it was not changed
	resize  chan os.Signal
	cancel  *os.File // closing it ends the copying of input
	input   chan struct{}
	output  chan struct{}
}

// Attach takes over master, a descriptor, and starts copying. Close has to be
// called on every way out.
func Attach(master int, s Streams) (*Terminal, error) {
	foreground := isTerminal(s.In) && inForeground(int(s.In.Fd()))
	if !foreground {
		if err := plainOutput(master); err != nil {
			unix.Close(master)
			return nil, err
		}
	}
	t := &Terminal{
		master:  os.NewFile(uintptr(master), "pseudo-terminal"),
		streams: s,
		ring:    NewRing(ringSize),
		resize:  make(chan os.Signal, 1),
		input:   make(chan struct{}),
		output:  make(chan struct{}),
	}
	wake, cancel, err := os.Pipe()
	if err != nil {
		t.master.Close()
		return nil, fmt.Errorf("pipe: %w", err)
	}
	t.cancel = cancel
	if foreground {
		state, err := term.MakeRaw(int(s.In.Fd()))
		if err != nil {
			t.master.Close()
			wake.Close()
			cancel.Close()
			return nil, fmt.Errorf("set the terminal to raw mode: %w", err)
		}
		t.restore = func() { _ = term.Restore(int(s.In.Fd()), state) }
	}
	t.followSize()
	go t.copyOutput()
	go t.copyInput(wake, foreground)
	return t, nil
}

// plainOutput switches off what the pseudo-terminal makes of output: the user's
// terminal, when it is not in raw mode, does that a second time.
func plainOutput(master int) error {
	state, err := unix.IoctlGetTermios(master, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("get the mode of the pseudo-terminal: %w", err)
	}
	state.Oflag &^= unix.OPOST
	if err := unix.IoctlSetTermios(master, unix.TCSETS, state); err != nil {
		return fmt.Errorf("set the mode of the pseudo-terminal: %w", err)
	}
	return nil
}

// inForeground reports whether this process may read the terminal fd without
// being stopped (SIGTTIN).
func inForeground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// followSize gives the pseudo-terminal the size of the user's, now and whenever
// that changes.
func (t *Terminal) followSize() {
	signal.Notify(t.resize, unix.SIGWINCH)
	inherit := func() { _ = pty.InheritSize(t.streams.display(), t.master) }
	inherit()
	go func() {
		for range t.resize {
			inherit()
		}
	}()
}

// copyOutput ends when the last process that has the slave open is gone: the
// master then reads EIO (pty(7)).
func (t *Terminal) copyOutput() {
	defer close(t.output)
	buf := make([]byte, 32<<10)
	broken := false
	for {
		n, err := t.master.Read(buf)
		if n > 0 {
			_, _ = t.ring.Write(buf[:n])
			if !broken {
				_, werr := t.streams.display().Write(buf[:n])
				// The user's terminal is gone; the build must not stop at a
				// full pseudo-terminal.
				broken = werr != nil
			}
		}
		if err != nil {
			return
		}
	}
}

// copyInput copies what the user types until Close. It takes over wake.
func (t *Terminal) copyInput(wake *os.File, foreground bool) {
	defer close(t.input)
	defer wake.Close()
	if !foreground {
		return
	}
	in := int(t.streams.In.Fd())
	polls := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
	buf := make([]byte, 4<<10)
	for {
		if _, err := unix.Poll(polls, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		if polls[1].Revents != 0 || polls[0].Revents&unix.POLLIN == 0 {
			return
		}
		n, err := unix.Read(in, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		if _, err := t.master.Write(buf[:n]); err != nil {
			return
		}
	}
}

// Close waits until all output has been copied, sets the user's terminal back,
// and closes the master. The jail must have ended. It may be called twice.
func (t *Terminal) Close() {
	if t.master == nil {
		return
	}
	<-t.output
	t.cancel.Close()
	<-t.input
	if t.restore != nil {
		t.restore()
	}
	signal.Stop(t.resize)
	close(t.resize)
	t.master.Close()
	t.master = nil
}

// Tail returns the last n lines of the output.
func (t *Terminal) Tail(n int) []byte { return t.ring.Lines(n) }
