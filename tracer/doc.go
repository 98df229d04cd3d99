// Package tracer turns what the two witnesses of a run see into processes,
// files and accesses: a [Trace].
//
// The supervisor tells the [Recorder] of each notified call, with its verdict,
// while the task waits. The tracing programs of package bpf tell, a little
// later and from the kernel's side, which files were really opened and
// executed. At the end the two are compared, file by file; what only the kernel
// saw bypassed the supervisor, and is a loss.
//
// Package store keeps a trace on disk, package report turns it into what people
// read.
package tracer
