//go:build amd64

package bpf

import (
	"bufio"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkOpen is the time from nothing to programs in force, and the CPU
// time in it, which other processes disturb less.
func BenchmarkOpen(b *testing.B) {
	openWitness(b, ringBytes(1)).Close()
	var cpu int64
	for b.Loop() {
		before := cpuTime(b)
		w, err := Open()
		if err != nil {
			b.Fatal(err)
		}
		cpu += cpuTime(b) - before
		b.StopTimer()
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
}

// cpuTime returns what this process has used, in ns.
func cpuTime(b *testing.B) int64 {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// opener is a process that opens and closes one file a thousand times on
// demand.
type opener struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func newOpener(b *testing.B, w *Witness, path string) *opener {
	b.Helper()
	o := &opener{cmd: exec.Command(victimPath(b), "wait", "bench", path)}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	o.out = bufio.NewReader(out)
	o.in = start(b, w, o.cmd)
	release(b, o.in)
	return o
}

// round returns the time of one open and close in ns.
func (o *opener) round(b *testing.B) float64 {
	if _, err := o.in.Write([]byte{1}); err != nil {
		b.Fatal(err)
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	ns, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
	if err != nil {
		b.Fatal(err)
	}
	return ns / 1000
}

func (o *opener) end(b *testing.B) {
	o.in.Close()
	if err := o.cmd.Wait(); err != nil {
		b.Error(err)
	}
}

// BenchmarkOpenClose measures one open and close, in CPU time of the process
// that makes it: without programs, and with them in a process that isn't
// tracked and in one that is. Each round measures all three, one after the
// other; the figures are medians of the rounds, and of their differences.
func BenchmarkOpenClose(b *testing.B) {
	w := openWitness(b, ringBytes(2))
	path := "/etc/passwd"
	victimPath(b)
	go drain(b, w)
	tracked, untracked := newOpener(b, w, path), newOpener(b, nil, path)
	var native, other, own, addedOther, addedOwn []float64
	for b.Loop() {
		if err := w.detach(); err != nil {
			b.Fatal(err)
		}
		n := untracked.round(b)
		if err := w.attach(); err != nil {
			b.Fatal(err)
		}
		u, t := untracked.round(b), tracked.round(b)
		native, other, own = append(native, n), append(other, u), append(own, t)
		addedOther, addedOwn = append(addedOther, u-n), append(addedOwn, t-n)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(native), "native-ns")
	b.ReportMetric(median(other), "untracked-ns")
	b.ReportMetric(median(own), "tracked-ns")
	b.ReportMetric(median(addedOther), "untracked-added-ns")
	b.ReportMetric(median(addedOwn), "tracked-added-ns")
	tracked.end(b)
	untracked.end(b)
	if _, err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
