package bpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// unprivileged runs f on a thread without capabilities, as any user has it.
// The thread ends with f.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		// Never unlocked: the runtime ends the thread, and nothing else
		// runs without capabilities.
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		err := unix.Capset(&header, &none[0])
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestOpenUnprivileged(t *testing.T) {
	unprivileged(t, func() {
		w, err := Open()
		if err == nil {
			w.Close()
			t.Error("opened without capabilities")
			return
		}
		var unsupported *UnsupportedError
		if !errors.Is(err, errors.ErrUnsupported) || !errors.As(err, &unsupported) {
			t.Errorf("%v", err)
			return
		}
		if runtime.GOARCH != "amd64" {
			return
		}
		if unsupported.Outcome != CouldNotTell || !strings.Contains(err.Error(), "CAP_BPF") {
			t.Errorf("%v: %v", unsupported.Outcome, err)
		}
	})
}

func TestProbeUnprivileged(t *testing.T) {
	unprivileged(t, func() {
		for name, s := range map[string]Support{"tracing": Probe(), "lsm": ProbeLSM()} {
			if s.Outcome != CouldNotTell || s.Reason == "" || s.Err == nil {
				t.Errorf("%s: %v, %q, %v", name, s.Outcome, s.Reason, s.Err)
			}
		}
	})
}

func TestProbe(t *testing.T) {
	if !privileged() {
		t.Skip("needs CAP_BPF and CAP_PERFMON; TestProbeUnprivileged covers this user")
	}
	s := Probe()
	if s.Outcome == No && os.Getenv("DEPGUARD_MUST_WORK") != "1" {
		t.Skipf("this kernel has no tracing programs: %s (%v)", s.Reason, s.Err)
	}
	if s.Outcome != Yes || s.Reason != "" || s.Err != nil {
		t.Errorf("%v, %q, %v", s.Outcome, s.Reason, s.Err)
	}
	// Whether LSM programs load differs from kernel to kernel; that the
	// privileged are told either way does not.
	if s := ProbeLSM(); s.Outcome == CouldNotTell || (s.Outcome == No) != (s.Reason != "" && s.Err != nil) {
		t.Errorf("lsm: %v, %q, %v", s.Outcome, s.Reason, s.Err)
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Outcome
	}{
		{fmt.Errorf("load: %w", ebpf.ErrNotSupported), map[bool]Outcome{true: No, false: CouldNotTell}[privileged()]},
		{fmt.Errorf("load: %w", btf.ErrNotFound), No},
		{fmt.Errorf("load: %w", unix.ENOSYS), No},
		{fmt.Errorf("load: %w", unix.EINVAL), No},
		{fmt.Errorf("load: %w", unix.ENOMEM), CouldNotTell},
		{errors.New("something else"), CouldNotTell},
	} {
		if s := explain(c.err); s.Outcome != c.want || s.Reason == "" || s.Err != c.err {
			t.Errorf("%v: %+v", c.err, s)
		}
	}
	if got := fmt.Sprint(Yes, No, CouldNotTell); got != "yes no could not tell" {
		t.Error(got)
	}
}
