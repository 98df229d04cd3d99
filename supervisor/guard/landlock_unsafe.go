package guard

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// rulesetAttr is struct landlock_ruleset_attr (linux/landlock.h). Older ABIs
// have its first members only; the kernel takes a longer structure when what
// it does not know is zero.
type rulesetAttr struct {
	handledFS, handledNet, scoped uint64
}

// pathBeneathAttr is struct landlock_path_beneath_attr, whose twelve bytes are
// packed; the padding that Go adds behind them is not read.
type pathBeneathAttr struct {
	allowed uint64
	parent  int32
}

func abiVersion() (int, unix.Errno) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return int(version), errno
}

func createRuleset(handled, scoped uint64) (int, unix.Errno) {
	attr := rulesetAttr{handledFS: handled, scoped: scoped}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	return int(fd), errno
}

func addRule(ruleset, fd int, allowed uint64) unix.Errno {
	attr := pathBeneathAttr{allowed: allowed, parent: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	return errno
}

func restrictSelf(ruleset int) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0)
	return errno
}
