//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The witness of tier B: four programs on raw tracepoints with BTF-typed
 * arguments (tp_btf). Stages of one open, in order:
 *
 *   1 on_sys_exit   was it an open, did it succeed, is the task marked?
 *   2 lookup_file   descriptor -> file -> inode
 *   3 emit_open     reserve a record, read the path into it, submit
 *
 * The programs keep nothing in per-CPU memory: on a preemptible kernel another
 * program could run between writing and reading it. Records are built where
 * they stay, in the ring.
 */
#include "kernel.h"
#include "record.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#if defined(__TARGET_ARCH_x86)
#include "arch_x86.h"
#else
#error "add an arch_*.h with decode_call()"
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The supervisor's pid namespace, st_ino of /proc/self/ns/pid. */
const volatile __u32 supervisor_pidns = 0;
/* The reader is woken when this many bytes wait. */
const volatile __u64 wake_mark = 0;

struct counters ledger;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* set by the loader */
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mark);
} marks SEC(".maps");

/* Most paths of a build fit the small class; the large one holds PATH_MAX. */
#define SMALL_PATH 128
#define MEDIUM_PATH 512
#define LARGE_PATH 4096

struct small_record {
	struct record head;
	char data[SMALL_PATH];
};

struct medium_record {
	struct record head;
	char data[MEDIUM_PATH];
};

struct large_record {
	struct record head;
	char data[LARGE_PATH + 8]; /* tells a path of PATH_MAX bytes from a longer one */
};

/* An exec has two strings. */
struct small_exec {
	struct record head;
	char data[2 * SMALL_PATH];
};

struct large_exec {
	struct record head;
	char data[2 * LARGE_PATH];
};

static __always_inline void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

/* Larger than what one event adds to the ring, so that the mark can't be
 * stepped over. */
#define WAKE_WINDOW 8192

/* A wake-up per event costs more than the event. The reader looks by itself
 * every few milliseconds; it is woken only when the ring fills up faster. */
static __always_inline __u64 wake_flag(void)
{
	__u64 waiting = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	if (waiting - wake_mark < WAKE_WINDOW)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

static __always_inline void submit(void *record)
{
	count(&ledger.reserved);
	bpf_ringbuf_submit(record, wake_flag());
}

static __always_inline void discard(void *record)
{
	bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
}

/* The number of a pid in the supervisor's pid namespace, 0 when it has none
 * there. A pid has one number per namespace from the initial one down to its
 * own, 32 levels at most below the first (MAX_PID_NS_LEVEL). */
static __always_inline __u32 pid_number(struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	const char *numbers;
	__u32 level;

	if (!pid)
		return 0;
	level = BPF_CORE_READ(pid, level);
	numbers = (const char *)pid + bpf_core_field_offset(struct pid, numbers);
	for (__u32 i = 0; i <= 32; i++) {
		const struct upid *upid;
		struct pid_namespace *ns;

		if (i > level)
			break;
		upid = (const void *)(numbers + i * bpf_core_type_size(struct upid));
		ns = BPF_CORE_READ(upid, ns);
		if (BPF_CORE_READ(ns, ns.inum) == supervisor_pidns)
			return BPF_CORE_READ(upid, nr);
	}
	return 0;
}

/* The mark of a task, NULL when it isn't followed. */
static __always_inline struct mark *mark_of(struct task_struct *task)
{
	return bpf_task_storage_get(&marks, task, NULL, 0);
}

static __always_inline void fill_head(struct record *r, enum kind kind, const struct mark *mark)
{
	__builtin_memset(r, 0, sizeof(*r));
	r->time = bpf_ktime_get_boot_ns();
	r->kind = kind;
	r->pid = mark->tgid;
	r->tid = mark->tid;
}

static __always_inline void fill_file(struct record *r, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);

	r->flags = BPF_CORE_READ(file, f_flags);
	r->fmode = BPF_CORE_READ(file, f_mode);
	r->ino = BPF_CORE_READ(inode, i_ino);
	r->mode = BPF_CORE_READ(inode, i_mode);
	r->generation = BPF_CORE_READ(inode, i_generation);
	r->dev = BPF_CORE_READ(inode, i_sb, s_dev);
}

/* The open file behind a descriptor, NULL when another thread has closed it
 * by now. */
static __always_inline struct file *lookup_file(struct task_struct *task, long fd)
{
	struct fdtable *fdt = task->files->fdt;
	struct file *file = NULL;

	if (fd < fdt->max_fds)
		bpf_probe_read_kernel(&file, sizeof(file), fdt->fd + fd);
	return file;
}

/* Reads the path of a call that has succeeded, into a record that is already
 * in the ring. At exit the page has just been read by the kernel itself; at
 * entry it need not be resident. Returns whether the path was cut. */
static __always_inline bool read_path(struct record *r, char *to, __u32 size, const char *from)
{
	long n = bpf_probe_read_user_str(to, size, from);

	r->path_len = 0;
	if (n < 0) {
		r->notes |= NOTE_PATH_UNREADABLE;
		count(&ledger.unreadable);
		return false;
	}
	if (n > 0)
		r->path_len = n - 1;
	return n == size;
}

static __always_inline void submit_cut(struct record *r)
{
	r->notes |= NOTE_PATH_TRUNCATED;
	count(&ledger.truncated);
	submit(r);
}

/* Sends an open. A record that turns out too small is given back once a
 * larger one is reserved; when there is no room for that, a cut path is
 * better than a lost event. */
static __always_inline void emit_open(const struct record *head, const char *path)
{
	struct small_record *small;
	struct medium_record *medium;
	struct large_record *large;

	small = bpf_ringbuf_reserve(&ring, sizeof(*small), 0);
	if (!small) {
		count(&ledger.dropped);
		return;
	}
	small->head = *head;
	if (!read_path(&small->head, small->data, sizeof(small->data), path)) {
		submit(small);
		return;
	}

	medium = bpf_ringbuf_reserve(&ring, sizeof(*medium), 0);
	if (!medium) {
		submit_cut(&small->head);
		return;
	}
	discard(small);
	medium->head = *head;
	if (!read_path(&medium->head, medium->data, sizeof(medium->data), path)) {
		submit(medium);
		return;
	}

	large = bpf_ringbuf_reserve(&ring, sizeof(*large), 0);
	if (!large) {
		submit_cut(&medium->head);
		return;
	}
	discard(medium);
	large->head = *head;
	/* The kernel accepts no longer path: memory that yields one was changed
	 * after the call had read it. */
	if (read_path(&large->head, large->data, sizeof(large->data), path))
		submit_cut(&large->head);
	else
		submit(large);
}

static __always_inline void emit_plain(const struct record *head)
{
	struct record *r = bpf_ringbuf_reserve(&ring, sizeof(*r), 0);

	if (!r) {
		count(&ledger.dropped);
		return;
	}
	*r = *head;
	submit(r);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long ret)
{
	struct task_struct *task;
	struct call call = {};
	struct record head;
	struct mark *mark;
	struct file *file;

	/* Every call of every process of the machine comes here: what costs
	 * least is asked first. */
	if (ret < 0)
		return 0;
	task = bpf_get_current_task_btf();
	decode_call(task, regs, &call);
	if (call.kind == CALL_OTHER)
		return 0;
	mark = mark_of(task);
	if (!mark)
		return 0;
	if (call.kind == CALL_IO_URING) {
		count(&ledger.io_urings);
		return 0;
	}

	fill_head(&head, call.kind == CALL_HANDLE ? KIND_HANDLE : KIND_OPEN, mark);
	head.abi = call.abi;
	head.dirfd = call.dirfd;
	file = lookup_file(task, ret);
	if (file) {
		fill_file(&head, file);
	} else {
		head.notes |= NOTE_FILE_GONE;
		count(&ledger.gone);
	}
	if (call.kind == CALL_HANDLE) {
		count(&ledger.handles);
		emit_plain(&head);
	} else {
		emit_open(&head, call.path);
	}
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct mark *mark = mark_of(parent);
	struct mark *copy;
	struct mark ids = {};
	struct record head;

	if (!mark)
		return 0;
	ids.tid = pid_number(child);
	ids.tgid = child->pid == child->tgid ? ids.tid : mark->tgid;
	copy = bpf_task_storage_get(&marks, child, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (copy)
		*copy = ids;
	else
		count(&ledger.lost_marks);
	if (child->pid != child->tgid) /* a thread */
		return 0;
	fill_head(&head, KIND_FORK, &ids);
	head.parent = mark->tgid;
	emit_plain(&head);
	return 0;
}

/* Reads a kernel string behind the offset bytes that are in the record
 * already. Returns its length without the NUL, or size - 1 when it was cut. */
static __always_inline __u32 append(char *data, __u32 offset, __u32 size, const char *from)
{
	long n = bpf_probe_read_kernel_str(data + (offset & (size - 1)), size, from);

	return n > 0 ? (n - 1) & (size - 1) : 0;
}

/* Fills in the two names of an exec; size is the room for each, a power of
 * two. Returns whether one was cut. */
static __always_inline bool read_names(struct record *r, char *data, __u32 size,
				       struct linux_binprm *bprm)
{
	__u32 path_len = append(data, 0, size, bprm->filename);
	__u32 interp_len = 0;

	if (bprm->interp != bprm->filename)
		interp_len = append(data, path_len, size, bprm->interp);
	r->path_len = path_len;
	r->interp_len = interp_len;
	return path_len == size - 1 || interp_len == size - 1;
}

static __always_inline void emit_exec(const struct record *head, struct linux_binprm *bprm)
{
	struct small_exec *small;
	struct large_exec *large;

	small = bpf_ringbuf_reserve(&ring, sizeof(*small), 0);
	if (!small) {
		count(&ledger.dropped);
		return;
	}
	small->head = *head;
	if (!read_names(&small->head, small->data, SMALL_PATH, bprm)) {
		submit(small);
		return;
	}
	large = bpf_ringbuf_reserve(&ring, sizeof(*large), 0);
	if (!large) {
		submit_cut(&small->head);
		return;
	}
	discard(small);
	large->head = *head;
	read_names(&large->head, large->data, LARGE_PATH, bprm);
	submit(large);
}

/* include/uapi/linux/auxvec.h: where the kernel mapped the ELF interpreter. */
#define AT_NULL 0
#define AT_BASE 7
/* AT_BASE stands among the first ten entries on x86; others have a few more
 * before it. */
#define AUX_ENTRIES 24

/* The address of the ELF interpreter of a new image, 0 for a static one. An
 * entry is a pair of words; in a 32-bit image both fit into one of 64 bits,
 * whose upper half is then the first entry's value, which is never 0. */
static __always_inline unsigned long loader_base(struct mm_struct *mm)
{
	const char *aux = (const char *)mm + bpf_core_field_offset(struct mm_struct, saved_auxv);
	__u64 word = 0;
	bool wide;

	bpf_probe_read_kernel(&word, sizeof(word), aux);
	wide = !(word >> 32);
	for (__u32 i = 0; i < AUX_ENTRIES; i++) {
		bpf_probe_read_kernel(&word, sizeof(word), aux);
		if ((__u32)word == AT_NULL)
			break;
		if ((__u32)word == AT_BASE) {
			if (!wide)
				return word >> 32;
			bpf_probe_read_kernel(&word, sizeof(word), aux + sizeof(word));
			return word;
		}
		aux += wide ? 2 * sizeof(word) : sizeof(word);
	}
	return 0;
}

/* Called by bpf_find_vma with the address space locked. */
static long on_loader(struct task_struct *task, struct vm_area_struct *vma, struct record *head)
{
	struct file *file = BPF_CORE_READ(vma, vm_file);

	if (file)
		fill_file(head, file);
	return 0;
}

/* The kernel opens the program's ELF interpreter itself; what it mapped tells
 * which file that was. */
static __always_inline void witness_loader(struct task_struct *task, const struct mark *mark)
{
	struct mm_struct *mm = task->mm;
	unsigned long base;
	struct record head;

	if (!mm)
		return;
	base = loader_base(mm);
	if (!base)
		return;
	fill_head(&head, KIND_LOADER, mark);
	if (bpf_find_vma(task, base, on_loader, &head, 0) || !head.ino) {
		count(&ledger.lost_loaders);
		return;
	}
	emit_plain(&head);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct mark *mark = mark_of(task);
	struct record head;

	if (!mark)
		return 0;
	/* A thread that executes takes over the leader's id. */
	mark->tid = mark->tgid;
	fill_head(&head, KIND_EXEC, mark);
	fill_file(&head, bprm->file);
	emit_exec(&head, bprm);
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_find_vma))
		witness_loader(task, mark);
	else
		count(&ledger.lost_loaders);
	return 0;
}

/* include/linux/sched/signal.h */
#define SIGNAL_GROUP_EXIT 0x00000004

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct mark *mark = mark_of(task);
	struct mark *leader;
	struct record head;

	/* A process has ended when its last thread ends, which need not be its
	 * first one. */
	if (!mark || task->signal->live.counter)
		return 0;
	/* Two threads that end together can both find that none is left. */
	leader = mark_of(task->group_leader);
	if (leader && __sync_fetch_and_or(&leader->exited, 1))
		return 0;
	fill_head(&head, KIND_EXIT, mark);
	head.exit_code = task->signal->flags & SIGNAL_GROUP_EXIT ?
				 task->signal->group_exit_code :
				 task->group_leader->exit_code;
	emit_plain(&head);
	return 0;
}
