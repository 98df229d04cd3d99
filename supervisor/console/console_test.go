package console

import (
	"fmt"
	"strings"
	"testing"
	"testing/quick"
)

func TestRingKeepsTheEnd(t *testing.T) {
	model := func(chunks [][]byte, size uint8) bool {
		n := int(size)%64 + 1
		r := NewRing(n)
		var all []byte
		for _, c := range chunks {
			_, _ = r.Write(c)
			all = append(all, c...)
		}
		want := all[max(0, len(all)-n):]
		if len(all) >= n && len(all) > 0 {
			// The first line of what is left may be cut, and is left out.
			if i := strings.IndexByte(string(want), '\n'); i >= 0 {
				want = want[i+1:]
			}
		}
		return string(r.Lines(1<<20)) == string(want)
	}
	if err := quick.Check(model, nil); err != nil {
		t.Error(err)
	}
}

func TestRingLines(t *testing.T) {
	r := NewRing(1 << 10)
	for i := range 5 {
		fmt.Fprintf(r, "line %d\n", i)
	}
	if got := string(r.Lines(2)); got != "line 3\nline 4\n" {
		t.Errorf("two lines: %q", got)
	}
	fmt.Fprint(r, "half")
	if got := string(r.Lines(2)); got != "line 4\nhalf" {
		t.Errorf("with an unfinished line: %q", got)
	}
	if got := string(r.Lines(0)); got != "" {
		t.Errorf("no lines: %q", got)
	}
}
