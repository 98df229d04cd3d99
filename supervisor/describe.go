package supervisor

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/supervisor/guard"
	"github.com/depguard/depguard/tracer"
)

// describe says which mechanisms are in force, for the head of the trace.
func (r *run) describe() {
	c := r.config
	add := func(name string, active bool, format string, args ...any) {
		r.mechanisms = append(r.mechanisms, tracer.Mechanism{Name: name, Active: active, Detail: fmt.Sprintf(format, args...)})
	}
	add("notify", true, "seccomp user notification")
	switch {
	case r.guard != nil:
		detail := fmt.Sprintf("Landlock ABI %d, %d rules", r.guard.Version(), r.guard.Rules())
		if lacks := guard.Lacks(r.guard.Version()); len(lacks) > 0 {
			detail += "; " + strings.Join(lacks, "; ")
		}
		add("guard", true, "%s", detail)
	case c.Enforce:
		add("guard", false, "switched off by --guard=none: a hostile build can race the verdicts")
	default:
		add("guard", false, "audit refuses nothing")
	}
	if c.isolated() {
		add("view", true, "host read-only, private /tmp, /run, /dev and /proc")
		add("network", c.Network == policy.NetworkNone, "%s", networkDetail(c.Network))
	} else {
		add("view", false, "audit leaves the host's mounts, ids and network as they are (--isolate)")
	}
	add("setuid programs", false, "no_new_privs takes their privileges")
	if c.NoIOUring && !c.Enforce {
		add("io_uring", false, "refused by --io-uring=refuse")
	}
}

func networkDetail(n policy.Network) string {
	if n == policy.NetworkNone {
		return "own loopback only"
	}
	return "the host's"
}

// head is the head of the trace, as far as it is known before the run.
func (r *run) head() tracer.Run {
	c := r.config
	run := tracer.Run{
		Command: c.Args, Dir: c.Dir, Workspace: c.Workspace, Mode: policy.Audit, Network: policy.NetworkHost,
		Start: time.Now(), Status: -1, Kernel: kernelRelease(), Version: Version(), Mechanisms: r.mechanisms,
	}
	if c.Enforce {
		run.Mode = policy.Enforce
	}
	if c.isolated() && c.Network == policy.NetworkNone {
		run.Network = policy.NetworkNone
	}
	if c.Policy != nil {
		run.PolicyFile, run.PolicyText = c.Policy.File, string(c.Policy.Source())
	}
	return run
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// Version returns depguard's version, from what the Go command recorded in the
// binary.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = "devel"
	}
	return version
}
