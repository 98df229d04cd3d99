package policy

import (
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Declares reports whether name is among the packages that p names itself;
// what those depend on does not count.
func (p Packages) Declares(name string) bool {
	for _, list := range [][]PackageName{p.Depend, p.System} {
		for _, n := range list {
			if n.Name == name {
				return true
			}
		}
	}
	return false
}

// globMeta are the characters with a meaning in a rule's path. A backslash
// takes it from the character behind it.
const globMeta = `*?[]{}\`

// EscapeGlob returns the glob that matches the path name and nothing else.
func EscapeGlob(name string) string {
	if !strings.ContainsAny(name, globMeta) {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		if strings.IndexByte(globMeta, name[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// Literal returns the one path that r names, without its escapes; ok is false
// when r is a glob or a set. A leading ~ stays.
func (r FileRule) Literal() (name string, ok bool) {
	return unescape(r.Path), r.Set == "" && !hasGlob(r.Path)
}

// Tree returns the directory of a rule for everything in one directory,
// dir/** without any other glob; ok is false for other rules. A leading ~
// stays.
func (r FileRule) Tree() (dir string, ok bool) {
	dir, ok = strings.CutSuffix(r.Path, "/**")
	if !ok || r.Set != "" || hasGlob(dir) || strings.HasSuffix(dir, `\`) && !strings.HasSuffix(dir, `\\`) {
		return "", false
	}
	if dir == "" {
		return "/", true
	}
	return unescape(dir), true
}

// Matches reports whether r is about the file with the given canonical path.
// home is what ~ stands for; when it is empty, rules with ~ match nothing.
// A set matches the files that are in it.
func (r FileRule) Matches(name, home string) bool {
	if r.Set != "" {
		return r.Set == "base" && InBase(name, 0)
	}
	pattern := r.Path
	if rest, ok := strings.CutPrefix(pattern, "~/"); ok {
		if home == "" {
			return false
		}
		pattern = strings.TrimSuffix(EscapeGlob(home), "/") + "/" + rest
	}
	ok, err := doublestar.Match(pattern, name)
	return ok && err == nil
}

// hasGlob reports whether s has a character with a meaning that no backslash
// takes away.
func hasGlob(s string) bool {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case strings.IndexByte(globMeta, s[i]) >= 0 && s[i] != ']':
			return true
		}
	}
	return false
}

// unescape takes the backslashes away that escape something.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
