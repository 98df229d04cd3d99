package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// maxDepth bounds how deeply a file can nest. The language needs three
// levels; the rest is for mistakes to be named for what they are.
const maxDepth = 16

// Parse reads a policy, version 1, from YAML text. file is the name that
// errors show; no file is opened.
//
// Every error is of type [Errors], with all that is wrong in the file: the
// first error of the YAML itself, or else every error of the language. What
// Parse returns says nothing about a machine: whether packages are installed
// and paths exist shows when the policy is compiled.
func Parse(file string, data []byte) (*Policy, error) {
	p, _, err := parse(file, data)
	return p, err
}

// parse is Parse for those who also need the document's root node.
func parse(file string, data []byte) (*Policy, *yaml.Node, error) {
	p := &Policy{
		File:       file,
		Mode:       Audit,
		Undeclared: Hide,
		Packages:   Packages{Manager: "auto", Closure: true},
		Network:    NetworkHost,
		source:     bytes.Clone(data),
	}
	root, problem := load(p.source)
	if problem != nil {
		return nil, nil, Errors{p.Errorf(problem.Pos, problem.Hint, "%s", problem.Message)}
	}
	d := decoder{policy: p}
	d.document(root)
	if err := d.errors(); err != nil {
		return nil, nil, err
	}
	if p.Workspace == nil {
		p.Workspace = []WorkspaceTree{{Path: "."}}
	}
	return p, root, nil
}

// load turns text into the root node of its one document. The error lacks
// file and line.
func load(data []byte) (*yaml.Node, *Error) {
	if problem := checkText(data); problem != nil {
		return nil, problem
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxDepth))))
	if err != nil {
		return nil, &Error{Message: "BUG: the YAML reader can't be set up: " + err.Error()}
	}
	var first, second yaml.Node
	switch err := loader.Load(&first); {
	case errors.Is(err, io.EOF), err == nil && empty(&first):
		return nil, &Error{
			Pos:     Position{1, 1},
			Message: "the file is empty",
			Hint:    `a policy begins with "version: 1"; "depguard policy learn" writes one from a trace`,
		}
	case err != nil:
		return nil, syntaxError(data, err)
	}
	switch err := loader.Load(&second); {
	case errors.Is(err, io.EOF):
		return first.Content[0], nil
	case err != nil:
		return nil, syntaxError(data, err)
	}
	return nil, &Error{
		Pos:     Position{second.Line, second.Column},
		Message: "a second YAML document begins here",
		Hint:    "a policy file holds one document; remove the --- line, or keep the other policy in a file of its own",
	}
}

// empty reports whether a document has nothing in it.
func empty(document *yaml.Node) bool {
	return len(document.Content) != 1 || document.Content[0].ShortTag() == "!!null"
}

// syntaxError turns an error of the YAML library into one of ours.
func syntaxError(data []byte, err error) *Error {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return &Error{Pos: Position{1, 1}, Message: "not valid YAML: " + err.Error()}
	}
	pos := Position{load.Mark.Line, load.Mark.Column}
	context := Position{load.ContextMark.Line, load.ContextMark.Column}
	if atEnd(data, pos) {
		pos = context // show what is open at the end of the file
	}
	if atEnd(data, pos) {
		pos = endOfText(data)
	}
	message := "not valid YAML: " + load.Message
	if load.ContextMsg != "" {
		message += " " + load.ContextMsg
		if context.Line > 0 && context.Line != pos.Line {
			message += fmt.Sprintf(" that begins in line %d", context.Line)
		}
	}
	at, _ := offset(data, pos)
	return &Error{Pos: pos, Message: message, Hint: syntaxHint(load.Message, load.ContextMsg, data[at:])}
}

// atEnd reports whether there is nothing but blanks behind pos, or no such
// place at all.
func atEnd(data []byte, pos Position) bool {
	at, ok := offset(data, pos)
	return pos.Line < 1 || pos.Column < 1 || !ok || len(bytes.TrimSpace(data[at:])) == 0
}

// endOfText returns the place behind the last character that is not blank.
func endOfText(data []byte) Position {
	text := bytes.TrimRight(bytes.TrimPrefix(data, []byte(byteOrderMark)), " \t\r\n")
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	return Position{bytes.Count(text, []byte("\n")) + 1, utf8.RuneCount(last) + 1}
}

// syntaxHint returns advice for the mistakes that policies invite: globs look
// like YAML aliases, and tabs like blanks.
func syntaxHint(message, context string, rest []byte) string {
	switch {
	case strings.Contains(message, "max depth"):
		return "a policy is a mapping with lists of names in it; nothing in it nests deeper than that"
	case len(bytes.TrimSpace(rest)) == 0 && strings.Contains(context, "flow"):
		return "is a closing ] or } missing?"
	case len(rest) == 0:
		return ""
	case bytes.ContainsRune([]byte("*&!%@`"), rune(rest[0])):
		return fmt.Sprintf("a value that begins with %c has to stand in quotes", rest[0])
	case rest[0] == '\t':
		return "indent with blanks; YAML allows no tabs there"
	case strings.Contains(message, "mapping values are not allowed"):
		return `a value with ": " in it has to stand in quotes; keys of one mapping are indented alike`
	case rest[0] == '[', rest[0] == '{':
		return fmt.Sprintf("is the closing %c missing?", map[byte]rune{'[': ']', '{': '}'}[rest[0]])
	case rest[0] == '"', rest[0] == '\'':
		return "is the closing quote missing?"
	}
	return ""
}
