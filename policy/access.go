package policy

import "strings"

// Access is a set of the ways in which a file can be used. A rule grants a
// set; an observed access is a set with one member.
type Access uint8

// The accesses that a rule can grant. The words are those of open(2) and
// execve(2): a file is read or written through a descriptor, executed by
// execve, and a directory is listed by opening it.
const (
	Read Access = 1 << iota
	Write
	Exec
	List
)

var accessLetters = []struct {
	bit    Access
	letter byte
	word   string
}{
	{Read, 'r', "read"},
	{Write, 'w', "write"},
	{Exec, 'x', "exec"},
	{List, 'l', "list"},
}

// Has reports whether a includes everything in want.
func (a Access) Has(want Access) bool { return a&want == want }

// Letters returns a as a policy writes it: "rx", "rw"; "none" for the empty set.
func (a Access) Letters() string {
	if a == 0 {
		return "none"
	}
	var b strings.Builder
	for _, l := range accessLetters {
		if a.Has(l.bit) {
			b.WriteByte(l.letter)
		}
	}
	return b.String()
}

// String returns a in words, as reports write it: "read", "read+exec".
func (a Access) String() string {
	if a == 0 {
		return "none"
	}
	var words []string
	for _, l := range accessLetters {
		if a.Has(l.bit) {
			words = append(words, l.word)
		}
	}
	return strings.Join(words, "+")
}
