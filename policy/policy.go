// Package policy is the language in which a person says what a build may use:
// parse, check, explain. It is pure: it reads no file and makes no system
// call, and parsing is deterministic.
//
// Text becomes a [Policy] in three steps, each of which refuses what the next
// could not bear: text.go checks size, encoding and characters, so that every
// line has one number; parse.go has the YAML library make nodes, no deeper
// than the language needs, each with its line and column; decode.go walks the
// nodes against the keys of version 1, with no aliases and no guesses, and
// goes on after an error, so that [Errors] has everything that is wrong.
// name.go holds package names, paths, globs and accesses to their syntax.
//
// Whether packages are installed and paths exist is asked later, where there
// is a machine to ask (policy/allowlist); [Policy.Errorf] makes those errors
// look like the ones of this package.
//
// Text is also written here: by [Learn] from what a build did, by [AddDepend]
// into a file that a person wrote, by [Policy.Format] in one form. All of it
// can be parsed again, and fuzz tests hold it to that.
package policy

// Mode says what happens to an undeclared access.
type Mode string

// The two modes. The zero value of a parsed policy is Audit.
const (
	Audit   Mode = "audit"   // recorded
	Enforce Mode = "enforce" // refused
)

// Undeclared says how enforce mode refuses an undeclared file.
type Undeclared string

// The two ways to refuse.
const (
	Hide Undeclared = "hide" // ENOENT, as on a machine where the package is not installed
	Deny Undeclared = "deny" // EACCES
)

// Network says which network the jail has.
type Network string

// The two networks.
const (
	NetworkHost Network = "host"
	NetworkNone Network = "none" // nothing but a loopback of the jail's own
)

// Position is a place in a policy file. Line and Column count from 1; the
// zero Position is no place.
type Position struct{ Line, Column int }

// Policy is a parsed policy file.
type Policy struct {
	File       string // name for messages
	Mode       Mode
	Undeclared Undeclared
	Packages   Packages
	Files      []FileRule
	Workspace  []WorkspaceTree
	Network    Network

	source []byte // for messages that show the offending line
}

// Packages says which packages' files a build may use.
type Packages struct {
	Manager string        // "auto" or "dpkg"
	Depend  []PackageName // what this build declares
	System  []PackageName // the distribution's @system: always with their closure, and with all essential packages
	Closure bool          // what Depend depends on, too
}

// PackageName is a package as a policy names it: "zlib1g-dev" or "libc6:i386".
type PackageName struct {
	Name string
	Pos  Position
}

// FileRule grants access to files by name, or to a named set of files.
type FileRule struct {
	Path   string // absolute path, ~/path, or glob with ** (doublestar); empty when Set is given
	Set    string // "base"; see [Base]
	Access Access // the empty set denies, and wins over everything; it has no meaning when Set is given
	Pos    Position
}

// WorkspaceTree is a tree that the build reads, writes and executes.
type WorkspaceTree struct {
	Path string // relative paths are relative to the policy file's directory
	Pos  Position
}
