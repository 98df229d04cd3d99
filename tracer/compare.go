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
		if r.full(len(ev.Path) + fileSize) {
			return
		}
		r.memory += len(ev.Path) + fileSize
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
	if ev.Flags&unix.O_TMPFILE == unix.O_TMPFILE {
		return 0, false // a new file without a name: it holds nothing yet
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
// about to be created, or is one of procfs, which differ from process to
// process) gets the first identity that the kernel saw under that name. A file
// that was another one when the kernel opened it than when the supervisor looked
// is added under that name. What is left, and what was opened although the
// supervisor refused it, bypassed the supervisor.
//
// Preconditions: r.mu is held.
func (r *Recorder) compare() {
	if len(r.kernel) == 0 {
		return
	}
	byID := make(map[kernelKey]int, len(r.files))
	for id, index := range r.files {
		byID[kernelKey{id.KernelDev(), id.Ino}] = index
	}
	names, allowed := r.indexNames()
	seen := make(map[int]bool, len(r.kernel))
	for key, file := range r.kernel {
		index, ok := byID[key]
		if ok {
			ok = allowed[index] || r.trace.Run.Mode != policy.Enforce
		} else {
			index, ok = r.find(names, key, file)
		}
		if ok {
			seen[index] = true
		} else {
			r.bypassed(key, file)
		}
	}
	r.mark(seen)
}

// mark notes the kernel as a witness of the accesses to the files that it saw
// opened. An access that it was expected to refuse counts only where no other
// explains what was seen.
func (r *Recorder) mark(seen map[int]bool) {
	explained := map[int]bool{}
	for _, expected := range []bool{false, true} {
		for i := range r.trace.Accesses {
			a := &r.trace.Accesses[i]
			if a.File < 0 || !seen[a.File] || a.Verdict != allowlist.Allow || (a.Errno != 0) != expected || expected && explained[a.File] {
				continue
			}
			a.Seen |= ByKernel
			explained[a.File] = explained[a.File] || !expected
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
func (r *Recorder) bypassed(key kernelKey, k *kernelFile) {
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
}

// nameIndex lists the accesses of the supervisor by the last component of the
// name that was asked for.
type nameIndex map[string][]int

// indexNames returns the accesses by name, and which files the supervisor let
// be used at least once.
func (r *Recorder) indexNames() (names nameIndex, allowed map[int]bool) {
	names, allowed = nameIndex{}, map[int]bool{}
	for i := range r.trace.Accesses {
		a := &r.trace.Accesses[i]
		last := lastComponent(a.Asked)
		names[last] = append(names[last], i)
		if a.File >= 0 && a.Verdict == allowlist.Allow {
			allowed[a.File] = true
		}
	}
	return names, allowed
}

// find returns the file of an access whose name is the one that the kernel's
// side has, which is as the call gave it and can be relative. Best is one with the
// same inode number, on what statx(2) calls another device (a btrfs subvolume, an
// overlay over several file systems), or one without an identity.
func (r *Recorder) find(names nameIndex, key kernelKey, k *kernelFile) (int, bool) {
	if k.asked == "" {
		return 0, false
	}
	byName := -1
	for _, i := range names[lastComponent(k.asked)] {
		a := &r.trace.Accesses[i]
		if a.Verdict != allowlist.Allow || a.Asked != k.asked && (k.asked[0] == '/' || !strings.HasSuffix(a.Asked, "/"+k.asked)) {
			continue
		}
		byName = i
		if a.File < 0 {
			continue
		}
		switch id := r.trace.Files[a.File].ID; {
		case id == allowlist.FileID{}:
			r.identify(a.File, key, k)
			return a.File, true
		case id.Ino == key.ino:
			return a.File, true
		}
	}
	if byName < 0 {
		return 0, false
	}
	// It was another file, or none, when the supervisor looked; or it is one of
	// several that were made under this name.
	a := &r.trace.Accesses[byName]
	if a.File < 0 {
		a.File = r.addFile(File{Path: a.Asked})
		r.identify(a.File, key, k)
	}
	return a.File, true
}

func lastComponent(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
