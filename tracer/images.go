package tracer

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// images tells which image of which process a thread id stands for. Without
// tracing programs nobody says when a process forks or ends: a thread id that
// was not seen before is looked up in /proc while its task waits for an
// answer, and ids that are gone are swept out now and then, long before the
// kernel, which hands ids out in turn, comes back to them.
type images struct {
	byTID map[int]*image
	swept int // threads met since the last sweep
}

// image is what is known of one thread.
type image struct {
	tgid     int
	process  int  // index into Trace.Processes
	executed bool // an exec was allowed: the next call may come from another image
}

// sweepEvery is how many new thread ids may come before the dead are swept
// out. The smallest pid_max that Linux allows is 301 (kernel/pid.c), the usual
// one is 32768 or more.
const sweepEvery = 256

// process returns the index of the image that thread tid runs.
//
// Preconditions: r.mu is held, and the task waits in a notified call.
func (r *Recorder) process(tid int) int {
	known, ok := r.images.byTID[tid]
	if !ok {
		return r.meet(tid).process
	}
	if known.executed {
		known.executed = false
		r.reexamine(known)
	}
	return known.process
}

// Executed tells the recorder that thread tid was allowed to execute a file. The
// exec can still fail: the next call of the thread shows whether it did.
func (r *Recorder) Executed(tid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.images.byTID[tid]; ok {
		known.executed = true
	}
}

// meet takes in a thread that was not seen before: a thread of a known process,
// or a process that a known one forked.
func (r *Recorder) meet(tid int) *image {
	r.sweep()
	tgid, ppid := identify(tid)
	if leader, ok := r.images.byTID[tgid]; ok && tgid != tid {
		r.images.byTID[tid] = leader
		return leader
	}
	parent := -1
	if known, ok := r.images.byTID[ppid]; ok {
		parent = known.process
	} else if len(r.trace.Processes) > 0 {
		parent = 0 // its parent has ended, or made no call that we see
	}
	exe, args := commandOf(tgid)
	m := &image{tgid: tgid, process: r.addProcess(Process{PID: tgid, Parent: parent, Exe: exe, Args: args, Start: time.Now()})}
	r.images.byTID[tid], r.images.byTID[tgid] = m, m
	return m
}

// reexamine looks whether a process runs another image than before.
func (r *Recorder) reexamine(m *image) {
	exe, args := commandOf(m.tgid)
	old := &r.trace.Processes[m.process]
	if exe == "" || exe == old.Exe && slices.Equal(args, old.Args) {
		return
	}
	m.process = r.addProcess(Process{PID: m.tgid, Parent: m.process, Exe: exe, Args: args, Start: time.Now()})
}

func (r *Recorder) addProcess(p Process) int {
	r.memory += processSize
	for _, arg := range p.Args {
		r.memory += len(arg)
	}
	index := len(r.trace.Processes)
	r.trace.Processes = append(r.trace.Processes, p)
	r.changed.processes[index] = struct{}{}
	return index
}

// sweep forgets threads that have ended.
func (r *Recorder) sweep() {
	if r.images.swept++; r.images.swept < sweepEvery {
		return
	}
	r.images.swept = 0
	for tid := range r.images.byTID {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", tid)); err != nil {
			delete(r.images.byTID, tid)
		}
	}
}

// identify reads the thread group id and the parent's of a thread
// (proc_pid_status(5)). For a thread that is gone it returns tid itself.
func identify(tid int) (tgid, ppid int) {
	tgid = tid
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return tgid, 0
	}
	for line := range bytes.Lines(data) {
		key, value, _ := bytes.Cut(line, []byte(":\t"))
		number, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		if err != nil {
			continue
		}
		switch string(key) {
		case "Tgid":
			tgid = number
		case "PPid":
			return tgid, number
		}
	}
	return tgid, 0
}

// maxArguments bounds how much of a command line is kept, in bytes.
const maxArguments = 4 << 10

// commandOf reads the executable and the arguments of a process. Both can be
// set to anything by the process itself.
func commandOf(tgid int) (exe string, args []string) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", tgid))
	if err != nil {
		return "", nil
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", tgid))
	if err != nil || len(data) == 0 {
		return exe, nil
	}
	line := string(data[:min(len(data), maxArguments)])
	return exe, strings.Split(strings.TrimSuffix(line, "\x00"), "\x00")
}
