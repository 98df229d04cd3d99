package report

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/depguard/depguard/policy"
)

// Style says how a summary is printed. The zero value is for a file: no
// colours, 80 columns, long lists folded.
type Style struct {
	Color bool
	Width int  // columns to which command lines are cut; 0 for 80. Paths never are.
	Full  bool // fold nothing
}

// How much of a list is printed before the rest is folded into one line: the
// whole summary of an ordinary build fits a screen.
const (
	shownPackages = 12
	shownPaths    = 8
	shownRefusals = 10
)

// The colours, as SGR sequences (ECMA-48, 8.3.117).
const (
	bold  = "\x1b[1m"
	red   = "\x1b[1;31m"
	dim   = "\x1b[2m"
	reset = "\x1b[0m"
)

// WriteText prints s for people: what was run first, then what deserves
// attention most. Its lines begin with "depguard: " or two blanks.
func (s Summary) WriteText(w io.Writer, style Style) error {
	if style.Width <= 0 {
		style.Width = 80
	}
	p := &printer{Writer: bufio.NewWriter(w), Style: style}
	p.head(&s)
	p.incomplete(&s)
	p.bypassed(&s)
	p.refusals(&s)
	if s.Mode != policy.Enforce || style.Full {
		p.packages(&s)
		p.unowned(&s)
	}
	p.uses("written outside the workspace", "files", s.Writes)
	p.network(&s)
	return p.Flush()
}

// printer prints a summary; its Flush reports the first error.
type printer struct {
	*bufio.Writer
	Style
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p, format+"\n", args...) // Flush reports the error
}

// title begins a section.
func (p *printer) title(color, format string, args ...any) {
	p.line("%s", p.paint(color, "depguard: "+fmt.Sprintf(format, args...)))
}

func (p *printer) paint(color, text string) string {
	if !p.Color {
		return text
	}
	return color + text + reset
}

// folded prints what was left out of a list of n, of which shown are there.
func (p *printer) folded(n, shown int, what string) {
	if n > shown {
		p.line("  %s", p.paint(dim, fmt.Sprintf("… and %s more %s: --full prints all, --report FILE writes them as JSON", thousands(n-shown), what)))
	}
}

// limit returns how many of n elements to print, at most most of them. One
// line that says "1 more" could as well be the element.
func (p *printer) limit(n, most int) int {
	if p.Full || n <= most+1 {
		return n
	}
	return most
}

// head prints what was run and with which mechanisms.
func (p *printer) head(s *Summary) {
	ending := fmt.Sprintf("ended with status %d after %s", s.Status, duration(s.Duration))
	if !s.Ended {
		ending = "has not ended, or depguard was killed"
	}
	facts := fmt.Sprintf(" %s: %s, %s, %s", ending, s.Mode, plural(s.Files, "file"), plural(s.Processes, "process"))
	command := cut(commandLine(s.Command), max(p.Width-len("depguard: ")-len(facts), 24))
	p.title(bold, "%s%s", command, facts)
	var on, off []string
	for _, m := range s.Mechanisms {
		text := Escape(m.Name)
		if m.Detail != "" {
			text += " (" + Escape(m.Detail) + ")"
		}
		if m.Active {
			on = append(on, text)
		} else {
			off = append(off, text)
		}
	}
	if len(on) > 0 {
		p.line("  in force      %s", strings.Join(on, ", "))
	}
	if len(off) > 0 {
		p.line("  not in force  %s", strings.Join(off, ", "))
	}
}

// incomplete says what the trace lacks.
func (p *printer) incomplete(s *Summary) {
	if s.Complete {
		return
	}
	var lost []string
	if !s.Ended {
		lost = append(lost, "the end of the run is not recorded")
	}
	for _, l := range s.Losses {
		lost = append(lost, fmt.Sprintf("%s (%s)", l.What, thousands(l.Count)))
	}
	p.title(red, "INCOMPLETE: %s", strings.Join(lost, "; "))
}

// bypassed prints what the supervisor should have seen and did not.
func (p *printer) bypassed(s *Summary) {
	if len(s.Bypassed) == 0 {
		return
	}
	p.title(red, "bypassed the supervisor, seen by the kernel's witness alone: %s", plural(len(s.Bypassed), "file"))
	p.list(s.Bypassed)
}

// packages prints what was read of each package.
func (p *printer) packages(s *Summary) {
	if len(s.Packages) == 0 {
		return
	}
	files := 0
	for _, pkg := range s.Packages {
		files += len(pkg.Files)
	}
	p.title(bold, "read by package: %s of %s", plural(files, "file"), plural(len(s.Packages), "package"))
	shown := p.mostUsed(s.Packages)
	wide, version := 0, 0
	for _, pkg := range shown {
		wide, version = max(wide, len(Escape(pkg.Name))), max(version, len(Escape(pkg.Version)))
	}
	for _, pkg := range shown {
		p.line("  %-*s  %-*s  %7s  %s", wide, Escape(pkg.Name), version, Escape(pkg.Version), plural(len(pkg.Files), "file"), plural(pkg.Reads, "read"))
		for _, f := range pkg.Files {
			if p.Full {
				p.line("    %s", Escape(f.Path))
			}
		}
	}
	p.folded(len(s.Packages), len(shown), "packages")
}

// mostUsed returns the packages to print, by name: those with the most files.
func (p *printer) mostUsed(packages []Package) []Package {
	shown := slices.Clone(packages)
	slices.SortStableFunc(shown, func(a, b Package) int { return cmp.Compare(len(b.Files), len(a.Files)) })
	shown = shown[:p.limit(len(shown), shownPackages)]
	slices.SortFunc(shown, func(a, b Package) int { return cmp.Compare(a.Name, b.Name) })
	return shown
}

// unowned prints the files of no package, by directory when they are many.
func (p *printer) unowned(s *Summary) {
	if len(s.Unowned) == 0 {
		return
	}
	p.title(bold, "read, owned by no package, outside the workspace: %s", plural(len(s.Unowned), "file"))
	if p.Full || len(s.Unowned) <= shownPaths {
		p.list(s.Unowned)
		return
	}
	files := map[string]int{}
	var dirs []string
	for _, u := range s.Unowned {
		dir := path.Dir(u.Path)
		if files[dir]++; files[dir] == 1 {
			dirs = append(dirs, dir)
		}
	}
	n := p.limit(len(dirs), shownPaths)
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(files[b], files[a]) })
	for _, dir := range slices.Sorted(slices.Values(dirs[:n])) {
		p.line("  %s  %s", Escape(strings.TrimSuffix(dir, "/")+"/"), plural(files[dir], "file"))
	}
	p.folded(len(dirs), n, "directories")
}

// uses prints a section about files, if there are any.
func (p *printer) uses(title, what string, list []Use) {
	if len(list) == 0 {
		return
	}
	p.title(bold, "%s: %s", title, plural(len(list), strings.TrimSuffix(what, "s")))
	p.list(list)
}

// list prints files with who used them.
func (p *printer) list(list []Use) {
	n := p.limit(len(list), shownPaths)
	for _, u := range list[:n] {
		file := Escape(u.Path)
		p.line("  %s  %s", file, p.who(u.By, len(file)+len("  by ")+2, "by "))
	}
	p.folded(len(list), n, "files")
}

// network prints the addresses that were connected to.
func (p *printer) network(s *Summary) {
	if len(s.Connects) == 0 {
		return
	}
	p.title(bold, "connected to %s", plural(len(s.Connects), "address"))
	n := p.limit(len(s.Connects), shownPaths)
	for _, c := range s.Connects[:n] {
		address := Escape(c.Address)
		p.line("  %s  %s", address, p.who(c.By, len(address)+len("  by ")+2, "by "))
	}
	p.folded(len(s.Connects), n, "addresses")
}

// who returns prefix, a command line cut to what a line has left beside taken
// columns, and the pid.
func (p *printer) who(by Process, taken int, prefix string) string {
	args := slices.Clone(by.Args)
	if len(args) > 0 {
		args[0] = path.Base(args[0]) // which of two cc1 it was, the file list tells
	}
	pid := fmt.Sprintf(" (pid %d)", by.PID)
	return prefix + cut(commandLine(args), max(p.Width-taken-len(pid), 16)) + pid
}

// refusals prints what the policy does not declare, each in the five-part form.
func (p *printer) refusals(s *Summary) {
	edit := s.edit()
	direct := slices.IndexFunc(s.Refusals, func(r Refusal) bool { return r.Listed })
	if direct <= 0 || p.Full { // nothing is the cause of the listing's either
		direct = len(s.Refusals)
	}
	n := p.limit(direct, shownRefusals)
	for i := range s.Refusals[:n] {
		p.refusal(&s.Refusals[i], cmp.Or(Escape(path.Base(s.Policy)), "the policy"), edit)
	}
	p.folded(direct, n, "undeclared files and packages")
	p.listed(s.Refusals[direct:])
}

// listed sums up what was refused to processes that had come upon it in a
// listing.
func (p *printer) listed(refusals []Refusal) {
	if len(refusals) == 0 {
		return
	}
	first := &refusals[0]
	p.title(red, "undeclared, too: files of %s that a listing led to: --full prints all", plural(len(refusals), "package"))
	p.line("  %-11s %s", "listed by", p.who(first.By, 14, ""))
	p.line("  %-11s %s", "in", Escape(path.Dir(first.File.Path)))
}

// edit is the command that adds packages to the run's policy, from the directory
// in which it ran.
func (s *Summary) edit() string {
	const add, fallback = "depguard policy add", "depguard.yaml"
	file := s.Policy
	if rest, ok := strings.CutPrefix(file, s.Dir.Path+"/"); ok {
		file = rest
	}
	if file == fallback || file == "" {
		return add
	}
	return add + " -f " + commandLine([]string{file})
}

// verbs says for each operation what was done to the file.
var verbs = map[string]string{
	policy.Read.String(): "opened by", policy.Exec.String(): "executed by", policy.List.String(): "listed by",
	policy.Write.String(): "written by", "create": "created by",
}

func (p *printer) refusal(r *Refusal, policyFile, edit string) {
	what := Escape(r.File.Path)
	if asked := r.shown(); asked != "" {
		what = Escape(asked) + " → " + what
	}
	kind := "undeclared"
	if r.Rule != "" {
		kind = "denied"
	}
	p.title(red, "%s: %s", kind, what)
	p.line("  %-11s %s", cmp.Or(verbs[r.Op], "opened by"), p.who(r.By, 14, ""))
	if r.Rule != "" {
		p.line("  %-11s %s", "denied by", Escape(r.Rule))
	}
	p.membership(r)
	switch {
	case r.Rule != "":
		p.line("  %-11s change that rule in %s", "to allow", policyFile)
	case len(r.Declare) > 0:
		p.line("  %-11s %s %-16s (packages.depend, %s)", "to declare", edit, Escape(strings.Join(r.Declare, " ")), policyFile)
	default:
		p.line("  %-11s add {path: %s, access: %s} to files in %s", "to declare", scalar(r.File.Path), r.Access, policyFile)
	}
	p.more(r)
}

// membership says whose the file is.
func (p *printer) membership(r *Refusal) {
	names := make([]string, len(r.Owners))
	for i, o := range r.Owners {
		names[i] = strings.TrimSpace(Escape(o.Name) + " " + Escape(o.Version))
	}
	switch {
	case len(names) == 0:
		p.line("  %-11s no package", "member of")
	case r.Rule != "":
		p.line("  %-11s %s", "member of", strings.Join(names, ", "))
	case len(r.Declare) == 0:
		p.line("  %-11s %s; a package gives no right to write", "member of", strings.Join(names, ", "))
	case len(names) == 1:
		p.line("  %-11s %s, which is not declared", "member of", names[0])
	default:
		p.line("  %-11s %s, none of which is declared for it", "member of", strings.Join(names, ", "))
	}
}

// more names the other files that the same declaration covers.
func (p *printer) more(r *Refusal) {
	if len(r.More) == 0 {
		return
	}
	p.line("  and %s of it", strings.Replace(plural(len(r.More), "file"), " ", " more ", 1))
	for _, n := range r.More {
		if p.Full {
			p.line("    %s", Escape(n.Path))
		}
	}
}

// scalar returns the path of a rule for file as YAML has it in a flow mapping:
// plain when it has nothing but harmless characters, else in double quotes,
// whose escapes are Go's. Characters that mean something in a glob are escaped
// for it. A name that is not UTF-8 cannot be written in YAML; then it is the
// tree of the nearest directory above whose name can.
func scalar(file string) string {
	tree := ""
	for !utf8.ValidString(file) {
		file, tree = path.Dir(file), "/**"
	}
	if strings.IndexFunc(file, needsQuotes) < 0 {
		return file + tree
	}
	return strconv.QuoteToGraphic(policy.EscapeGlob(file) + tree)
}

func needsQuotes(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._+-", r)
}

// plural returns a count with its noun.
func plural[N int | uint64](n N, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "ss"):
		noun += "es"
	case strings.HasSuffix(noun, "y"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return thousands(n) + " " + noun
}

// thousands returns n with a comma before every three digits.
func thousands[N int | uint64](n N) string {
	digits := strconv.FormatUint(uint64(n), 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// duration returns d with the digits that matter.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
