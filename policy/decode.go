package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxErrors bounds how many errors one file is answered with.
const maxErrors = 50

// decoder fills a policy from YAML nodes. It goes on after an error: a part
// that can't be understood keeps its default, and no policy with an error is
// ever returned.
type decoder struct {
	policy *Policy
	errs   Errors
	more   int // errors beyond maxErrors
}

// field is a key that a mapping may have.
type field struct {
	key    string
	decode func(value *yaml.Node)
}

func (d *decoder) document(root *yaml.Node) {
	d.plain(root)
	version := d.version(root)
	if version > 1 {
		return // what a later version means by its other keys is not known here
	}
	p := d.policy
	d.mapping(root, "the policy", []field{
		{"version", func(*yaml.Node) {}},
		{"mode", func(n *yaml.Node) { p.Mode = oneOf(d, n, "mode", Audit, Enforce) }},
		{"undeclared", func(n *yaml.Node) { p.Undeclared = oneOf(d, n, "undeclared", Hide, Deny) }},
		{"packages", d.packages},
		{"files", d.files},
		{"workspace", d.workspace},
		{"network", func(n *yaml.Node) { p.Network = oneOf(d, n, "network", NetworkHost, NetworkNone) }},
	})
}

// version checks the version, which decides how the rest is to be read, and
// returns it, or 0 when there is none that can be understood.
func (d *decoder) version(root *yaml.Node) int {
	const hint = `begin the file with "version: 1"`
	if root.Kind != yaml.MappingNode {
		return 0
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if key.Value != "version" {
			continue
		}
		n, err := strconv.Atoi(value.Value)
		switch {
		case value.Kind != yaml.ScalarNode || value.ShortTag() != "!!int" || err != nil || n < 1 || value.Value != strconv.Itoa(n):
			d.errorf(value, `write "version: 1"`, "version is %s, not a number that policies have", describe(value))
			return 0
		case n > 1:
			d.errorf(value, "use a newer depguard, or rewrite the policy in version 1", "this depguard reads policies of version 1, not %d", n)
		}
		return n
	}
	d.errorf(root, hint, "version is missing")
	return 0
}

func (d *decoder) packages(n *yaml.Node) {
	p := &d.policy.Packages
	d.mapping(n, "packages", []field{
		{"manager", func(n *yaml.Node) { p.Manager = oneOf(d, n, "manager", "auto", "dpkg") }},
		{"depend", func(n *yaml.Node) { p.Depend = d.packageNames(n, "depend") }},
		{"system", func(n *yaml.Node) {
			if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
				p.System = d.packageName(n, nil)
				return
			}
			p.System = d.packageNames(n, "system")
		}},
		{"closure", func(n *yaml.Node) { p.Closure = d.boolean(n, "closure") }},
	})
}

func (d *decoder) packageNames(n *yaml.Node, what string) (names []PackageName) {
	d.list(n, what, "package names", func(item *yaml.Node) { names = d.packageName(item, names) })
	return names
}

func (d *decoder) packageName(n *yaml.Node, names []PackageName) []PackageName {
	name, ok := d.text(n, "a package name")
	if !ok {
		return names
	}
	if message, hint := checkPackageName(name); message != "" {
		d.errorf(n, hint, "%s", message)
		return names
	}
	return append(names, PackageName{Name: name, Pos: position(n)})
}

func (d *decoder) files(n *yaml.Node) {
	first := make(map[string]*yaml.Node)
	d.list(n, "files", "rules", func(item *yaml.Node) {
		rule, ok := d.fileRule(item)
		if !ok {
			return
		}
		name := rule.Set + rule.Path // a path has a slash, a set has none
		if other := first[name]; other != nil {
			d.errorf(item, "keep one of the two, with all the access that is meant", "%q has a rule in line %d already", shortened(name, longestValue), other.Line)
			return
		}
		first[name] = item
		d.policy.Files = append(d.policy.Files, rule)
	})
}

// fileRule decodes {path: …, access: …} or {set: base}.
func (d *decoder) fileRule(n *yaml.Node) (rule FileRule, ok bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
		d.errorf(n, fmt.Sprintf("write {path: %s, access: r}", yamlString(n.Value)), "a rule needs a path and an access, found %s", describe(n))
		return rule, false
	}
	before := len(d.errs) + d.more
	var path, access, set *yaml.Node
	if !d.mapping(n, "this rule", []field{
		{"path", func(n *yaml.Node) { path, rule.Path = n, d.rulePath(n) }},
		{"access", func(n *yaml.Node) { access, rule.Access = n, d.access(n) }},
		{"set", func(n *yaml.Node) { set, rule.Set = n, oneOf(d, n, "set", "base") }},
	}) {
		return rule, false
	}
	rule.Pos = position(n)
	switch {
	case len(d.errs)+d.more > before: // said already
	case set != nil && path != nil:
		d.errorf(set, "make two rules of it", "a rule has either a path or a set")
	case set != nil && access != nil:
		d.errorf(access, "leave access out; \"depguard policy base\" prints what the set grants", "every file of the set %s has an access of its own", set.Value)
	case set == nil && path == nil:
		d.errorf(n, "write {path: /opt/sdk/**, access: rx} or {set: base}", "this rule has no path")
	case set == nil && access == nil:
		d.errorf(n, "add access: letters out of r (read), w (write), x (execute), l (list); or none, which denies", "this rule has no access")
	}
	if path != nil {
		rule.Pos = position(path)
	}
	return rule, len(d.errs)+d.more == before
}

func (d *decoder) rulePath(n *yaml.Node) string {
	path, ok := d.text(n, "a path")
	if !ok {
		return ""
	}
	if message, hint := checkRulePath(path); message != "" {
		d.errorf(n, hint, "%s", message)
	}
	return path
}

func (d *decoder) access(n *yaml.Node) Access {
	letters, ok := d.text(n, "an access")
	if !ok {
		return 0
	}
	access, message, hint := parseAccess(letters)
	if message != "" {
		d.errorf(n, hint, "%s", message)
	}
	return access
}

func (d *decoder) workspace(n *yaml.Node) {
	d.policy.Workspace = []WorkspaceTree{} // what is written down replaces the default, even if it is nothing
	d.list(n, "workspace", "directories", func(item *yaml.Node) {
		path, ok := d.text(item, "a directory")
		if !ok {
			return
		}
		if message, hint := checkWorkspace(path); message != "" {
			d.errorf(item, hint, "%s", message)
			return
		}
		d.policy.Workspace = append(d.policy.Workspace, WorkspaceTree{Path: path, Pos: position(item)})
	})
}

// plain refuses, once for each node, the parts of YAML that the language has
// no use for: anchors and aliases (and with them everything that makes a
// small file a large document) and explicit tags.
func (d *decoder) plain(n *yaml.Node) {
	switch {
	case n.Kind == yaml.AliasNode:
		d.errorf(n, "write the value out; a glob that begins with * has to stand in quotes", "*%s is a YAML alias, which policies don't have", n.Value)
		return
	case n.Anchor != "":
		d.errorf(n, "remove it; a value that begins with & has to stand in quotes", "&%s is a YAML anchor, which policies don't have", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		d.errorf(n, "remove it; a value that begins with ! has to stand in quotes", "%s is a YAML tag, which policies don't have", n.Tag)
	}
	for _, c := range n.Content {
		d.plain(c)
	}
}

// mapping decodes a mapping with the given fields and reports whether n is
// one. Keys that are not among them, and keys that come twice, are errors.
func (d *decoder) mapping(n *yaml.Node, what string, fields []field) bool {
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, what+" is a mapping", "write keys and values: "+fields[0].key+": …")
		return false
	}
	first := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.mismatch(key, "a key of "+what+" is a word", "")
			continue
		}
		at := slices.IndexFunc(fields, func(f field) bool { return f.key == key.Value })
		other := first[key.Value]
		switch {
		case at < 0:
			d.errorf(key, didYouMean(key.Value, keys(fields)), "unknown key %q in %s", shortened(key.Value, longestValue), what)
		case other != nil:
			d.errorf(key, "merge the two", "%s stands in line %d already", key.Value, other.Line)
		default:
			first[key.Value] = key
			fields[at].decode(value)
		}
	}
	return true
}

func keys(fields []field) []string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.key
	}
	return all
}

func (d *decoder) list(n *yaml.Node, what, of string, item func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		hint := "write [] for none, or leave the key out"
		if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" {
			hint = "write it as a list: [" + yamlString(n.Value) + "]"
		}
		d.mismatch(n, what+" is a list of "+of, hint)
		return
	}
	for _, c := range n.Content {
		item(c)
	}
}

// text returns the string that n is.
func (d *decoder) text(n *yaml.Node, what string) (string, bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
		return n.Value, true
	}
	hint := ""
	switch {
	case n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null":
		hint = "if that is the name, put it in quotes: " + strconv.QuoteToASCII(n.Value)
	case n.Kind == yaml.ScalarNode && n.Value == "~":
		hint = "~ alone means nothing in YAML; for the files of the home directory write ~/**"
	}
	d.mismatch(n, "expected "+what, hint)
	return "", false
}

func (d *decoder) boolean(n *yaml.Node, what string) bool {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		return strings.EqualFold(n.Value, "true")
	}
	hint := "write true or false"
	switch strings.ToLower(n.Value) {
	case "yes", "on", "y":
		hint = "write true"
	case "no", "off", "n":
		hint = "write false"
	}
	d.mismatch(n, what+" is true or false", hint)
	return false
}

// oneOf returns the word among known that n is, or the zero word after an
// error.
func oneOf[T ~string](d *decoder, n *yaml.Node, what string, known ...T) T {
	words := make([]string, len(known))
	for i, k := range known {
		words[i] = string(k)
	}
	choice := what + " is " + strings.Join(words, " or ")
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		d.mismatch(n, choice, "")
		return ""
	}
	if !slices.Contains(words, n.Value) {
		hint := ""
		if s := Suggest(n.Value, words); s != "" {
			hint = `did you mean "` + s + `"?`
		}
		d.errorf(n, hint, "%s, not %q", choice, shortened(n.Value, longestValue))
		return ""
	}
	return T(n.Value)
}

// mismatch says that n is of the wrong type. Aliases were refused already.
func (d *decoder) mismatch(n *yaml.Node, expected, hint string) {
	if n.Kind != yaml.AliasNode {
		d.errorf(n, hint, "%s, found %s", expected, describe(n))
	}
}

// describe says what n is, in the words of a person who does not know YAML.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + shortened(n.Value, longestValue)
	case "!!bool":
		return "the truth value " + shortened(n.Value, longestValue)
	case "!!timestamp":
		return "the date " + shortened(n.Value, longestValue)
	}
	return strconv.Quote(shortened(n.Value, longestValue))
}

// What a message shows of a value, and how long it gets, in runes.
const (
	longestValue   = 80
	longestMessage = 400
)

// shortened keeps a message from being as long as the value it is about.
func shortened(s string, limit int) string {
	runes := 0
	for i := range s {
		if runes == limit {
			return s[:i] + "…"
		}
		runes++
	}
	return s
}

func position(n *yaml.Node) Position { return Position{n.Line, n.Column} }

// errorf notes an error at n.
func (d *decoder) errorf(n *yaml.Node, hint, format string, args ...any) {
	if len(d.errs) == maxErrors {
		d.more++
		return
	}
	e := d.policy.Errorf(position(n), "", format, args...)
	e.Message, e.Hint = shortened(e.Message, longestMessage), shortened(hint, longestMessage)
	d.errs = append(d.errs, e)
}

// errors returns what errorf has noted, or nil.
func (d *decoder) errors() error {
	if len(d.errs) == 0 {
		return nil
	}
	d.errs.Sort()
	if d.more > 0 {
		last := *d.errs[len(d.errs)-1]
		last.Line, last.Hint = "", "mend these first"
		last.Message = fmt.Sprintf("and %d more errors", d.more)
		d.errs = append(d.errs, &last)
	}
	return d.errs
}
