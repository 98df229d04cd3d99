package policy

import (
	"fmt"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// A check returns an empty message when there is nothing wrong with a name,
// and otherwise the message and the hint of an error.

// checkPackageName holds a name to the syntax of deb-control(5) and Debian
// Policy, section 5.6.7 – lower case letters, digits and + - . , at least two
// characters, the first a letter or a digit – with an architecture behind a
// colon if need be.
func checkPackageName(s string) (message, hint string) {
	name, arch, qualified := strings.Cut(s, ":")
	if plainPackageName(name) && (!qualified || plainArchitecture(arch)) {
		return "", ""
	}
	bare := leadingPackageName(s)
	alone := ""
	if bare != "" {
		alone = fmt.Sprintf(`name the package alone: "%s"`, bare)
	}
	switch {
	case strings.Contains(s, "|"):
		return "alternatives are not part of policy version 1", "name the package that this build uses"
	case bare != "" && (arch == "any" || arch == "native"):
		return fmt.Sprintf("%q is not an architecture that packages have", arch), alone
	case bare != "" && strings.ContainsAny(s, "[!") || strings.Contains(s, "<!"):
		return "architecture and profile restrictions are not part of policy version 1", alone
	case bare != "" && strings.ContainsAny(s, "(<>="):
		return "version constraints are not part of policy version 1", alone
	case bare != "" && plainPackageName(strings.ToLower(name)) && name != strings.ToLower(name):
		return fmt.Sprintf("%q is not a package name", s), fmt.Sprintf(`did you mean "%s"?`, strings.ToLower(name))
	}
	return fmt.Sprintf("%q is not a package name", s),
		"names have lower case letters, digits, + - and . , at least two characters, and begin with a letter or a digit"
}

// maxPackageName is NAME_MAX (limits.h): dpkg keeps files of the package's name.
const maxPackageName = 255

// plainPackageName reports whether s is a package name without architecture.
func plainPackageName(s string) bool {
	if len(s) < 2 || len(s) > maxPackageName || !lowerOrDigit(s[0]) {
		return false
	}
	for i := range len(s) {
		if !lowerOrDigit(s[i]) && !strings.ContainsRune("+-.", rune(s[i])) {
			return false
		}
	}
	return true
}

// plainArchitecture reports whether s has the syntax of a dpkg architecture
// and is not one of its wildcards.
func plainArchitecture(s string) bool {
	if s == "" || len(s) > maxPackageName || s == "any" || s == "native" || !lowerOrDigit(s[0]) {
		return false
	}
	for i := range len(s) {
		if !lowerOrDigit(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func lowerOrDigit(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// leadingPackageName returns the package name that s begins with, if any.
func leadingPackageName(s string) string {
	end := strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("+-.", r))
	})
	if end < 0 {
		end = len(s)
	}
	if !plainPackageName(strings.ToLower(s[:end])) {
		return ""
	}
	return strings.ToLower(s[:end])
}

// maxPath bounds the length of a rule's path, in bytes: PATH_MAX (limits.h)
// with every character escaped.
const maxPath = 2 * 4096

// maxAlternatives bounds what the braces of one glob multiply to: matching
// tries them all.
const maxAlternatives = 256

// checkRulePath holds the path of a rule to: absolute or in ~/, the way the
// kernel would write it (no //, no . and no .. , no slash at the end), and a
// glob that can be matched in reasonable time.
func checkRulePath(s string) (message, hint string) {
	switch {
	case s == "":
		return "the path is empty", "write an absolute path, or leave the rule out"
	case s == "~" || s == "~/":
		return fmt.Sprintf("%q alone names no files", s), "for the files of the home directory write ~/**"
	case strings.HasPrefix(s, "~/") || s[0] == '/': // as it should be
	case s[0] == '~':
		return fmt.Sprintf("%q: only ~/ is known, not the home of others", s), "write an absolute path"
	default:
		return fmt.Sprintf("%q is not absolute", s), relativeHint(s)
	}
	switch {
	case strings.ContainsRune(s, 0):
		return "the path has a NUL character in it, which no file name can have", ""
	case len(s) > maxPath:
		return fmt.Sprintf("the path has %d bytes, more than a path can have", len(s)), "use a glob: dir/**"
	case len(s) > 1 && strings.HasSuffix(s, "/"):
		return fmt.Sprintf("%q ends in a slash", s), fmt.Sprintf("for the directory alone write %s, for everything in it %s**", strings.TrimRight(s, "/"), s)
	case path.Clean(s) != s:
		return fmt.Sprintf("%q has //, . or .. in it, and so is the name of no file", s), "write " + path.Clean(s)
	}
	return checkGlob(s)
}

func relativeHint(s string) string {
	name := strings.TrimPrefix(path.Clean(s), "../")
	return fmt.Sprintf("files of the project belong to the workspace and need no rule; others have a path like /%s or ~/%[1]s", name)
}

func checkGlob(s string) (message, hint string) {
	if !doublestar.ValidatePattern(s) {
		return fmt.Sprintf("%q is not a valid glob", s), `a [ or { is not closed, or a } or \ stands alone; before a character that means itself write \`
	}
	if n := alternatives(s); n > maxAlternatives {
		return fmt.Sprintf("the braces of this glob stand for more than %d combinations", maxAlternatives), "make several rules of it"
	}
	for component := range strings.SplitSeq(s, "/") {
		if strings.Contains(component, "**") && component != "**" && !strings.ContainsAny(component, `\[{,}`) {
			return fmt.Sprintf("** stands for whole directories, but is a part of %q", component), fmt.Sprintf("write * in it, or %q", strings.ReplaceAll(component, "**", "/**"))
		}
	}
	return "", ""
}

// alternatives returns how many combinations the braces of a glob stand for,
// or more: nested braces are multiplied, too.
func alternatives(s string) int {
	product, depth := 1, 0
	var open []int // the number of alternatives in each open brace
	for i := 0; i < len(s) && product <= maxAlternatives; i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			depth++
			open = append(open, 1)
		case ',':
			if depth > 0 {
				open[depth-1]++
			}
		case '}':
			if depth > 0 {
				product *= open[depth-1]
				depth--
				open = open[:depth]
			}
		}
	}
	return product
}

// checkWorkspace holds a directory of the workspace to: not the whole
// filesystem, and no glob, because a workspace is always a whole tree.
func checkWorkspace(s string) (message, hint string) {
	switch {
	case s == "":
		return "the directory is empty", "write . for the directory of the policy file"
	case strings.ContainsRune(s, 0):
		return "the path has a NUL character in it, which no file name can have", ""
	case len(s) > maxPath:
		return fmt.Sprintf("the path has %d bytes, more than a path can have", len(s)), ""
	case path.Clean(s) == "/":
		return "the workspace would be the whole filesystem", "name the directory of the project; . is that of the policy file"
	case s == "~" || path.Clean(s) == "~" || s[0] == '~' && !strings.HasPrefix(s, "~/"):
		return fmt.Sprintf("%q can't be a workspace", s), "name the directory of the project, like ~/src/project"
	case s == "*", s == "**", strings.HasSuffix(s, "/*"), strings.HasSuffix(s, "/**"):
		return fmt.Sprintf("%q is a glob, but a workspace is always a whole tree", s), fmt.Sprintf("write %s", yamlString(path.Dir(s)))
	}
	return "", ""
}

// parseAccess reads letters in any order, or the word none.
func parseAccess(s string) (access Access, message, hint string) {
	const letters = "letters are r (read), w (write), x (execute), l (list); none denies"
	if s == "none" {
		return 0, "", ""
	}
	if s == "" {
		return 0, "the access is empty", letters
	}
	for i := range len(s) {
		bit := accessOf(s[i])
		if bit == 0 {
			return 0, fmt.Sprintf("%q is not an access", s), accessHint(s, letters)
		}
		if access.Has(bit) {
			return 0, fmt.Sprintf("access %q has the letter %c twice", s, s[i]), letters
		}
		access |= bit
	}
	return access, "", ""
}

// accessOf returns the access that a letter stands for, or none.
func accessOf(letter byte) Access {
	for _, l := range accessLetters {
		if l.letter == letter {
			return l.bit
		}
	}
	return 0
}

// accessHint understands the words behind the letters.
func accessHint(s, otherwise string) string {
	var access Access
	for word := range strings.FieldsFuncSeq(strings.ToLower(s), func(r rune) bool { return r < 'a' || r > 'z' }) {
		known := Access(0)
		for _, l := range accessLetters {
			if strings.HasPrefix(word, l.word) || word == string(l.letter) {
				known = l.bit
			}
		}
		if known == 0 {
			return otherwise
		}
		access |= known
	}
	if access == 0 {
		return otherwise
	}
	return fmt.Sprintf(`did you mean "%s"?`, access.Letters())
}
