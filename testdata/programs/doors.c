/*
 * Tries to get at a file through one door of the kernel:
 *
 *	doors DOOR FILE
 *
 * prints the first line of FILE, or what an executed FILE prints, and exits 0;
 * or prints the errno by name and exits 1. The doors stand in the table at the
 * end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

static char *argv_of_file[] = {"file", NULL};

static char *directory(const char *path)
{
	return dirname(strdup(path));
}

static char *name(const char *path)
{
	return basename(strdup(path));
}

static char *join(const char *front, const char *back)
{
	char *path;

	if (asprintf(&path, "%s%s", front, back) < 0)
		exit(2);
	return path;
}

static char *descriptor(int fd, const char *rest)
{
	char *path;

	if (asprintf(&path, "/proc/self/fd/%d%s", fd, rest) < 0)
		exit(2);
	return path;
}

static int door_open(const char *path)
{
	return syscall(SYS_openat, AT_FDCWD, path, O_RDONLY);
}

#ifdef SYS_open
static int door_legacy(const char *path)
{
	return syscall(SYS_open, path, O_RDONLY);
}
#endif

static int door_openat2(const char *path)
{
	struct open_how how = {.flags = O_RDONLY};

	return syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

#ifdef __x86_64__
/* open(2) of the i386 ABI, number 5, from this 64-bit program. */
static int door_int80(const char *path)
{
	char *low = mmap(NULL, PATH_MAX, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long result;

	if (low == MAP_FAILED)
		exit(2);
	strncpy(low, path, PATH_MAX - 1);
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(5), "b"(low), "c"(O_RDONLY), "d"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	result = (int)result;
	if (result < 0) {
		errno = -result;
		return -1;
	}
	return result;
}
#endif

/* An O_PATH descriptor, opened again through its magic link. */
static int door_reopen(const char *path)
{
	int fd = open(path, O_PATH);

	return fd < 0 ? -1 : open(descriptor(fd, ""), O_RDONLY);
}

/* An O_PATH descriptor, opened again through /dev/fd. */
static int door_devfd(const char *path)
{
	int fd = open(path, O_PATH);
	char *link;

	if (fd < 0 || asprintf(&link, "/dev/fd/%d", fd) < 0)
		return -1;
	return open(link, O_RDONLY);
}

static int door_root(const char *path)
{
	return open(join("/proc/self/root", path), O_RDONLY);
}

static int door_cwd(const char *path)
{
	if (chdir(directory(path)) < 0)
		return -1;
	return open(join("/proc/self/cwd/", name(path)), O_RDONLY);
}

static int door_dirfd(const char *path)
{
	int dir = open(directory(path), O_PATH | O_DIRECTORY);

	return dir < 0 ? -1 : openat(dir, name(path), O_RDONLY);
}

static int door_procdir(const char *path)
{
	int dir = open(directory(path), O_PATH | O_DIRECTORY);

	return dir < 0 ? -1 : open(descriptor(dir, join("/", name(path))), O_RDONLY);
}

static int door_symlink(const char *path)
{
	unlink("door");
	if (symlink(path, "door") < 0)
		return -1;
	return open("door", O_RDONLY);
}

static int door_hardlink(const char *path)
{
	unlink("door");
	if (link(path, "door") < 0)
		return -1;
	return open("door", O_RDONLY);
}

static int door_handle(const char *path)
{
	struct {
		struct file_handle head;
		unsigned char data[MAX_HANDLE_SZ];
	} handle = {.head.handle_bytes = MAX_HANDLE_SZ};
	int mount, root = open("/", O_RDONLY | O_DIRECTORY);

	if (name_to_handle_at(AT_FDCWD, path, &handle.head, &mount, 0) < 0)
		return -1;
	return open_by_handle_at(root, &handle.head, O_RDONLY);
}

static int door_uring(const char *path)
{
	struct io_uring_params params = {0};
	int ring = syscall(SYS_io_uring_setup, 1, &params);

	return ring < 0 ? -1 : open(path, O_RDONLY);
}

static int door_write(const char *path)
{
	return open(path, O_WRONLY | O_APPEND);
}

static int door_create(const char *path)
{
	return open(path, O_RDWR | O_CREAT, 0644);
}

static int door_exec(const char *path)
{
	return execve(path, argv_of_file, environ);
}

static int door_execveat(const char *path)
{
	int dir = open(directory(path), O_PATH | O_DIRECTORY);

	return dir < 0 ? -1 : syscall(SYS_execveat, dir, name(path), argv_of_file, environ, 0);
}

static int door_fexecve(const char *path)
{
	int fd = open(path, O_PATH | O_CLOEXEC);

	return fd < 0 ? -1 : syscall(SYS_execveat, fd, "", argv_of_file, environ, AT_EMPTY_PATH);
}

/* A copy in memory: FILE has to be readable. */
static int door_memfd(const char *path)
{
	int from = open(path, O_RDONLY), to = memfd_create("copy", MFD_CLOEXEC);
	char data[1 << 16];
	ssize_t n;

	if (from < 0 || to < 0)
		return -1;
	while ((n = read(from, data, sizeof data)) > 0)
		if (write(to, data, n) != n)
			return -1;
	return syscall(SYS_execveat, to, "", argv_of_file, environ, AT_EMPTY_PATH);
}

static const struct {
	const char *name;
	int (*go)(const char *path); /* a descriptor, or -1 with errno */
} doors[] = {
	{"open", door_open},
#ifdef SYS_open
	{"legacy", door_legacy},
#endif
	{"openat2", door_openat2},
#ifdef __x86_64__
	{"int80", door_int80},
#endif
	{"reopen", door_reopen},
	{"devfd", door_devfd},
	{"root", door_root},
	{"cwd", door_cwd},
	{"dirfd", door_dirfd},
	{"procdir", door_procdir},
	{"symlink", door_symlink},
	{"hardlink", door_hardlink},
	{"handle", door_handle},
	{"uring", door_uring},
	{"write", door_write},
	{"create", door_create},
	{"exec", door_exec},
	{"execveat", door_execveat},
	{"fexecve", door_fexecve},
	{"memfd", door_memfd},
};

static void print_line(int fd)
{
	char line[256] = "";
	ssize_t n = read(fd, line, sizeof line - 1);

	if (n < 0)
		printf("opened, but read: %s\n", strerrorname_np(errno));
	else
		printf("%s\n", strtok(line, "\n"));
}

int main(int argc, char **argv)
{
	size_t i;
	int fd;

	for (i = 0; argc == 3 && i < sizeof doors / sizeof *doors; i++) {
		if (strcmp(argv[1], doors[i].name) != 0)
			continue;
		fd = doors[i].go(argv[2]);
		if (fd < 0) {
			printf("%s: %s\n", argv[1], strerrorname_np(errno));
			return 1;
		}
		print_line(fd);
		return 0;
	}
	fprintf(stderr, "usage: doors DOOR FILE\n");
	return 2;
}
