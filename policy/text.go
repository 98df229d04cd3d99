package policy

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// maxSize bounds a policy file, in bytes. The largest that learn writes are a
// few hundred KiB.
const maxSize = 1 << 20

// byteOrderMark may stand at the beginning of a text file, where it has no
// meaning and no column.
const byteOrderMark = "\ufeff"

// checkText refuses what is no YAML text before a YAML parser sees it: a file
// too large, bytes that are not UTF-8, and characters that YAML 1.2 (section
// 5.1, c-printable) does not allow. It also refuses the line ends that only
// some programs know, so that every line has the number that an editor shows
// for it. The error lacks file and line.
func checkText(data []byte) *Error {
	if len(data) > maxSize {
		return &Error{
			Pos:     Position{1, 1},
			Message: fmt.Sprintf("the file has %d bytes, more than a policy can have (%d)", len(data), maxSize),
			Hint:    "is this the policy file? group paths with dir/** if it is",
		}
	}
	start := 0
	if bytes.HasPrefix(data, []byte(byteOrderMark)) {
		start = len(byteOrderMark)
	}
	pos := Position{1, 1}
	for i := start; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if problem := refusedRune(data, i, r, size); problem != nil {
			problem.Pos = pos
			return problem
		}
		i += size
		if r == '\n' {
			pos = Position{pos.Line + 1, 1}
		} else {
			pos.Column++
		}
	}
	return nil
}

// refusedRune says what is wrong with the rune r at data[i], if anything is.
func refusedRune(data []byte, i int, r rune, size int) *Error {
	switch {
	case r == utf8.RuneError && size == 1:
		return &Error{
			Message: fmt.Sprintf("byte 0x%02x is not UTF-8", data[i]),
			Hint:    "a policy is UTF-8 text; save the file in that encoding",
		}
	case r == 0:
		return &Error{
			Message: "the file contains a NUL byte: it is binary",
			Hint:    "a policy is UTF-8 text; is this the policy file?",
		}
	case r == '\r' && !bytes.HasPrefix(data[i:], []byte("\r\n")), r == '\u0085', r == '\u2028', r == '\u2029':
		return &Error{
			Message: fmt.Sprintf("line end %U", r),
			Hint:    "end lines with a line feed; in a quoted name write the character as an escape",
		}
	case !printable(r):
		return &Error{
			Message: fmt.Sprintf("character %U is not allowed in YAML", r),
			Hint:    fmt.Sprintf(`remove it; in a name write "%s" in double quotes`, yamlEscape(r)),
		}
	}
	return nil
}

// printable reports whether a rune may stand in YAML text. The byte order
// mark may, says YAML, and is refused all the same: nobody sees it there.
func printable(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r':
		return true
	case r < 0x20, r >= 0x7f && r < 0xa0, r == '\ufeff', r == '\ufffe', r == '\uffff':
		return false
	}
	return true
}

// offset returns the byte offset of pos in data, whose columns count runes;
// ok is false when there is no such place. The place just behind the last
// rune of a line is one.
func offset(data []byte, pos Position) (at int, ok bool) {
	if bytes.HasPrefix(data, []byte(byteOrderMark)) {
		at = len(byteOrderMark)
	}
	for line := 1; line < pos.Line; line++ {
		n := bytes.IndexByte(data[at:], '\n')
		if n < 0 {
			return 0, false
		}
		at += n + 1
	}
	for column := 1; column < pos.Column; column++ {
		if at == len(data) || data[at] == '\n' {
			return 0, false
		}
		_, size := utf8.DecodeRune(data[at:])
		at += size
	}
	return at, true
}
