package main

import (
	"fmt"
	"time"

	"github.com/depguard/depguard/tracer"
	"github.com/depguard/depguard/tracer/store"
)

// keeper writes the trace to disk while the run goes on.
type keeper struct {
	recorder *tracer.Recorder
	writer   *store.Writer
	stop     chan struct{}
	done     chan error
}

// keepEvery is how much of a trace a crash can cost.
const keepEvery = 250 * time.Millisecond

func keep(path string, r *tracer.Recorder) (*keeper, error) {
	writer, err := store.Create(path, r.Run())
	if err != nil {
		return nil, err
	}
	k := &keeper{recorder: r, writer: writer, stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { k.done <- k.write() }()
	return k, nil
}

// write appends what changed until it is told to stop. What could not be written
// (the disk was full) is tried again at the end.
func (k *keeper) write() error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	var failed error
	for {
		select {
		case <-k.stop:
			return failed
		case <-tick.C:
			if failed == nil {
				failed = k.writer.Append(k.recorder.Changes())
			}
		}
	}
}

// pause ends the writing meanwhile, so that the trace can be completed, and
// returns what it failed with. It may be called on nil.
func (k *keeper) pause() error {
	if k == nil {
		return nil
	}
	close(k.stop)
	return <-k.done
}

// finish writes what is not on disk yet, after pause. It may be called on nil.
func (k *keeper) finish(t *tracer.Trace) error {
	if k == nil {
		return nil
	}
	if err := k.writer.Finish(t); err != nil {
		return fmt.Errorf("the trace is cut short: %w", err)
	}
	return nil
}

// abandon closes the trace of a run that did not come to its end.
func (k *keeper) abandon() {
	if k == nil {
		return
	}
	_ = k.pause()
	_ = k.writer.Close() // what failed the run is the better message
}
