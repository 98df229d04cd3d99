/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs and the Go side share. Go's copies (record in decode.go,
 * Ledger's counters in witness.go) are compared with these through BTF by
 * TestLayout.
 */
#ifndef DEPGUARD_RECORD_H
#define DEPGUARD_RECORD_H

enum kind {
	KIND_OPEN = 1,
	KIND_HANDLE,
	KIND_EXEC,
	KIND_LOADER,
	KIND_FORK,
	KIND_EXIT,
};

enum abi {
	ABI_NATIVE,
	ABI_COMPAT32,
	ABI_X32,
};

enum note {
	NOTE_PATH_UNREADABLE = 1 << 0,
	NOTE_PATH_TRUNCATED = 1 << 1,
	NOTE_FILE_GONE = 1 << 2,
};

/* One event. Its strings follow it without a NUL: path_len bytes, then
 * interp_len bytes. What stands behind them in the ring is undefined. */
struct record {
	__u64 time; /* ns, CLOCK_BOOTTIME */
	__u64 ino;
	__u32 dev; /* super_block.s_dev */
	__u32 generation;
	__u32 pid; /* thread group, in the supervisor's pid namespace */
	__u32 tid;
	__u32 parent; /* KIND_FORK */
	__s32 dirfd;
	__u32 flags; /* file.f_flags */
	__u32 fmode; /* file.f_mode */
	__s32 exit_code; /* KIND_EXIT: as wait(2) reports it */
	__u16 mode; /* inode.i_mode */
	__u16 path_len;
	__u16 interp_len;
	enum kind kind : 8;
	enum abi abi : 8;
	enum note notes;
};

/* Counters of one run. Only ever added to, atomically. */
struct counters {
	__u64 reserved; /* records submitted to the ring */
	__u64 dropped; /* events that found the ring full */
	__u64 unreadable; /* paths that could not be read */
	__u64 truncated; /* paths cut because the ring was nearly full */
	__u64 gone; /* descriptors closed before they were looked at */
	__u64 lost_marks; /* tasks that could not be marked */
	__u64 lost_loaders; /* ELF interpreters that could not be identified */
	__u64 handles; /* open_by_handle_at calls that succeeded */
	__u64 io_urings; /* io_uring_setup calls that succeeded */
};

/* A task whose events are reported, with its ids as the supervisor sees
 * them. User space marks the first one, every child inherits. */
struct mark {
	__u32 tgid;
	__u32 tid;
	__u32 exited; /* the thread group's exit was reported; leader's mark only */
};

#endif
