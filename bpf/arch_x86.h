/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Everything that depends on the processor: which system call has just
 * returned, in which of the three ABIs of an x86-64 kernel, and where its
 * arguments are. Another architecture is another file with the same
 * decode_call().
 */
#ifndef DEPGUARD_ARCH_X86_H
#define DEPGUARD_ARCH_X86_H

#include "kernel.h"
#include "record.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pt_regs {
	unsigned long bx;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#pragma clang attribute pop

#define AT_FDCWD -100

/* arch/x86/include/asm/thread_info.h: set while a 32-bit call runs, whatever
 * the mode of the code that made it (int 0x80 works in 64-bit code, too). */
#define TS_COMPAT 0x0002
/* arch/x86/include/uapi/asm/unistd.h */
#define X32_SYSCALL_BIT 0x40000000

enum call_kind {
	CALL_OTHER,
	CALL_OPEN,
	CALL_HANDLE,
	CALL_IO_URING,
};

struct call {
	enum call_kind kind;
	enum abi abi;
	__s32 dirfd;
	const char *path;
};

/* Numbers: arch/x86/entry/syscalls/syscall_32.tbl. The registers of a 32-bit
 * call count in their lower halves only. */
static __always_inline void decode_compat(struct pt_regs *regs, struct call *call)
{
	call->abi = ABI_COMPAT32;
	switch ((__u32)regs->orig_ax) {
	case 5: /* open */
	case 8: /* creat */
		call->kind = CALL_OPEN;
		call->dirfd = AT_FDCWD;
		call->path = (const char *)(unsigned long)(__u32)regs->bx;
		return;
	case 295: /* openat */
	case 437: /* openat2 */
		call->kind = CALL_OPEN;
		call->dirfd = (__s32)regs->bx;
		call->path = (const char *)(unsigned long)(__u32)regs->cx;
		return;
	case 342: /* open_by_handle_at */
		call->kind = CALL_HANDLE;
		call->dirfd = (__s32)regs->bx;
		return;
	case 425: /* io_uring_setup */
		call->kind = CALL_IO_URING;
		return;
	}
}

/* Numbers: arch/x86/entry/syscalls/syscall_64.tbl. Since Linux 5.14 only the
 * lower half of rax counts; before, a call with anything in the upper half
 * failed. x32 has the same numbers for these calls, and 64-bit registers. */
static __always_inline void decode_64(struct pt_regs *regs, struct call *call)
{
	__u32 nr = (__u32)regs->orig_ax;

	if (nr & X32_SYSCALL_BIT) {
		/* orig_ax is -1 when no call is in progress. */
		if (nr == (__u32)-1)
			return;
		nr &= ~X32_SYSCALL_BIT;
		call->abi = ABI_X32;
	}
	switch (nr) {
	case 2: /* open */
	case 85: /* creat */
		call->kind = CALL_OPEN;
		call->dirfd = AT_FDCWD;
		call->path = (const char *)regs->di;
		return;
	case 257: /* openat */
	case 437: /* openat2 */
		call->kind = CALL_OPEN;
		call->dirfd = (__s32)regs->di;
		call->path = (const char *)regs->si;
		return;
	case 304: /* open_by_handle_at */
		call->kind = CALL_HANDLE;
		call->dirfd = (__s32)regs->di;
		return;
	case 425: /* io_uring_setup */
		call->kind = CALL_IO_URING;
		return;
	}
}

/* Preconditions: *call is zero; task is the task that returns from the call. */
static __always_inline void decode_call(struct task_struct *task, struct pt_regs *regs,
					struct call *call)
{
	if (task->thread_info.status & TS_COMPAT)
		decode_compat(regs, call);
	else
		decode_64(regs, call);
}

#endif
