package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is one thing that is wrong with a policy file, at the place where it
// is wrong.
type Error struct {
	File    string   // as the caller of [Parse] named it
	Pos     Position // zero when the error is about the file as a whole
	Line    string   // the line at Pos, as in the file, without its end
	Message string   // lower case, no full stop
	Hint    string   // what to do about it; may be empty, may have several lines
}

// Error renders e for a terminal: where and what, the line with a caret
// under the place, and the hint.
//
//	depguard.yaml:6:3: unknown key "dpends" in packages
//	    6 |   dpends: [zlib1g-dev]
//	      |   ^
//	  did you mean "depend"?
//
// Characters that could move the cursor or reorder the text are shown
// escaped, and of a long line only the part around the caret is shown.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(visible(e.File))
	if e.Pos != (Position{}) {
		fmt.Fprintf(&b, ":%d:%d", e.Pos.Line, e.Pos.Column)
	}
	b.WriteString(": ")
	b.WriteString(visible(e.Message))
	if e.Pos != (Position{}) && e.Line != "" {
		number := strconv.Itoa(e.Pos.Line)
		shown, pad := excerpt(e.Line, e.Pos.Column)
		fmt.Fprintf(&b, "\n    %s | %s\n    %*s | %s^", number, shown, len(number), "", pad)
	}
	if e.Hint != "" {
		for line := range strings.SplitSeq(e.Hint, "\n") {
			b.WriteString("\n  ")
			b.WriteString(visible(line))
		}
	}
	return b.String()
}

// Errors is all that is wrong with a policy file, in the order of the file.
type Errors []*Error

// Error renders every error, one after the other.
func (e Errors) Error() string {
	all := make([]string, len(e))
	for i, one := range e {
		all[i] = one.Error()
	}
	return strings.Join(all, "\n")
}

// Unwrap lets errors.As find the first [*Error].
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// Sort puts e in the order of the file; errors at one place keep theirs.
func (e Errors) Sort() {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
}

// Errorf returns an error about the place pos of p, for what only shows once
// a policy meets a machine: a package that is not installed, a path that does
// not exist. The hint may be empty.
func (p *Policy) Errorf(pos Position, hint, format string, args ...any) *Error {
	return &Error{
		File:    p.File,
		Pos:     pos,
		Line:    p.line(pos.Line),
		Message: fmt.Sprintf(format, args...),
		Hint:    hint,
	}
}

// line returns line n of the source without its end, or nothing when there
// is no such line.
func (p *Policy) line(n int) string {
	if n < 1 {
		return ""
	}
	rest := strings.TrimPrefix(string(p.source), byteOrderMark)
	for ; n > 1; n-- {
		_, after, found := strings.Cut(rest, "\n")
		if !found {
			return ""
		}
		rest = after
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSuffix(line, "\r")
}

// shownColumns bounds the part of a line that an error shows.
const shownColumns = 100

// excerpt returns the part of line around column (in runes, from 1), escaped,
// and the blanks that put a caret under that column.
func excerpt(line string, column int) (shown, pad string) {
	at := 0 // byte offset of the column, at most the end of the line
	for i := 1; i < column && at < len(line); i++ {
		_, size := utf8.DecodeRuneInString(line[at:])
		at += size
	}
	start, end := at, at
	for runes := 0; runes < shownColumns/2 && start > 0; runes++ {
		_, size := utf8.DecodeLastRuneInString(line[:start])
		start -= size
	}
	for runes := 0; runes < shownColumns/2 && end < len(line); runes++ {
		_, size := utf8.DecodeRuneInString(line[end:])
		end += size
	}
	before, after := visible(line[start:at]), visible(line[at:end])
	if start > 0 {
		before = "…" + before
	}
	if end < len(line) {
		after += "…"
	}
	return before + after, blanks(before)
}

// blanks returns white space as wide as s on a terminal. A tab stays a tab:
// it is as wide as the one in the line above.
func blanks(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\t':
			b.WriteByte('\t')
		case unicode.Is(unicode.Mn, r): // combining: no column of its own
		case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana):
			b.WriteString("  ")
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// visible escapes what a terminal would obey instead of show: control
// characters, changes of direction, bytes that are not UTF-8. Tabs stay.
func visible(s string) string {
	if !strings.ContainsFunc(s, obeyed) {
		return s
	}
	var b strings.Builder
	for i, size := 0, 0; i < len(s); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(s[i:])
		switch {
		case !obeyed(r):
			b.WriteRune(r)
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		default:
			quoted := strconv.QuoteToASCII(string(r))
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// obeyed also answers for the bytes that are no rune: they arrive as
// utf8.RuneError, and a genuine U+FFFD is escaped with them.
func obeyed(r rune) bool {
	return r != '\t' && (!unicode.IsPrint(r) || r == utf8.RuneError)
}
