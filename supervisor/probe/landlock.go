package probe

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// landlockABIs says what each Landlock ABI added (landlock(7), section
// "Versions"). Later ones than the last row add nothing that depguard uses.
var landlockABIs = []struct {
	abi         int
	since, adds string
}{
	{2, "5.19", "renames and links across directories"},
	{3, "6.2", "truncation"},
	{4, "6.7", "TCP ports"},
	{5, "6.10", "device ioctls"},
	{6, "6.12", "signals and abstract sockets"},
	{7, "6.15", "denials in the audit log"},
}

// tryLandlock asks for the ABI, then puts a thread into a domain in which
// nothing may be listed and has it list the root directory.
func tryLandlock(*machine) finding {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return landlockRefused("landlock_create_ruleset(VERSION)", errno)
	}
	found := unknown("the trial thread ended early")
	onThrowawayThread(func() { found = enterDomain(int(abi)) })
	return found
}

// landlockRefused adds the remedy for a Landlock that is built in but not
// started (EOPNOTSUPP, landlock_create_ruleset(2)).
func landlockRefused(call string, err error) finding {
	found := failure(call, err)
	if errors.Is(err, unix.EOPNOTSUPP) {
		found.remedy = "boot with lsm=landlock,… (put landlock before the list in /sys/kernel/security/lsm)"
	}
	return found
}

// enterDomain is the trial itself. Preconditions: on a throwaway thread.
func enterDomain(abi int) finding {
	ruleset, err := createRuleset(&unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_READ_DIR})
	if err != nil {
		return landlockRefused("landlock_create_ruleset", err)
	}
	defer func() { _ = unix.Close(ruleset) }()
	if err := noNewPrivs(); err != nil {
		return failure("prctl(PR_SET_NO_NEW_PRIVS)", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return landlockRefused("landlock_restrict_self", errno)
	}
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
		return no("a domain was entered but did not refuse an open")
	}
	if !errors.Is(err, unix.EACCES) {
		return unknown("the open that a domain must refuse: %v", err)
	}
	return yes("ABI %d%s", abi, landlockLacks(abi))
}

// landlockLacks names what abi can't restrict yet, with the first version of
// Linux that can.
func landlockLacks(abi int) string {
	var lacks []string
	for _, row := range landlockABIs {
		if row.abi > abi {
			lacks = append(lacks, fmt.Sprintf("%s (%s)", row.adds, row.since))
		}
	}
	if lacks == nil {
		return ""
	}
	return ", without: " + strings.Join(lacks, ", ")
}
