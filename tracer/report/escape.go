package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape returns s in a form that is safe on a terminal and loses nothing:
// whatever is not a printable character (controls, escape sequences, bytes
// that are not UTF-8, bidirectional overrides, zero-width characters, line
// separators) becomes an escape as in a Go string, and so does the backslash.
func Escape(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		b.WriteString(escapeRune(r, s[:size]))
		s = s[size:]
	}
	return b.String()
}

// plain reports whether Escape has nothing to do, which is nearly always.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' {
			return false
		}
	}
	return true
}

// escapeRune returns how r is shown, which was decoded from raw.
func escapeRune(r rune, raw string) string {
	switch {
	case r == utf8.RuneError && len(raw) == 1, r < ' ' && r != '\n' && r != '\t', r == 0x7f:
		return fmt.Sprintf(`\x%02x`, raw[0])
	case r == '\n':
		return `\n`
	case r == '\t':
		return `\t`
	case r == '\\':
		return `\\`
	case unicode.IsPrint(r):
		return raw
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// cut shortens escaped text to at most width characters, the last one an
// ellipsis.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	n := 0
	for i := range s {
		if n++; n == max(width, 1) {
			return s[:i] + "…"
		}
	}
	return s
}

// commandLine returns a command as a person would type it, more or less, and
// escaped: arguments with blanks stand in quotes.
func commandLine(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = Escape(a)
		if a == "" || strings.ContainsAny(a, " '\"") {
			words[i] = "'" + words[i] + "'"
		}
	}
	return strings.Join(words, " ")
}

// raw returns the bytes of s when JSON can't hold it as a string, else nil.
func raw(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}
