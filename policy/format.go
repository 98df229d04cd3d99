package policy

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Format returns p as YAML in one form: every key, in the order of the
// documentation, no comments. [Parse] reads the same policy from it, but for
// the positions.
func (p *Policy) Format() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "version: 1\nmode: %s\nundeclared: %s\n", p.Mode, p.Undeclared)
	fmt.Fprintf(&b, "packages:\n  manager: %s\n", p.Packages.Manager)
	fmt.Fprintf(&b, "  depend:%s", blockList("    ", names(p.Packages.Depend)))
	fmt.Fprintf(&b, "  system:%s", blockList("    ", names(p.Packages.System)))
	fmt.Fprintf(&b, "  closure: %t\n", p.Packages.Closure)
	rules := make([]string, len(p.Files))
	for i, r := range p.Files {
		rules[i] = r.String()
	}
	fmt.Fprintf(&b, "files:%s", blockList("  ", rules))
	trees := make([]string, len(p.Workspace))
	for i, t := range p.Workspace {
		trees[i] = yamlString(t.Path)
	}
	fmt.Fprintf(&b, "workspace:%s", blockList("  ", trees))
	fmt.Fprintf(&b, "network: %s\n", p.Network)
	return b.Bytes()
}

// Source returns the text that p was parsed from. The caller owns it.
func (p *Policy) Source() []byte { return bytes.Clone(p.source) }

// String returns the rule as a policy writes it, as a flow mapping.
func (r FileRule) String() string {
	if r.Set != "" {
		return "{set: " + yamlString(r.Set) + "}"
	}
	return "{path: " + yamlString(r.Path) + ", access: " + r.Access.Letters() + "}"
}

// names returns package names as YAML scalars.
func names(list []PackageName) []string {
	all := make([]string, len(list))
	for i, n := range list {
		all[i] = yamlString(n.Name)
	}
	return all
}

// blockList returns what follows the colon of a key: the items, one a line.
func blockList(indent string, items []string) string {
	if len(items) == 0 {
		return " []\n"
	}
	return "\n" + indent + "- " + strings.Join(items, "\n"+indent+"- ") + "\n"
}

// yamlString returns s as a YAML scalar that is a string in block and in flow
// style. It is left plain where that can't be mistaken for anything else.
// s is UTF-8; what is not comes out as U+FFFD.
func yamlString(s string) string {
	if plainScalar(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(yamlEscape(r))
		}
	}
	b.WriteByte('"')
	return b.String()
}

// yamlEscape returns the escape sequence for r in a double-quoted scalar,
// YAML 1.2 section 5.7.
func yamlEscape(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\t':
		return `\t`
	case r < 0x100:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// plainScalar reports whether s needs no quotes: it begins like a path or a
// word, goes on with letters, digits and harmless punctuation, and is no word
// that some YAML takes for a truth value or for nothing.
func plainScalar(s string) bool {
	switch strings.ToLower(s) {
	case "", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "~":
		return false
	case ".":
		return true
	}
	first, _ := utf8.DecodeRuneInString(s)
	if !unicode.IsLetter(first) && first != '/' && !strings.HasPrefix(s, "~/") && !strings.HasPrefix(s, "../") {
		return false
	}
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+~*@%=^", r) {
			return false
		}
	}
	return utf8.ValidString(s)
}
