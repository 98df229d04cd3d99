package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/tracer"
)

// pkg-config that does not find zlib.pc lists its directory and tries every
// other file: what it looked for stands first, what it came upon is one line.
func TestRefusalsAfterAListing(t *testing.T) {
	const dir = "/usr/lib/pkgconfig"
	trace := &tracer.Trace{
		Run:       tracer.Run{Mode: policy.Enforce, Start: start, End: start.Add(time.Second)},
		Processes: []tracer.Process{{PID: 7, Parent: -1, Args: []string{"pkg-config", "--libs", "zlib"}}},
		Files:     []tracer.File{{Path: dir, Mode: 0o040755}, {Path: dir + "/zlib.pc", Owners: []string{"zlib1g-dev"}}},
	}
	add := func(file int, op policy.Access, verdict allowlist.Action) {
		trace.Accesses = append(trace.Accesses, tracer.Access{
			File: file, Asked: trace.Files[file].Path, Op: op, Verdict: verdict, Count: 1,
			First: start.Add(time.Duration(len(trace.Accesses)) * time.Millisecond),
		})
	}
	add(1, policy.Read, allowlist.Hide)
	add(0, policy.List, allowlist.Allow)
	for i := range 3 {
		trace.Files = append(trace.Files, tracer.File{Path: fmt.Sprintf("%s/other%d.pc", dir, i), Owners: []string{fmt.Sprintf("libother%d-dev", i)}})
		add(2+i, policy.Read, allowlist.Hide)
	}
	add(1, policy.Read, allowlist.Hide) // again, after the listing: it was looked for all the same

	summary := Summarize(trace, nil)
	if len(summary.Refusals) != 4 || summary.Refusals[0].Listed || !summary.Refusals[1].Listed {
		t.Fatalf("refusals: %+v", summary.Refusals)
	}
	var text, full strings.Builder
	if err := summary.WriteText(&text, Style{}); err != nil {
		t.Fatal(err)
	}
	if err := summary.WriteText(&full, Style{Full: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "policy add zlib1g-dev") || strings.Contains(text.String(), "policy add libother") {
		t.Errorf("short:\n%s", &text)
	}
	if !strings.Contains(full.String(), "policy add libother2-dev") {
		t.Errorf("full:\n%s", &full)
	}
}
