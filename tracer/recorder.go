package tracer

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
)

// Outcome says what a name led to when the supervisor looked.
type Outcome uint8

// The outcomes.
const (
	Found    Outcome = iota // a file, by identity
	Missing                 // no file of that name
	Creating                // no file of that name, and the call creates it
	Unknown                 // not to be told: a magic link, a race
)

// Observation is one access as the supervisor saw it. Its byte slices are the
// caller's; the recorder keeps copies.
type Observation struct {
	TID       int
	Op        policy.Access
	Asked     []byte
	Outcome   Outcome
	ID        allowlist.FileID
	Mode      uint32
	Canonical []byte // may be empty for a file that Known knows
	Verdict   allowlist.Action
	Rule      string
	Errno     unix.Errno
}

// Recorder folds what both witnesses saw into a Trace, in memory. Recording
// allocates only for what was not seen before, and never waits for a disk. It
// reads /proc, under its lock, for a process or image that is new.
//
// It is safe for concurrent use.
type Recorder struct {
	mu     sync.Mutex
	trace  Trace
	limit  int // of memory, in bytes
	memory int // that the parts of the trace take, estimated

	images   images
	files    map[allowlist.FileID]int
	unnamed  map[string]int    // files that have no identity yet, by name
	names    map[string]string // interned
	accesses map[accessKey]int
	connects map[connectKey]int
	kernel   map[kernelKey]*kernelFile

	changed changes
}

type accessKey struct {
	process, file int
	name          string
	op            policy.Access
	verdict       allowlist.Action
	errno         unix.Errno
	created       bool
}

type connectKey struct {
	process int
	address netip.AddrPort
}

// defaultLimit bounds the memory of a recorder: two million different accesses
// of an ordinary build, fewer of a hostile one that uses long names.
const defaultLimit = 1 << 30

// What the parts of a trace take besides the bytes of their names: the structure
// itself and its entries in maps.
const (
	nameSize    = 100
	fileSize    = 250
	accessSize  = 350
	processSize = 500
)

// full reports whether the recorder has no room for size bytes more, and counts
// what is not recorded for that.
func (r *Recorder) full(size int) bool {
	if r.memory+size > r.limit {
		r.trace.Run.Losses.Unrecorded++
		return true
	}
	return false
}

// NewRecorder returns an empty recorder for one run.
func NewRecorder(run Run) *Recorder {
	return &Recorder{
		trace:    Trace{Run: run},
		limit:    defaultLimit,
		images:   images{byTID: map[int]*image{}},
		files:    map[allowlist.FileID]int{},
		unnamed:  map[string]int{},
		names:    map[string]string{},
		accesses: map[accessKey]int{},
		connects: map[connectKey]int{},
		kernel:   map[kernelKey]*kernelFile{},
		changed:  newChanges(),
	}
}

// Begin makes the command the first process of the trace.
//
// It is called while the task tid waits to execute it.
func (r *Recorder) Begin(tid int, exe string, args []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tgid, _ := identify(tid)
	m := &image{tgid: tgid, process: r.addProcess(Process{PID: tgid, Parent: -1, Exe: exe, Args: args, Start: time.Now()})}
	r.images.byTID[tid] = m
}

// Known reports whether the recorder has a name for id, so that the caller need
// not look for one.
func (r *Recorder) Known(id allowlist.FileID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.files[id]
	return ok
}

// Access records o.
func (r *Recorder) Access(o *Observation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.names[string(o.Asked)]; !known && r.full(2*len(o.Asked)+len(o.Canonical)+nameSize+fileSize+accessSize) {
		return
	}
	key := accessKey{
		process: r.process(o.TID),
		name:    r.name(o.Asked),
		file:    r.fileOf(o),
		op:      o.Op,
		verdict: o.Verdict,
		errno:   o.Errno,
		created: o.Outcome == Creating,
	}
	index, ok := r.accesses[key]
	if !ok {
		if r.full(accessSize) {
			return
		}
		r.memory += accessSize
		index = len(r.trace.Accesses)
		r.accesses[key] = index
		r.trace.Accesses = append(r.trace.Accesses, Access{
			Process: key.process, File: key.file, Asked: key.name, Op: o.Op, Verdict: o.Verdict,
			Rule: o.Rule, Created: key.created, Errno: int(o.Errno), First: time.Now(), Seen: BySupervisor,
		})
	}
	r.trace.Accesses[index].Count++
	r.changed.accesses[index] = struct{}{}
}

// name returns b as a string, the same one each time.
func (r *Recorder) name(b []byte) string {
	if name, ok := r.names[string(b)]; ok { // the compiler makes no copy for a look-up
		return name
	}
	name := string(b)
	r.names[name] = name
	r.memory += len(name) + nameSize
	return name
}

// fileOf returns the index of o's file, -1 for a name without one.
func (r *Recorder) fileOf(o *Observation) int {
	switch o.Outcome {
	case Missing:
		return -1
	case Found:
		if index, ok := r.files[o.ID]; ok {
			return index
		}
	}
	path := o.Canonical
	if len(path) == 0 {
		path = o.Asked
	}
	index, ok := r.unnamed[string(path)]
	if o.Outcome != Found {
		if !ok {
			index = r.addFile(File{Path: string(path)})
			r.unnamed[string(path)] = index
		}
		return index
	}
	if ok {
		// The file was created under this name earlier in the run.
		delete(r.unnamed, string(path))
		r.trace.Files[index].ID, r.trace.Files[index].Mode = o.ID, o.Mode
		r.changed.files[index] = struct{}{}
	} else {
		index = r.addFile(File{ID: o.ID, Path: string(path), Mode: o.Mode})
	}
	r.files[o.ID] = index
	return index
}

func (r *Recorder) addFile(f File) int {
	r.memory += len(f.Path) + fileSize
	index := len(r.trace.Files)
	r.trace.Files = append(r.trace.Files, f)
	r.changed.files[index] = struct{}{}
	return index
}

// Connect records one connect(2).
func (r *Recorder) Connect(tid int, address netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := connectKey{r.process(tid), address}
	index, ok := r.connects[key]
	if !ok {
		if r.full(accessSize) {
			return
		}
		r.memory += accessSize
		family := "inet"
		if !address.Addr().Unmap().Is4() {
			family = "inet6"
		}
		index = len(r.trace.Connects)
		r.connects[key] = index
		r.trace.Connects = append(r.trace.Connects, Connect{Process: key.process, Family: family, Address: address.String()})
	}
	r.trace.Connects[index].Count++
	r.changed.connects[index] = struct{}{}
}

// Lose adds to the run's losses.
func (r *Recorder) Lose(l Losses) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := &r.trace.Run.Losses
	sum.KernelDropped += l.KernelDropped
	sum.KernelMissed += l.KernelMissed
	sum.Unreadable += l.Unreadable
	sum.Unrecorded += l.Unrecorded
	sum.IOUring += l.IOUring
	sum.FileHandles += l.FileHandles
	sum.Foreign += l.Foreign
}

// Finish compares the two witnesses, completes the head of the trace with what
// run tells of the end, and returns the trace, which is the caller's from then
// on. The recorder must not be used any more.
func (r *Recorder) Finish(end func(*Run)) *Trace {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.compare()
	end(&r.trace.Run)
	return &r.trace
}

// Run returns the head of the trace as it is now.
func (r *Recorder) Run() Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trace.Run
}
