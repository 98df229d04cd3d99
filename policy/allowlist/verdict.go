package allowlist

// Action is what a verdict does to the call.
type Action uint8

// The three verdicts. In audit mode an undeclared access is recorded as
// Deny or Hide would be, but the call goes ahead.
const (
	Allow Action = iota
	Deny         // EACCES
	Hide         // ENOENT, as on a machine where the package is not installed
)

// String returns the word that traces and reports use.
func (a Action) String() string {
	switch a {
	case Allow:
		return "allow"
	case Deny:
		return "deny"
	case Hide:
		return "hide"
	}
	return "unknown"
}
