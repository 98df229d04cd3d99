package tracer

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/bpf"
	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
)

func observation(asked string, id uint64) *Observation {
	return &Observation{
		TID: os.Getpid(), Op: policy.Read, Asked: []byte(asked), ID: allowlist.FileID{Dev: unix.Mkdev(8, 1), Ino: id},
		Mode: unix.S_IFREG | 0o644, Canonical: []byte(asked),
	}
}

func finish(r *Recorder) *Trace { return r.Finish(func(*Run) {}) }

func TestRepetitionIsFolded(t *testing.T) {
	r := NewRecorder(Run{})
	for range 3 {
		r.Access(observation("/a", 1))
	}
	write := observation("/a", 1)
	write.Op = policy.Write
	r.Access(write)
	r.Access(observation("/link-to-a", 1))
	trace := finish(r)
	if len(trace.Files) != 1 || len(trace.Accesses) != 3 || trace.Accesses[0].Count != 3 {
		t.Errorf("files %+v, accesses %+v", trace.Files, trace.Accesses)
	}
	if len(trace.Processes) != 1 || trace.Processes[0].PID != os.Getpid() || len(trace.Processes[0].Args) == 0 {
		t.Errorf("processes %+v", trace.Processes)
	}
}

func TestBytesAreKept(t *testing.T) {
	r := NewRecorder(Run{})
	buf := []byte("/not\xffutf8\n")
	o := observation("", 1)
	o.Asked, o.Canonical = buf, buf
	r.Access(o)
	copy(buf, "overwritten") // the caller's buffer is used again
	trace := finish(r)
	if trace.Accesses[0].Asked != "/not\xffutf8\n" || trace.Files[0].Path != "/not\xffutf8\n" {
		t.Errorf("%q, %q", trace.Accesses[0].Asked, trace.Files[0].Path)
	}
}

func TestOutcomes(t *testing.T) {
	r := NewRecorder(Run{})
	missing := observation("/missing", 0)
	missing.Outcome = Missing
	r.Access(missing)
	created := observation("/new", 0)
	created.Outcome, created.Op = Creating, policy.Write
	r.Access(created)
	r.Access(observation("/new", 7)) // read back: the same file, with an identity now
	unknown := observation("/proc/self/status", 0)
	unknown.Outcome = Unknown
	r.Access(unknown)
	trace := finish(r)
	if !trace.Accesses[0].Miss() || trace.Accesses[1].Miss() || !trace.Accesses[1].Created || trace.Accesses[3].Miss() {
		t.Errorf("accesses %+v", trace.Accesses)
	}
	if len(trace.Files) != 2 || trace.Files[0].ID.Ino != 7 || trace.Accesses[1].File != trace.Accesses[2].File {
		t.Errorf("files %+v", trace.Files)
	}
}

func TestChangesAreHandedOutOnce(t *testing.T) {
	r := NewRecorder(Run{})
	r.Access(observation("/a", 1))
	if d := r.Changes(); len(d.Accesses) != 1 || len(d.Files) != 1 || len(d.Processes) != 1 {
		t.Errorf("first: %+v", d)
	}
	if d := r.Changes(); len(d.Accesses)+len(d.Files)+len(d.Processes) != 0 {
		t.Errorf("nothing changed: %+v", d)
	}
	r.Access(observation("/a", 1))
	if d := r.Changes(); len(d.Accesses) != 1 || d.Accesses[0].Value.Count != 2 || len(d.Files) != 0 {
		t.Errorf("a count grew: %+v", d)
	}
}

func TestLimitIsALoss(t *testing.T) {
	r := NewRecorder(Run{})
	r.limit = 100 << 10
	for i := range uint64(100) {
		r.Access(observation("/"+strings.Repeat("x", 4000)+strconv.Itoa(int(i)), i))
	}
	r.Access(observation("/"+strings.Repeat("x", 4000)+"0", 0)) // known: a count only
	trace := finish(r)
	if lost := trace.Run.Losses.Unrecorded; lost == 0 || len(trace.Accesses)+int(lost) != 100 || trace.Accesses[0].Count != 2 {
		t.Errorf("%d accesses, losses %+v", len(trace.Accesses), trace.Run.Losses)
	}
}

func TestConnect(t *testing.T) {
	r := NewRecorder(Run{})
	for range 2 {
		r.Connect(os.Getpid(), netip.MustParseAddrPort("192.0.2.1:443"))
	}
	r.Connect(os.Getpid(), netip.MustParseAddrPort("[2001:db8::1]:53"))
	trace := finish(r)
	if len(trace.Connects) != 2 || trace.Connects[0].Count != 2 || trace.Connects[0].Address != "192.0.2.1:443" || trace.Connects[1].Family != "inet6" {
		t.Errorf("%+v", trace.Connects)
	}
}

func TestFirstProcessIsTheCommand(t *testing.T) {
	r := NewRecorder(Run{})
	r.Begin(os.Getpid(), "/usr/bin/make", []string{"make", "-j2"})
	r.Access(observation("/a", 1))
	r.Executed(os.Getpid()) // this process has not become another: a new image, as it has another command line
	r.Access(observation("/b", 2))
	trace := finish(r)
	if len(trace.Processes) != 2 || trace.Processes[0].Parent != -1 || trace.Processes[0].Args[0] != "make" || trace.Processes[1].Parent != 0 {
		t.Errorf("%+v", trace.Processes)
	}
	if trace.Accesses[0].Process != 0 || trace.Accesses[1].Process != 1 {
		t.Errorf("%+v", trace.Accesses)
	}
}

// The two witnesses agree by identity; by name where the supervisor had none;
// and by name and inode number where statx(2) and the kernel call the device
// differently. What is left bypassed the supervisor.
func TestCompare(t *testing.T) {
	r := NewRecorder(Run{})
	r.Access(observation("/a", 1))
	created := observation("/w/new.o", 0)
	created.Outcome, created.Op = Creating, policy.Write
	r.Access(created)
	elsewhere := observation("/subvolume/f", 9)
	elsewhere.ID.Dev = unix.Mkdev(0, 42)
	r.Access(elsewhere)

	kernelDev := uint32(8<<20 | 1)
	ev := func(ino uint64, path string) *bpf.Event {
		raw := bpf.Event{Kind: bpf.KindExec, PID: os.Getpid(), Dev: kernelDev, Ino: ino, Path: []byte(path)}
		return &raw
	}
	r.Kernel(ev(1, "/some/alias"))
	r.Kernel(ev(5, "new.o"))
	r.Kernel(ev(9, "f"))
	r.Kernel(ev(66, "/secret"))
	r.Kernel(ev(67, "other.o")) // ends like no name that was asked for
	trace := finish(r)

	if trace.Run.Losses.Foreign != 2 {
		t.Fatalf("%d opens bypassed the supervisor, want 2: %+v", trace.Run.Losses.Foreign, trace.Accesses)
	}
	for i, want := range []Witness{BySupervisor | ByKernel, BySupervisor | ByKernel, BySupervisor | ByKernel, ByKernel, ByKernel} {
		if trace.Accesses[i].Seen != want {
			t.Errorf("access %d of %s: seen by %b, want %b", i, trace.Accesses[i].Asked, trace.Accesses[i].Seen, want)
		}
	}
	if got := trace.Files[1].ID; got.Ino != 5 || got.KernelDev() != kernelDev {
		t.Errorf("the created file has the identity %v", got)
	}
}

// Names that lead to another file each time are no bypass: procfs of several
// processes, a file that is made, moved away and made again, one that appears
// between the supervisor's look and the kernel's.
func TestCompareNamesThatMove(t *testing.T) {
	r := NewRecorder(Run{Mode: policy.Enforce})
	procfs := observation("/proc/self/status", 0)
	procfs.Outcome = Unknown
	r.Access(procfs)
	created := observation("/w/a", 0)
	created.Outcome, created.Op = Creating, policy.Write
	r.Access(created)
	missing := observation("/w/now", 0)
	missing.Outcome = Missing
	r.Access(missing)
	for i, path := range []string{"/proc/self/status", "/proc/self/status", "/w/a", "a", "now", "/w/now"} {
		r.Kernel(&bpf.Event{Kind: bpf.KindExec, PID: os.Getpid(), Dev: 5, Ino: uint64(100 + i), Path: []byte(path)})
	}
	if trace := finish(r); trace.Run.Losses.Foreign != 0 {
		t.Errorf("%d bypasses: %+v", trace.Run.Losses.Foreign, trace.Accesses)
	}
}

// A file that the supervisor refused and the kernel opened all the same is one.
func TestCompareRefusedButOpened(t *testing.T) {
	r := NewRecorder(Run{Mode: policy.Enforce})
	refused := observation("/secret", 4)
	refused.Verdict = allowlist.Hide
	r.Access(refused)
	r.Kernel(&bpf.Event{Kind: bpf.KindExec, PID: os.Getpid(), Dev: 8<<20 | 1, Ino: 4, Path: []byte("/secret")})
	trace := finish(r)
	if trace.Run.Losses.Foreign != 1 || trace.Accesses[0].Seen != BySupervisor {
		t.Errorf("%d bypasses: %+v", trace.Run.Losses.Foreign, trace.Accesses)
	}
}

// A recorder that has seen an access takes it again without allocating.
func TestHotPathAllocatesNothing(t *testing.T) {
	r := NewRecorder(Run{})
	o := observation("/usr/include/stdio.h", 3)
	r.Access(o)
	r.Changes()
	r.Access(o)
	if allocs := testing.AllocsPerRun(100, func() { r.Access(o) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkAccess(b *testing.B) {
	r := NewRecorder(Run{})
	o := observation("/usr/include/stdio.h", 3)
	b.ReportAllocs()
	for b.Loop() {
		r.Access(o)
	}
}
