// Package guard makes a verdict hold in the kernel: the allowlist as a Landlock
// ruleset (landlock(7)). Its rules are bound to inodes, so they hold against
// every race on a path and by every door: exec, interpreters, the loader,
// io_uring, file handles, the magic links of /proc.
//
// The supervisor makes the ruleset and adds its rules, with the same O_PATH
// descriptors from which the allowlist's entries were taken. The jail's child
// receives the ruleset as a descriptor and restricts itself with it, just
// before the filter and exec.
//
// What Landlock does not hold: stat, chdir, readlink and other uses of
// metadata, the listing of directories (a rule on a directory would hold for
// all below it), and Unix sockets by path.
package guard

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/depguard/depguard/policy"
)

// ErrUnsupported says that this kernel has no Landlock, or has it switched off.
var ErrUnsupported = errors.New("landlock is not available")

// abis is what each Landlock ABI added to what this package uses
// (landlock(7), "Landlock ABI versions").
var abis = []struct {
	Version int
	Since   string // kernel
	FS      uint64
	Scoped  uint64
	Lacks   string // what an older ABI cannot hold
}{
	{1, "5.13", unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM, 0, ""},
	{2, "5.19", unix.LANDLOCK_ACCESS_FS_REFER, 0, "renaming and linking from one directory to another is refused in the whole jail"},
	{3, "6.2", unix.LANDLOCK_ACCESS_FS_TRUNCATE, 0, "truncate(2) is held by the read-only mounts alone"},
	{6, "6.12", 0, unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL, "abstract Unix sockets of the host can be reached with --net host"},
}

// Rights of a directory rule that a rule on a single file may not have.
const fileRights = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
	unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE

const makeRights = unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
	unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
	unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER

// Ruleset is a Landlock ruleset that is being filled. It owns its descriptor.
type Ruleset struct {
	fd      int
	version int
	handled uint64
	rules   int
}

// ABI returns the Landlock ABI of this kernel. The error is ErrUnsupported
// with its reason.
func ABI() (int, error) {
	version, errno := abiVersion()
	switch errno {
	case 0:
		return version, nil
	case unix.ENOSYS:
		return 0, fmt.Errorf("%w: this kernel was built without it (Linux 5.13, CONFIG_SECURITY_LANDLOCK)", ErrUnsupported)
	case unix.EOPNOTSUPP:
		return 0, fmt.Errorf("%w: it is switched off at boot (add landlock to the kernel's lsm= parameter)", ErrUnsupported)
	}
	return 0, fmt.Errorf("%w: landlock_create_ruleset: %w", ErrUnsupported, errno)
}

// Lacks names what the given ABI cannot hold, one sentence each.
func Lacks(version int) []string {
	var lacks []string
	for _, a := range abis {
		if version < a.Version {
			lacks = append(lacks, fmt.Sprintf("%s (Landlock ABI %d, Linux %s)", a.Lacks, a.Version, a.Since))
		}
	}
	return lacks
}

// New makes an empty ruleset, which forbids reading, writing and executing
// every file.
func New() (*Ruleset, error) {
	version, err := ABI()
	if err != nil {
		return nil, err
	}
	r := &Ruleset{version: version}
	var scoped uint64
	for _, a := range abis {
		if version >= a.Version {
			r.handled |= a.FS
			scoped |= a.Scoped
		}
	}
	fd, errno := createRuleset(r.handled, scoped)
	if errno != 0 {
		return nil, fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	r.fd = fd
	return r, nil
}

// Allow adds a rule: the file (or with tree everything below the directory) of
// the O_PATH descriptor fd may be used as access says. The right to list a
// directory is not held, and adds nothing.
func (r *Ruleset) Allow(fd int, access policy.Access, tree bool) error {
	rights := r.rights(access, tree)
	if rights == 0 {
		return nil
	}
	if errno := addRule(r.fd, fd, rights); errno != 0 {
		return fmt.Errorf("landlock_add_rule: %w", errno)
	}
	r.rules++
	return nil
}

func (r *Ruleset) rights(access policy.Access, tree bool) uint64 {
	var rights uint64
	if access.Has(policy.Read) {
		rights |= unix.LANDLOCK_ACCESS_FS_READ_FILE
	}
	if access.Has(policy.Exec) {
		// The kernel opens what it executes for reading, too (fs/exec.c,
		// do_open_execat).
		rights |= unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	}
	if access.Has(policy.Write) {
		rights |= unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
		if tree {
			rights |= makeRights
		}
	}
	if !tree {
		rights &= fileRights
	}
	return rights & r.handled
}

// FD returns the descriptor, for the process that restricts itself.
func (r *Ruleset) FD() int { return r.fd }

// Version returns the ABI that the ruleset uses.
func (r *Ruleset) Version() int { return r.version }

// Rules returns how many rules were added.
func (r *Ruleset) Rules() int { return r.rules }

// Close closes the descriptor. A domain made from the ruleset stays in force.
func (r *Ruleset) Close() error { return unix.Close(r.fd) }

// Restrict puts the calling thread, and all that it will fork or execute, under
// the ruleset of descriptor fd, for good. It needs no_new_privs (prctl(2)).
func Restrict(fd int) error {
	if errno := restrictSelf(fd); errno != 0 {
		return fmt.Errorf("landlock_restrict_self: %w", errno)
	}
	return nil
}
