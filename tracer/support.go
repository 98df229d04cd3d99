package tracer

import "github.com/depguard/depguard/bpf"

// Support says whether tracing programs of one kind can be had here.
type Support struct {
	Tried  bool   // false: the trial could not be carried out, and Loads says nothing
	Loads  bool   // a program of this kind was loaded, and unloaded again
	Reason string // why not; empty when it loads
}

// WitnessSupport tries programs on BTF tracepoints, which the witness uses.
func WitnessSupport() Support { return support(bpf.Probe()) }

// LSMSupport tries programs on the hooks of Linux security modules (Linux 5.7).
// That they load does not mean that "bpf" is in the list of active modules.
func LSMSupport() Support { return support(bpf.ProbeLSM()) }

func support(s bpf.Support) Support {
	return Support{Tried: s.Outcome != bpf.CouldNotTell, Loads: s.Outcome == bpf.Yes, Reason: s.Reason}
}
