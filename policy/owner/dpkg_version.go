package owner

import "strings"

// compareVersions compares two Debian versions, [epoch:]upstream[-revision],
// and returns -1, 0 or 1 (deb-version(7), Sorting algorithm). It has an
// answer for any two strings.
func compareVersions(a, b string) int {
	ea, ua, ra := splitVersion(a)
	eb, ub, rb := splitVersion(b)
	if c := compareDigits(ea, eb); c != 0 {
		return c
	}
	if c := comparePart(ua, ub); c != 0 {
		return c
	}
	return comparePart(ra, rb)
}

// splitVersion cuts a version into its parts. A missing epoch or revision is
// empty, which compares as "0".
func splitVersion(v string) (epoch, upstream, revision string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		epoch, v = e, rest
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		v, revision = v[:i], v[i+1:]
	}
	return epoch, v, revision
}

// comparePart compares stretches of non-digits and numbers in turn.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		var ta, tb, na, nb string
		ta, a = span(a, false)
		tb, b = span(b, false)
		if c := compareText(ta, tb); c != 0 {
			return c
		}
		na, a = span(a, true)
		nb, b = span(b, true)
		if c := compareDigits(na, nb); c != 0 {
			return c
		}
	}
	return 0
}

// span cuts off the longest beginning of s that is digits, or is not.
func span(s string, digits bool) (head, tail string) {
	i := 0
	for i < len(s) && isDigit(s[i]) == digits {
		i++
	}
	return s[:i], s[i:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// compareDigits compares numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return sign(len(a) - len(b))
	}
	return strings.Compare(a, b)
}

// compareText compares non-digits: "~" before the end, letters before
// everything else.
func compareText(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := sign(textOrder(a, i) - textOrder(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

func textOrder(s string, i int) int {
	if i >= len(s) {
		return 0
	}
	c := s[i]
	switch {
	case c == '~':
		return -1
	case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
		return int(c)
	}
	return int(c) + 256
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
