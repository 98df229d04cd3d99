package tracer

import (
	"maps"
	"slices"
)

// Delta is what changed in a trace since the last one, for a writer that
// keeps a copy on disk.
type Delta struct {
	Processes []Row[Process]
	Files     []Row[File]
	Accesses  []Row[Access]
	Connects  []Row[Connect]
}

// Row is a new or changed element of one of the slices of a Trace.
type Row[T any] struct {
	Index int
	Value T
}

// changes are the indexes of what changed.
type changes struct {
	processes, files, accesses, connects map[int]struct{}
}

func newChanges() changes {
	return changes{map[int]struct{}{}, map[int]struct{}{}, map[int]struct{}{}, map[int]struct{}{}}
}

// Changes returns what changed since the last call.
func (r *Recorder) Changes() Delta {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.changed
	r.changed = newChanges()
	return Delta{
		Processes: rowsOf(r.trace.Processes, changed.processes),
		Files:     rowsOf(r.trace.Files, changed.files),
		Accesses:  rowsOf(r.trace.Accesses, changed.accesses),
		Connects:  rowsOf(r.trace.Connects, changed.connects),
	}
}

func rowsOf[T any](all []T, indexes map[int]struct{}) []Row[T] {
	rows := make([]Row[T], 0, len(indexes))
	for _, index := range slices.Sorted(maps.Keys(indexes)) {
		rows = append(rows, Row[T]{index, all[index]})
	}
	return rows
}
