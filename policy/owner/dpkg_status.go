package owner

import (
	"fmt"
	"strings"
)

// stanza is what is kept of one package in the status file, whose format is
// that of deb822(5): "Field: value" lines, values continued by lines that
// begin with a blank, stanzas separated by empty lines.
type stanza struct {
	name, arch, version string
	status, multiArch   string
	depends, preDepends string
	provides            string
	essential           string // "yes" or "no"
}

// stanzaKey tells the stanzas of a database apart.
type stanzaKey struct{ name, arch string }

// installed reports whether the package is on the machine and configured.
// The last of the three words of Status says so; one that waits for a
// trigger is installed in every other respect (dpkg(1), PACKAGE STATES).
func (s *stanza) installed() bool {
	switch s.status[strings.LastIndexByte(s.status, ' ')+1:] {
	case "installed", "triggers-pending", "triggers-awaited":
		return true
	}
	return false
}

// field returns where the value of a field goes, nil for one that is not
// kept. Names of fields are the same in upper and lower case.
func (s *stanza) field(name string) *string {
	switch strings.ToLower(name) {
	case "package":
		return &s.name
	case "status":
		return &s.status
	case "architecture":
		return &s.arch
	case "version":
		return &s.version
	case "essential":
		return &s.essential
	case "multi-arch":
		return &s.multiArch
	case "depends":
		return &s.depends
	case "pre-depends":
		return &s.preDepends
	case "provides":
		return &s.provides
	}
	return nil
}

// parseStatus parses a status file. file is its name in errors.
func parseStatus(file, data string) ([]stanza, error) {
	var list []stanza
	for p := (statusParser{file: file, data: data}); ; {
		s, ok, err := p.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			return list, nil
		}
		list = append(list, s)
	}
}

// statusParser walks through a status file.
type statusParser struct {
	file, data string
	pos, line  int
}

// next parses one stanza; ok is false at the end of the file. Values are
// parts of data, a continued one too, so that a file of nothing but
// continuations costs no more than any other.
func (p *statusParser) next() (s stanza, ok bool, err error) {
	first := 0         // the stanza's first line
	var value *string  // where the current field's value goes
	var valueStart int // and where it begins in data
	for p.pos < len(p.data) {
		start := p.pos
		text, _, _ := strings.Cut(p.data[start:], "\n")
		end := start + len(text)
		p.pos, p.line = min(end+1, len(p.data)), p.line+1
		switch {
		case strings.Trim(text, " \t\r") == "":
			if first != 0 {
				return s, true, p.check(&s, first)
			}
		case text[0] == ' ' || text[0] == '\t':
			if first == 0 {
				return s, false, &SyntaxError{p.file, p.line, "a continued line stands where a field must begin"}
			}
			if value != nil {
				*value = p.data[valueStart:end]
			}
		default:
			name, rest, found := strings.Cut(text, ":")
			if !found || name == "" || strings.ContainsAny(name, " \t") {
				return s, false, &SyntaxError{p.file, p.line, fmt.Sprintf("%.80q is not a field (\"Name: value\")", text)}
			}
			if first == 0 {
				first = p.line
			}
			if value = s.field(name); value == nil {
				continue
			}
			if *value != "" {
				return s, false, &SyntaxError{p.file, p.line, fmt.Sprintf("field %s stands twice in one stanza", name)}
			}
			valueStart = end - len(strings.TrimLeft(rest, " \t"))
			*value = strings.TrimRight(p.data[valueStart:end], " \t\r")
		}
	}
	if first == 0 {
		return s, false, nil
	}
	return s, true, p.check(&s, first)
}

// check checks a stanza that began in line first.
func (p *statusParser) check(s *stanza, first int) error {
	if s.name == "" {
		return &SyntaxError{p.file, first, "a stanza has no Package field"}
	}
	if !validName(s.name) {
		return &SyntaxError{p.file, first, fmt.Sprintf("%.80q is not a package name", s.name)}
	}
	if s.arch != "" && !validName(s.arch) {
		return &SyntaxError{p.file, first, fmt.Sprintf("%.80q is not an architecture", s.arch)}
	}
	return nil
}

// validName reports whether s can be the name of a package or an
// architecture (deb-control(5)). It becomes part of a file's name, so a
// slash in it would lead out of the database.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("+-._", rune(c))) {
			return false
		}
	}
	return s != "" && len(s) < 256
}
