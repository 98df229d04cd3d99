package probe

import (
	"context"
	"sync"
)

// table is every feature in the order in which the doctor prints them: first
// what seeing needs, then what enforcing needs, then what makes either better.
// Versions are those in which mainline Linux got the feature; no trial reads
// them.
var table = []probe{
	{
		name:        "procfs",
		needed:      []string{Audit, Enforce},
		consequence: "depguard can't start: it runs itself again through /proc/self/exe and finds the build's files through /proc/PID",
		remedy:      "mount it: mount -t proc proc /proc",
		try:         tryProcfs,
	},
	{
		name:        "seccomp filter",
		since:       "3.5",
		needed:      []string{Audit, Enforce},
		consequence: "no call of the build can be seen or refused",
		remedy:      "a kernel with CONFIG_SECCOMP_FILTER=y; in a container, a profile that allows seccomp(2)",
		try:         tryFilter,
	},
	{
		name:        "seccomp user notification",
		since:       "5.0",
		needed:      []string{Audit, Enforce},
		consequence: "opens and execs can't be recorded, judged or explained",
		remedy:      "Linux 5.5 or later with CONFIG_SECCOMP_FILTER=y; in a container, a profile that allows seccomp(2)",
		try:         func(m *machine) finding { return m.listener().notification() },
	},
	{
		name:        "notification: continue",
		since:       "5.5",
		needed:      []string{Audit, Enforce},
		consequence: "an allowed call can't be handed back to the kernel",
		remedy:      "Linux 5.5 or later",
		try:         func(m *machine) finding { return m.listener().carryOn() },
	},
	{
		name:        "notification: wait killable",
		since:       "5.19",
		consequence: "a signal can interrupt a call while depguard looks at it, and the call is seen twice",
		remedy:      "Linux 5.19 or later",
		try:         func(m *machine) finding { return m.listener().waitKillable() },
	},
	{
		name:        "notification: synchronous wake-up",
		since:       "6.6",
		consequence: "each observed open costs up to four times as much",
		remedy:      "Linux 6.6 or later",
		try:         func(m *machine) finding { return m.listener().syncWakeUp() },
	},
	{
		name:        "reading a child's memory",
		since:       "3.2",
		needed:      []string{Audit, Enforce},
		consequence: "the path that a call names can't be read",
		remedy:      "a kernel with CONFIG_CROSS_MEMORY_ATTACH=y, and no policy (Yama, AppArmor, seccomp) against reading the memory of one's own children",
		try:         tryMemory,
	},
	{
		name:        "openat2",
		since:       "5.6",
		needed:      []string{Audit, Enforce},
		consequence: "a name can't be looked up under the build's own root without a race",
		remedy:      "Linux 5.6 or later; in a container, a profile that allows openat2(2)",
		try:         tryOpenat2,
	},
	{
		name:        "birth time of files here",
		since:       "4.11",
		consequence: "a file that reuses the inode number of a deleted one can be taken for it; only the generation number tells them apart, where there is one",
		remedy:      "a file system that keeps birth times (ext4 with 256-byte inodes, xfs v5, btrfs, tmpfs since 6.6)",
		try:         tryBirthTime,
	},
	{
		name:        "landlock",
		since:       "5.13",
		needed:      []string{Enforce},
		consequence: "enforce can't start without --guard=none: nothing holds the verdict against a hostile build",
		remedy:      "Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK=y; in a container, a profile that allows landlock_*(2)",
		try:         tryLandlock,
	},
	{
		name:        "user namespace",
		since:       "3.8",
		needed:      []string{Enforce},
		consequence: "enforce can't start, and audit can't --isolate: there is no jail without one",
		remedy:      "a kernel with CONFIG_USER_NS=y; in a container or chroot, run depguard outside it or allow clone(2) with CLONE_NEWUSER",
		try:         func(m *machine) finding { return m.jail().user() },
	},
	{
		name:        "pid namespace",
		since:       "3.8",
		needed:      []string{Enforce},
		consequence: "enforce can't start: its jail must end with depguard, down to the last process",
		remedy:      "a kernel with CONFIG_PID_NS=y and user.max_pid_namespaces above 0",
		try:         func(m *machine) finding { return m.jail().pid() },
	},
	{
		name:        "mount namespace",
		since:       "3.8",
		needed:      []string{Enforce},
		consequence: "enforce can't start: the host can't be made read-only for the build",
		remedy:      "user.max_mnt_namespaces above 0, and no policy (AppArmor, SELinux, seccomp) that forbids mounting in a user namespace",
		try:         func(m *machine) finding { return m.jail().step("private mounts", m.jail().inside.Mount) },
	},
	{
		name:        "ipc and uts namespaces",
		since:       "3.8",
		needed:      []string{Enforce},
		consequence: "enforce can't start: the build would share message queues and the host's name",
		remedy:      "a kernel with CONFIG_IPC_NS=y and CONFIG_UTS_NS=y, and user.max_ipc_namespaces and user.max_uts_namespaces above 0",
		try:         func(m *machine) finding { return m.jail().step("own queues and host name", m.jail().inside.IPCUTS) },
	},
	{
		name:        "network namespace",
		since:       "3.8",
		consequence: "network: none is refused; only the host's network can be had",
		remedy:      "a kernel with CONFIG_NET_NS=y and user.max_net_namespaces above 0",
		try:         func(m *machine) finding { return m.jail().step("own loopback, up", m.jail().inside.Network) },
	},
	{
		name:        "fresh procfs in the jail",
		since:       "3.8",
		needed:      []string{Enforce},
		consequence: "enforce can't start: the build would see the host's processes",
		remedy:      "in a container whose /proc is masked or read-only in part, unmask it (docker run --security-opt systempaths=unconfined, podman run --security-opt unmask=ALL)",
		try:         func(m *machine) finding { return m.jail().proc() },
	},
	{
		name:        "mount_setattr",
		since:       "5.12",
		needed:      []string{Enforce},
		consequence: "enforce can't start: the host's mounts can't be made read-only as one",
		remedy:      "Linux 5.12 or later; in a container, a profile that allows mount_setattr(2)",
		try:         func(m *machine) finding { return m.jail().step("a whole tree read-only", m.jail().inside.ReadOnly) },
	},
	{
		name:        "overlay with whiteouts in the jail",
		since:       "5.11",
		consequence: "nothing today: files are hidden from opens and execs, and stay in listings, with or without it",
		remedy:      "none is needed; otherwise Linux 5.11 or later with CONFIG_OVERLAY_FS (modprobe overlay)",
		try:         func(m *machine) finding { return m.jail().step("a hidden file is absent", m.jail().inside.Overlay) },
	},
	{
		name:        "cgroup v2",
		since:       "4.5",
		consequence: "nothing today: the build's processes are known by ancestry, and no limits are set",
		remedy:      "none is needed; otherwise, as an ordinary user, systemd-run --user --scope -p Delegate=yes -- depguard …",
		try:         tryCgroup,
	},
	{
		name:        "pseudo-terminal",
		consequence: "a build that is run from a terminal can't have one of its own",
		remedy:      "mount -t devpts devpts /dev/pts, and make /dev/ptmx accessible (mode 0666)",
		try:         tryTerminal,
	},
	{
		name:        "dpkg database",
		consequence: "files have no packages here, and a policy can't name any: it has to list paths",
		remedy:      "none is needed on a system without dpkg",
		try:         tryDpkg,
	},
	{
		name:        "BTF of the kernel",
		since:       "5.4",
		needed:      []string{Witness},
		consequence: "tracing programs can't be fitted to this kernel: there is no witness beside the notifications",
		remedy:      "a kernel with CONFIG_DEBUG_INFO_BTF=y, and sysfs mounted on /sys",
		try:         tryBTF,
	},
	{
		name:        "bpf in the LSM list",
		since:       "5.7",
		consequence: "nothing today: the witness uses tracepoints",
		remedy:      "none is needed; otherwise boot with lsm=…,bpf (the list in /sys/kernel/security/lsm, and bpf at its end); the kernel needs CONFIG_BPF_LSM=y",
		try:         tryLSM,
	},
}

// probe is one row of the table: a feature and how to try it.
type probe struct {
	name, since, consequence, remedy string
	needed                           []string
	try                              func(*machine) finding
}

// finding is what one trial found out. Its remedy, when there is one, is more
// exact than the table's.
type finding struct {
	outcome        Outcome
	detail, remedy string
}

// run tries the feature. Consequence and remedy are left out when it is there.
func (p probe) run(m *machine) Feature {
	f := Feature{Name: p.name, Since: p.since, Needed: append([]string{}, p.needed...)}
	found := finding{detail: "not tried: interrupted"}
	if m.ctx.Err() == nil {
		found = p.try(m)
	}
	f.Outcome, f.Detail = found.outcome, found.detail
	if f.Outcome != Yes {
		f.Consequence, f.Remedy = p.consequence, p.remedy
		if found.remedy != "" {
			f.Remedy = found.remedy
		}
	}
	return f
}

// machine carries out the trials that several features share, once each.
type machine struct {
	ctx      context.Context
	listener func() listenerReport
	jail     func() jailReport
}

func newMachine(ctx context.Context) *machine {
	return &machine{
		ctx:      ctx,
		listener: sync.OnceValue(func() listenerReport { return tryListener(ctx) }),
		jail:     sync.OnceValue(func() jailReport { return tryJail(ctx) }),
	}
}
