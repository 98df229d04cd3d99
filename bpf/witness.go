//go:build amd64

package bpf

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// Witness is the programs in force and the ring they write to. It reports
// nothing until a process is tracked.
type Witness struct {
	objects  witnessObjects
	programs []*ebpf.Program
	reader   *ringbuf.Reader
	poll     time.Duration // how long Read sleeps when nobody wakes it

	stop    sync.Once
	stopErr error
	links   []link.Link // touched by open and, once, by Stop

	read atomic.Uint64 // events returned by Read

	// Touched by the goroutine that calls Read.
	record  ringbuf.Record
	drained bool
}

// Open loads and attaches the programs. On a machine that can't have them the
// error is an *UnsupportedError.
func Open() (*Witness, error) { return open(ringBytes(runtime.NumCPU())) }

// The ring holds what all CPUs produce while the reader is kept from running:
// 4 MiB are 20,000 opens.
const (
	ringBytesPerCPU = 4 << 20
	maxRingBytes    = 64 << 20
)

// ringBytes returns the size of the ring, a power of two as the kernel wants.
func ringBytes(cpus int) uint32 {
	cpus = min(cpus, maxRingBytes/ringBytesPerCPU)
	return ringBytesPerCPU << bits.Len(uint(cpus-1))
}

func open(ringBytes uint32) (*Witness, error) {
	w := &Witness{poll: pollInterval}
	if err := w.load(ringBytes); err != nil {
		return nil, loadError(err)
	}
	if err := w.attach(); err != nil {
		return nil, errors.Join(err, w.detach(), w.objects.Close())
	}
	reader, err := ringbuf.NewReader(w.objects.Ring)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the ring buffer: %w", err), w.detach(), w.objects.Close())
	}
	reader.SetDeadline(time.Now().Add(w.poll))
	w.reader = reader
	return w, nil
}

func (w *Witness) load(ringBytes uint32) error {
	spec, err := loadWitness()
	if err != nil {
		return err
	}
	var specs witnessSpecs
	if err := spec.Assign(&specs); err != nil {
		return err
	}
	var pidns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &pidns); err != nil {
		return fmt.Errorf("identify the own pid namespace (is /proc mounted?): %w", err)
	}
	specs.Ring.MaxEntries = ringBytes
	if err := specs.SupervisorPidns.Set(uint32(pidns.Ino)); err != nil {
		return err
	}
	if err := specs.WakeMark.Set(uint64(ringBytes / 8)); err != nil {
		return err
	}
	if err := spec.LoadAndAssign(&w.objects, nil); err != nil {
		return err
	}
	o := &w.objects
	w.programs = []*ebpf.Program{o.OnFork, o.OnExec, o.OnExit, o.OnSysExit}
	return nil
}

func (w *Witness) attach() error {
	for _, p := range w.programs {
		l, err := link.AttachTracing(link.TracingOptions{Program: p, AttachType: ebpf.AttachTraceRawTp})
		if err != nil {
			return fmt.Errorf("attach %v: %w", p, err)
		}
		w.links = append(w.links, l)
	}
	return nil
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL, include/uapi/linux/membarrier.h.
const membarrierGlobal = 1

// detach takes the programs off their hooks and returns when none of them
// runs any more.
func (w *Witness) detach() error {
	var errs []error
	for _, l := range w.links {
		errs = append(errs, l.Close())
	}
	w.links = nil
	// Closing a link takes the program out of the hook's list but does not
	// wait for a CPU that is just running it, with preemption disabled or
	// under the RCU read lock. MEMBARRIER_CMD_GLOBAL waits for an RCU grace
	// period (membarrier(2), NOTES). Kernels with nohz_full refuse it;
	// then Unread would show an event that came late.
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
	if errno != 0 && errno != unix.EINVAL && errno != unix.ENOSYS {
		errs = append(errs, fmt.Errorf("wait for running programs: %w", errno))
	}
	return errors.Join(errs...)
}

// Track marks the process that pidfd refers to (pidfd_open(2)): its events
// and those of all its descendants from now on are reported. What it did
// before is not, so it should wait until then; an exec that is under way
// (os/exec's Start returns during it) may be reported or not. Of a process
// with several threads the first one is marked only.
func (w *Witness) Track(pidfd int) error {
	pid, err := pidOf(pidfd)
	if err != nil {
		return fmt.Errorf("track a process: %w", err)
	}
	mark := witnessMark{Tgid: pid, Tid: pid}
	if err := w.objects.Marks.Put(int32(pidfd), &mark); err != nil {
		return fmt.Errorf("track process %d: %w", pid, err)
	}
	return nil
}

// pidOf returns the process id behind a pidfd, from its fdinfo
// (pidfd_open(2), proc_pid_fdinfo(5)).
func pidOf(pidfd int) (uint32, error) {
	text, err := os.ReadFile("/proc/thread-self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(line, "Pid:")
		if !ok {
			continue
		}
		pid, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32)
		switch {
		case err != nil:
			return 0, fmt.Errorf("fdinfo of descriptor %d: %w", pidfd, err)
		case pid == -1:
			return 0, unix.ESRCH // exited
		case pid <= 0:
			return 0, fmt.Errorf("the process of descriptor %d is in no pid namespace below this one", pidfd)
		}
		return uint32(pid), nil
	}
	return 0, fmt.Errorf("descriptor %d is not a pidfd", pidfd)
}

// The programs wake the reader only when the ring fills up quickly; otherwise
// it looks by itself after this time. A wake-up for each event would cost the
// jail more than the event.
const pollInterval = 20 * time.Millisecond

// Read waits for the next event. After Stop it returns what is left, and then
// io.EOF. ev's names are valid until the next Read. It allocates nothing once
// its buffer has grown to the longest name.
func (w *Witness) Read(ev *Event) error {
	for !w.drained {
		switch err := w.reader.ReadInto(&w.record); {
		case err == nil:
			w.read.Add(1)
			if err := decode(ev, w.record.RawSample); err != nil {
				return fmt.Errorf("BUG: %w", err)
			}
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.reader.SetDeadline(time.Now().Add(w.poll))
		case errors.Is(err, ringbuf.ErrFlushed), errors.Is(err, os.ErrClosed):
			w.drained = true
		default:
			return fmt.Errorf("read the ring buffer: %w", err)
		}
	}
	return io.EOF
}

// Stop detaches the programs. When it returns nothing is added any more, and
// Read goes on to the end of the ring. Later calls return what the first one
// did.
func (w *Witness) Stop() error {
	w.stop.Do(func() {
		w.stopErr = errors.Join(w.detach(), w.reader.Flush())
	})
	return w.stopErr
}

// Close stops the witness if Stop has not been called, frees everything and
// returns the account of the run. It is called once.
func (w *Witness) Close() (Ledger, error) {
	errs := []error{w.Stop()}
	ledger, err := w.ledger()
	errs = append(errs, err, w.reader.Close(), w.objects.Close())
	return ledger, errors.Join(errs...)
}

// ledger is exact once the programs are detached and Read has returned
// io.EOF.
func (w *Witness) ledger() (Ledger, error) {
	var c witnessCounters
	if err := w.objects.Ledger.Get(&c); err != nil {
		return Ledger{}, fmt.Errorf("read the counters of the programs: %w", err)
	}
	l := Ledger{
		Read:        w.read.Load(),
		Dropped:     c.Dropped,
		Unreadable:  c.Unreadable,
		Truncated:   c.Truncated,
		Gone:        c.Gone,
		LostMarks:   c.LostMarks,
		LostLoaders: c.LostLoaders,
		Handles:     c.Handles,
		IOUrings:    c.IoUrings,
	}
	l.Unread = c.Reserved - l.Read
	for _, p := range w.programs {
		stats, err := p.Stats()
		if err != nil {
			return l, fmt.Errorf("read the statistics of %v: %w", p, err)
		}
		l.Missed += stats.RecursionMisses
	}
	return l, nil
}
