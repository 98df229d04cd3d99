package tracer

import (
	"errors"
	"fmt"
	"io"

	"github.com/depguard/depguard/bpf"
)

// KernelWitness feeds a Recorder with what the tracing programs see.
type KernelWitness struct {
	programs *bpf.Witness
	drained  chan error
}

// StartKernelWitness loads and attaches the tracing programs. They report on no
// task until Track names one.
func StartKernelWitness() (*KernelWitness, error) {
	programs, err := bpf.Open()
	var unsupported *bpf.UnsupportedError
	if errors.As(err, &unsupported) {
		return nil, errors.New(unsupported.Reason) // the error has the verifier's words, too
	}
	if err != nil {
		return nil, err
	}
	return &KernelWitness{programs: programs}, nil
}

// Feed starts the goroutine that hands what the programs report to r. It ends in
// Stop.
func (w *KernelWitness) Feed(r *Recorder) {
	w.drained = make(chan error, 1)
	go func() {
		var ev bpf.Event
		for {
			switch err := w.programs.Read(&ev); {
			case err == nil:
				r.Kernel(&ev)
			case errors.Is(err, io.EOF):
				w.drained <- nil
				return
			default:
				w.drained <- fmt.Errorf("read the witness: %w", err)
				return
			}
		}
	}()
}

// Track makes the programs report on the process of pidfd and on all that it
// will fork.
func (w *KernelWitness) Track(pidfd int) error { return w.programs.Track(pidfd) }

// Stop detaches the programs, waits until the recorder has everything that they
// reported, and returns what was lost. A witness that was never fed is only
// closed.
func (w *KernelWitness) Stop() (Losses, error) {
	err := w.programs.Stop()
	if w.drained != nil {
		err = errors.Join(err, <-w.drained)
	}
	ledger, closeErr := w.programs.Close()
	return Losses{
		KernelDropped: ledger.Dropped + ledger.Unread + ledger.LostMarks,
		KernelMissed:  ledger.Missed,
		Unreadable:    ledger.Unreadable + ledger.Truncated + ledger.Gone + ledger.LostLoaders,
	}, errors.Join(err, closeErr)
}
