package console

import (
	"bytes"
	"sync"
)

// Ring keeps the last bytes that were written to it. Writing never waits. It is
// safe for concurrent use.
type Ring struct {
	mu   sync.Mutex
	buf  []byte
	next int // where the next byte goes
	full bool
}

// NewRing returns a ring of size bytes.
func NewRing(size int) *Ring { return &Ring{buf: make([]byte, size)} }

// Write never fails.
func (r *Ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(p)
	if len(p) >= len(r.buf) {
		copy(r.buf, p[len(p)-len(r.buf):])
		r.next, r.full = 0, true
		return n, nil
	}
	head := copy(r.buf[r.next:], p)
	if head < len(p) {
		copy(r.buf, p[head:])
	}
	r.full = r.full || r.next+len(p) >= len(r.buf)
	r.next = (r.next + len(p)) % len(r.buf)
	return n, nil
}

// Lines returns at most the last n lines that the ring still has in full.
func (r *Ring) Lines(n int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := bytes.Clone(r.buf[:r.next])
	if r.full {
		all = append(bytes.Clone(r.buf[r.next:]), all...)
		if i := bytes.IndexByte(all, '\n'); i >= 0 {
			all = all[i+1:] // the beginning of this line is gone
		}
	}
	if n <= 0 {
		return nil
	}
	start := len(bytes.TrimSuffix(all, []byte("\n")))
	for ; n > 0 && start >= 0; n-- {
		start = bytes.LastIndexByte(all[:start], '\n')
	}
	return all[start+1:]
}
