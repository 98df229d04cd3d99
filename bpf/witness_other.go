//go:build !amd64

package bpf

import (
	"errors"
	"io"
	"runtime"
)

// Witness cannot be had on this architecture: the programs read system call
// arguments out of registers, and arch_*.h has no file for it.
type Witness struct{}

// Open returns an *UnsupportedError.
func Open() (*Witness, error) {
	return nil, &UnsupportedError{Support{
		Outcome: No,
		Reason:  "the tracing programs are built for amd64 only, not for " + runtime.GOARCH,
		Err:     errors.ErrUnsupported,
	}}
}

// Track returns errors.ErrUnsupported.
func (w *Witness) Track(pidfd int) error { return errors.ErrUnsupported }

// Read returns io.EOF.
func (w *Witness) Read(ev *Event) error { return io.EOF }

// Stop does nothing.
func (w *Witness) Stop() error { return nil }

// Close does nothing.
func (w *Witness) Close() (Ledger, error) { return Ledger{}, nil }
