package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/depguard/depguard/policy"
	"github.com/depguard/depguard/policy/allowlist"
	"github.com/depguard/depguard/tracer"
)

// exact returns s as SQLite keeps it without loss: TEXT when it is UTF-8
// without NUL, at which SQLite's own functions would cut it, else a BLOB.
func exact(s string) any {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return []byte(s)
}

// element is one string of a list; see the head of schema.sql.
type element string

// rawElement is how an element that is not UTF-8 stands in JSON.
type rawElement struct {
	Bytes []byte `json:"bytes"`
}

func (e element) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(e)) {
		return json.Marshal(string(e))
	}
	return json.Marshal(rawElement{[]byte(e)})
}

func (e *element) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte{'{'}) {
		var raw rawElement
		err := json.Unmarshal(data, &raw)
		*e = element(raw.Bytes)
		return err
	}
	return json.Unmarshal(data, (*string)(e))
}

// encodeList returns list as a JSON array.
func encodeList(list []string) string {
	elements := make([]element, len(list))
	for i, s := range list {
		elements[i] = element(s)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // people read it with sqlite3
	if err := enc.Encode(elements); err != nil {
		panic("BUG: a list of strings has no JSON form: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// decodeList undoes encodeList; an empty list is nil.
func decodeList(s string) ([]string, error) {
	var elements []element
	if err := json.Unmarshal([]byte(s), &elements); err != nil {
		return nil, err
	}
	var list []string
	for _, e := range elements {
		list = append(list, string(e))
	}
	return list, nil
}

// nanoseconds returns t as a trace keeps it.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// instant undoes nanoseconds, in UTC.
func instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// saturate returns a count as a signed integer; no run counts beyond that.
func saturate(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// index returns an index into a slice of the trace, NULL for none.
func index(i int) any {
	if i < 0 {
		return nil
	}
	return i
}

// lossNames pairs the rows of the loss table with the fields they hold.
var lossNames = []struct {
	name  string
	field func(*tracer.Losses) *uint64
}{
	{"kernel_dropped", func(l *tracer.Losses) *uint64 { return &l.KernelDropped }},
	{"kernel_missed", func(l *tracer.Losses) *uint64 { return &l.KernelMissed }},
	{"unreadable", func(l *tracer.Losses) *uint64 { return &l.Unreadable }},
	{"unrecorded", func(l *tracer.Losses) *uint64 { return &l.Unrecorded }},
	{"io_uring", func(l *tracer.Losses) *uint64 { return &l.IOUring }},
	{"file_handles", func(l *tracer.Losses) *uint64 { return &l.FileHandles }},
	{"foreign", func(l *tracer.Losses) *uint64 { return &l.Foreign }},
}

// ops maps the words of access.op to sets, one entry for every set.
var ops = func() map[string]policy.Access {
	m := map[string]policy.Access{}
	for a := policy.Access(0); a <= policy.Read|policy.Write|policy.Exec|policy.List; a++ {
		m[a.String()] = a
	}
	return m
}()

// verdicts maps the words of access.verdict to actions.
var verdicts = map[string]allowlist.Action{
	allowlist.Allow.String(): allowlist.Allow,
	allowlist.Deny.String():  allowlist.Deny,
	allowlist.Hide.String():  allowlist.Hide,
}

// checkEnumerations reports a value that has no word in the trace.
func checkEnumerations(a *tracer.Access) error {
	if _, ok := ops[a.Op.String()]; !ok || ops[a.Op.String()] != a.Op {
		return fmt.Errorf("BUG: operation %d has no name", a.Op)
	}
	if _, ok := verdicts[a.Verdict.String()]; !ok {
		return fmt.Errorf("BUG: verdict %d has no name", a.Verdict)
	}
	return nil
}
