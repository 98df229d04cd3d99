package tracer

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/bpf"
	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
)

// kernelKey is a file as a tracing program names it.
type kernelKey struct {
	dev uint32 // the kernel's own encoding of dev_t
	ino uint64
}

// kernelFile is what the kernel's side saw of one file.
type kernelFile struct {
	asked string
	pid   int
	op    policy.Access
	mode  uint32
	count uint64
	first time.Time
}

// Kernel records what a tracing program saw: a file that the kernel opened or
// executed for a process of the jail.
func (r *Recorder) Kernel(ev *bpf.Event) {
	op, ok := operationOf(ev)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := kernelKey{ev.Dev, ev.Ino}
	seen := r.kernel[key]
	if seen == nil {
		if len(r.kernel) >= r.limit {
			r.trace.Run.Losses.Unrecorded++
			return
		}
		seen = &kernelFile{asked: string(ev.Path), pid: ev.PID, op: op, mode: ev.Mode, first: time.Now()}
		r.kernel[key] = seen
	}
	seen.count++
}

// operationOf says how an event uses its file; false for an event without one.
func operationOf(ev *bpf.Event) (policy.Access, bool) {
	switch ev.Kind {
	case bpf.KindExec, bpf.KindLoader:
		return policy.Exec, true
	case bpf.KindOpen, bpf.KindHandle:
	default:
		return 0, false
	}
	var op policy.Access
	if ev.Readable() {
		op |= policy.Read
		if ev.Mode&unix.S_IFMT == unix.S_IFDIR {
			op = policy.List
		}
	}
	if ev.Writable() {
		op |= policy.Write
	}
	// A descriptor of O_PATH neither reads nor writes. One that was closed at
	// once has no identity left to compare, and is a loss in the ledger.
	return op, op != 0 && !ev.FileGone
}

// compare holds the kernel's view against the supervisor's, file by file. What
// both saw is marked so. A file that the supervisor knows by name only (it was
// about to be created, or could not be located) gets the identity that the
// kernel saw under that name. What is left bypassed the supervisor.
//
// Preconditions: r.mu is held.
func (r *Recorder) compare() {
	if len(r.kernel) == 0 {
		return
	}
	seen := make(map[int]bool, len(r.kernel))
	byID := make(map[kernelKey]int, len(r.files))
	for id, index := range r.files {
		byID[kernelKey{id.KernelDev(), id.Ino}] = index
	}
	byName := r.indexNames()
	for key, file := range r.kernel {
		index, ok := byID[key]
		if !ok {
			index, ok = r.find(byName, key, file)
		}
		if !ok {
			index = r.bypassed(key, file)
		}
		seen[index] = true
	}
	for i := range r.trace.Accesses {
		if a := &r.trace.Accesses[i]; a.File >= 0 && seen[a.File] {
			a.Seen |= ByKernel
		}
	}
}

// identify completes a file that was known by name only.
func (r *Recorder) identify(index int, key kernelKey, k *kernelFile) {
	f := &r.trace.Files[index]
	f.ID = allowlist.FileID{Dev: unix.Mkdev(key.dev>>20, key.dev&(1<<20-1)), Ino: key.ino}
	f.Mode = k.mode
}

// bypassed adds a file, and an access to it, that only the kernel saw.
func (r *Recorder) bypassed(key kernelKey, k *kernelFile) int {
	file := r.addFile(File{Path: k.asked})
	r.identify(file, key, k)
	process := -1
	for i := range r.trace.Processes {
		if r.trace.Processes[i].PID == k.pid {
			process = i // the last image of that pid
		}
	}
	if process < 0 {
		process = r.addProcess(Process{PID: k.pid, Parent: -1, Start: k.first})
	}
	r.trace.Accesses = append(r.trace.Accesses, Access{
		Process: process, File: file, Asked: k.asked, Op: k.op, Count: k.count, First: k.first, Seen: ByKernel,
	})
	r.trace.Run.Losses.Foreign += k.count
	return file
}

// nameIndex lists the names that the supervisor was asked for, each with its
// file, under their last component.
type nameIndex map[string][]nameEntry

type nameEntry struct {
	full string
	file int
}

func (r *Recorder) indexNames() nameIndex {
	index := nameIndex{}
	for i := range r.trace.Accesses {
		if a := &r.trace.Accesses[i]; a.File >= 0 {
			last := lastComponent(a.Asked)
			index[last] = append(index[last], nameEntry{a.Asked, a.File})
		}
	}
	return index
}

// find returns the file that the supervisor was asked for by the name that the
// kernel's side has, which is as the call gave it and can be relative. It has
// to be one without an identity, which it gets; or one with the same inode
// number on what statx(2) calls another device: a btrfs subvolume, or an
// overlay over several file systems.
func (r *Recorder) find(names nameIndex, key kernelKey, k *kernelFile) (int, bool) {
	if k.asked == "" {
		return 0, false
	}
	for _, e := range names[lastComponent(k.asked)] {
		if e.full != k.asked && (k.asked[0] == '/' || !strings.HasSuffix(e.full, "/"+k.asked)) {
			continue
		}
		switch id := r.trace.Files[e.file].ID; {
		case id == allowlist.FileID{}:
			r.identify(e.file, key, k)
			return e.file, true
		case id.Ino == key.ino:
			return e.file, true
		}
	}
	return 0, false
}

func lastComponent(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
