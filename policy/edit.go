package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// AddDepend returns the text of a policy with the packages names added to
// packages.depend. Everything else stays as it is, comments and layout
// included: the text is edited at the place that its YAML nodes name, and the
// result is parsed and compared before it is returned. A list in alphabetical
// order stays in it.
//
// Names that are declared already, in depend or in system, are left out; when
// all are, the result is data itself. To report which, ask
// [Packages.Declares] first. Errors are those of [Parse] for data; a name
// that is no package name is an error without a position.
func AddDepend(file string, data []byte, names []string) ([]byte, error) {
	p, root, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if message, hint := checkPackageName(name); message != "" {
			return nil, &Error{File: file, Message: "add a package: " + message, Hint: hint}
		}
	}
	for _, name := range names {
		if p.Packages.Declares(name) {
			continue
		}
		if data, err = addOne(p, data, root, name); err != nil {
			return nil, err
		}
		if p, root, err = parse(file, data); err != nil {
			return nil, fmt.Errorf("BUG: the policy with %s added can't be read: %w", name, err)
		}
	}
	return data, nil
}

// addOne adds one package that p does not declare.
func addOne(p *Policy, data []byte, root *yaml.Node, name string) ([]byte, error) {
	want := p.withDepend(name)
	e := editor{data: data, newline: "\n"}
	if bytes.Contains(data, []byte("\r\n")) {
		e.newline = "\r\n"
	}
	for _, edited := range e.candidates(root, yamlString(name)) {
		if got, err := Parse(p.File, edited); err == nil && bytes.Equal(got.withDepend("").Format(), want.Format()) {
			return edited, nil
		}
	}
	return nil, p.Errorf(position(root), "add "+name+" to packages.depend by hand", "the layout of this file is too unusual to add a package to it")
}

// withDepend returns p with one more package in Depend, which is sorted, so
// that policies compare equal wherever in the list the package was put.
func (p *Policy) withDepend(name string) *Policy {
	other := *p
	other.Packages.Depend = slices.Clone(p.Packages.Depend)
	if name != "" {
		other.Packages.Depend = append(other.Packages.Depend, PackageName{Name: name})
	}
	slices.SortFunc(other.Packages.Depend, func(a, b PackageName) int { return strings.Compare(a.Name, b.Name) })
	return &other
}

// editor proposes ways to write a new package into a text, the best looking
// first. A proposal may be wrong where the text is laid out in a way that
// nobody writes; its user parses the result.
type editor struct {
	data    []byte
	newline string
}

func (e editor) candidates(root *yaml.Node, scalar string) (all [][]byte) {
	propose := func(edited []byte) {
		if edited != nil {
			all = append(all, edited)
		}
	}
	packages := valueOf(root, "packages")
	if packages == nil {
		propose(e.append(root, "packages:"+e.newline+indentOf(root)+"  depend: ["+scalar+"]"))
		propose(e.firstKey(root, "packages: {depend: ["+scalar+"]}"))
		return all
	}
	depend := valueOf(packages, "depend")
	if depend == nil {
		propose(e.belowKey(root, "packages", packages, "depend: ["+scalar+"]"))
		propose(e.firstKey(packages, "depend: ["+scalar+"]"))
		return all
	}
	if at := e.place(depend, scalar); at >= 0 {
		if depend.Style&yaml.FlowStyle != 0 {
			propose(e.flowAfter(depend, at, scalar))
		} else {
			propose(e.blockAfter(depend.Content[at], indentOf(depend)+"- "+scalar))
		}
	}
	propose(e.firstItem(depend, scalar))
	return all
}

// valueOf returns the value of a key of a mapping, or nil.
func valueOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// indentOf returns the blanks that bring a line to the column of n.
func indentOf(n *yaml.Node) string { return strings.Repeat(" ", max(n.Column-1, 0)) }

// place returns the index of the item that a new one follows: its place in
// the alphabet where the list is sorted, the end where it is not, and -1 for
// the beginning. What has a comment above it keeps its place at the top.
func (e editor) place(list *yaml.Node, scalar string) int {
	last := len(list.Content) - 1
	values := make([]string, len(list.Content))
	for i, n := range list.Content {
		values[i] = n.Value
	}
	if !slices.IsSorted(values) {
		return last
	}
	at, _ := slices.BinarySearch(values, strings.Trim(scalar, `"`))
	if at == 0 && last >= 0 && e.commentAbove(list.Content[0]) {
		return 0
	}
	return at - 1
}

// commentAbove reports whether the line above n is a comment.
func (e editor) commentAbove(n *yaml.Node) bool {
	at, ok := offset(e.data, Position{n.Line - 1, 1})
	if n.Line < 2 || !ok {
		return false
	}
	line, _, _ := bytes.Cut(e.data[at:], []byte("\n"))
	return bytes.HasPrefix(bytes.TrimSpace(line), []byte("#"))
}

// insert returns the text with more at the given offset.
func (e editor) insert(at int, more string) []byte {
	return slices.Concat(e.data[:at], []byte(more), e.data[at:])
}

// lineEnd returns the offset of the end of the line that at is in, before the
// newline.
func (e editor) lineEnd(at int) int {
	end := len(e.data)
	if n := bytes.IndexByte(e.data[at:], '\n'); n >= 0 {
		end = at + n
	}
	if end > at && e.data[end-1] == '\r' {
		end--
	}
	return end
}

// blockAfter adds a line behind the one of an item or key.
func (e editor) blockAfter(n *yaml.Node, line string) []byte {
	at, ok := offset(e.data, position(n))
	if !ok {
		return nil
	}
	return e.insert(e.lineEnd(at), e.newline+line)
}

// flowAfter adds an item behind item i of a list in brackets: on the same
// line, or, where each item has a line, on one of its own, so that the
// comment of the other stays with it.
func (e editor) flowAfter(list *yaml.Node, i int, scalar string) []byte {
	item := list.Content[i]
	at, ok := offset(e.data, position(item))
	if !ok {
		return nil
	}
	end := e.scalarEnd(at, item.Value)
	if end < 0 {
		return nil
	}
	lineStart := bytes.LastIndexByte(e.data[:at], '\n') + 1
	rest := bytes.TrimSpace(e.data[end:e.lineEnd(end)])
	alone := len(bytes.TrimSpace(e.data[lineStart:at])) == 0
	rest, comma := bytes.CutPrefix(rest, []byte(","))
	rest = bytes.TrimSpace(rest)
	if !alone || len(rest) > 0 && rest[0] != '#' {
		return e.insert(end, ", "+scalar)
	}
	lineEnd := e.lineEnd(end)
	line := e.newline + string(e.data[lineStart:at]) + scalar
	if comma {
		return e.insert(lineEnd, line+",")
	}
	return slices.Concat(e.data[:end], []byte(","), e.data[end:lineEnd], []byte(line), e.data[lineEnd:])
}

// scalarEnd returns the offset behind the scalar at the given offset, or -1
// when it is not written in one of the three simple ways.
func (e editor) scalarEnd(at int, value string) int {
	for _, written := range []string{value, `"` + value + `"`, `'` + value + `'`} {
		if bytes.HasPrefix(e.data[at:], []byte(written)) {
			return at + len(written)
		}
	}
	return -1
}

// firstItem adds an item at the beginning of a list, which is always
// possible, because the place is known exactly.
func (e editor) firstItem(list *yaml.Node, scalar string) []byte {
	at, ok := offset(e.data, position(list))
	switch {
	case !ok:
		return nil
	case list.Style&yaml.FlowStyle == 0:
		return e.insert(at, "- "+scalar+e.newline+indentOf(list))
	case len(list.Content) == 0:
		return e.insert(at+1, scalar)
	}
	return e.insert(at+1, scalar+", ")
}

// belowKey adds a line to a block mapping, right below the line of its key.
func (e editor) belowKey(parent *yaml.Node, key string, mapping *yaml.Node, line string) []byte {
	if mapping.Style&yaml.FlowStyle != 0 {
		return nil
	}
	for i := 0; i+1 < len(parent.Content); i += 2 {
		if parent.Content[i].Value == key {
			return e.blockAfter(parent.Content[i], indentOf(mapping)+line)
		}
	}
	return nil
}

// firstKey adds a key at the beginning of a mapping, which is always
// possible, because the place is known exactly.
func (e editor) firstKey(mapping *yaml.Node, entry string) []byte {
	at, ok := offset(e.data, position(mapping))
	switch {
	case !ok:
		return nil
	case mapping.Style&yaml.FlowStyle == 0:
		return e.insert(at, entry+e.newline+indentOf(mapping))
	case len(mapping.Content) == 0:
		return e.insert(at+1, entry)
	}
	return e.insert(at+1, entry+", ")
}

// append adds a key at the end of the file, behind an empty line.
func (e editor) append(root *yaml.Node, entry string) []byte {
	if root.Style&yaml.FlowStyle != 0 {
		return nil
	}
	end := ""
	if len(e.data) > 0 && e.data[len(e.data)-1] != '\n' {
		end = e.newline
	}
	return e.insert(len(e.data), end+e.newline+indentOf(root)+entry+e.newline)
}
