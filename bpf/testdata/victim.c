// SPDX-License-Identifier: Apache-2.0
//
// What the witness watches in the tests: one way of opening or executing
// files per command. "wait" closes descriptor 3 to say that the program runs,
// and reads one byte from standard input before it does anything else, so
// that the test can track the process in between.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(99);
}

static int must(int fd, const char *what)
{
	if (fd < 0)
		die(what);
	return fd;
}

static void open_close(const char *path)
{
	close(must(open(path, O_RDONLY), path));
}

static void *open_in_thread(void *path)
{
	open_close(path);
	return NULL;
}

static void threads(char **paths)
{
	pthread_t thread[16];
	int n = 0;

	for (; paths[n]; n++)
		pthread_create(&thread[n], NULL, open_in_thread, paths[n]);
	while (n)
		pthread_join(thread[--n], NULL);
}

// A child by fork, whose child by vfork executes; each opens a file. The
// first child prints its id.
static void forks(char **argv)
{
	pid_t child = fork();

	if (child == 0) {
		pid_t grandchild;

		dprintf(1, "%d\n", getpid());
		open_close(argv[0]);
		grandchild = vfork();
		if (grandchild == 0) {
			execv(argv[1], argv + 1);
			_exit(98);
		}
		waitpid(grandchild, NULL, 0);
		raise(SIGKILL);
	}
	waitpid(child, NULL, 0);
}

static void *exec_in_thread(void *argv)
{
	execv(((char **)argv)[0], argv);
	die("execv");
	return NULL;
}

static void thread_exec(char **argv)
{
	pthread_t thread;

	pthread_create(&thread, NULL, exec_in_thread, argv);
	for (;;)
		pause();
}

// The first thread ends; another one goes on, opens a file and ends the
// process with status 7.
static void *outlive(void *path)
{
	usleep(20000);
	open_close(path);
	exit(7);
}

static void leader_exit(char *path)
{
	pthread_t thread;

	pthread_create(&thread, NULL, outlive, path);
	pthread_exit(NULL);
}

// A 32-bit call out of 64-bit code. The pointer must fit 32 bits: this
// program is linked at a low, fixed address.
static char low[4096];

static long call32(long nr, long a, long b, long c)
{
	long ret;

	// The upper halves are garbage that the kernel ignores.
	asm volatile("int $0x80"
		     : "=a"(ret)
		     : "a"(nr), "b"(a | 0x7700000000), "c"(b | 0x6600000000), "d"(c)
		     : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

static void int80(char **paths)
{
	struct open_how *how = (void *)(low + 2048);

	strcpy(low, paths[0]);
	close(must(call32(5, (long)low, O_RDONLY, 0), "int80 open"));
	strcpy(low, paths[1]);
	close(must(call32(8, (long)low, 0600, 0), "int80 creat"));
	strcpy(low, paths[2]);
	close(must(call32(295, AT_FDCWD & 0xffffffff, (long)low, O_RDONLY), "int80 openat"));
	strcpy(low, paths[3]);
	memset(how, 0, sizeof(*how));
	asm volatile("int $0x80"
		     : "=a"(errno)
		     : "a"(437), "b"(AT_FDCWD), "c"(low), "d"(how), "S"(sizeof(*how))
		     : "memory", "r8", "r9", "r10", "r11");
	close(must(errno, "int80 openat2"));
}

static void calls(char **paths)
{
	struct open_how how = {.flags = O_PATH};
	int dir;

	close(must(syscall(SYS_open, paths[0], O_RDWR), "open"));
	close(must(syscall(SYS_creat, paths[1], 0600), "creat"));
	close(must(syscall(SYS_openat, AT_FDCWD, paths[2], O_WRONLY | O_CREAT | O_EXCL, 0600), "openat"));
	close(must(syscall(SYS_openat2, AT_FDCWD, paths[3], &how, sizeof(how)), "openat2"));
	dir = must(open(paths[4], O_DIRECTORY | O_RDONLY), "directory");
	must(dup2(dir, 77), "dup2");
	close(must(openat(77, paths[5], O_RDONLY), "relative"));
	if (open(paths[6], O_RDONLY) >= 0)
		die("the absent file exists");
}

static void handle(char *path)
{
	struct {
		struct file_handle head;
		unsigned char bytes[MAX_HANDLE_SZ];
	} h = {.head.handle_bytes = MAX_HANDLE_SZ};
	int mount_id;
	int mount = must(open(path, O_RDONLY), path);

	must(name_to_handle_at(AT_FDCWD, path, &h.head, &mount_id, 0), "name_to_handle_at");
	close(must(open_by_handle_at(mount, &h.head, O_RDONLY), "open_by_handle_at"));
	close(mount);
}

static void rings(void)
{
	char params[120] = {};

	must(syscall(SYS_io_uring_setup, 1, params), "io_uring_setup");
}

// Opens a FIFO by a path in a page of its own, and unmaps the page while the
// open waits for a writer: at its return the path is gone.
static char *page;
static volatile pid_t opener;

static void *open_fifo(void *unused)
{
	(void)unused;
	opener = syscall(SYS_gettid);
	must(syscall(SYS_openat, AT_FDCWD, page, O_RDONLY), "fifo");
	return NULL;
}

static int blocked_in_openat(pid_t tid)
{
	char name[64], text[64] = {};
	int fd;

	snprintf(name, sizeof(name), "/proc/self/task/%d/syscall", tid);
	fd = must(open(name, O_RDONLY), name);
	must(read(fd, text, sizeof(text) - 1), name);
	close(fd);
	return strncmp(text, "257 ", 4) == 0;
}

static void vanishing_path(char *fifo)
{
	pthread_t thread;

	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	strcpy(page, fifo);
	pthread_create(&thread, NULL, open_fifo, NULL);
	while (!opener || !blocked_in_openat(opener))
		usleep(1000);
	munmap(page, 4096);
	must(open(fifo, O_WRONLY), fifo);
	pthread_join(thread, NULL);
}

// Opens a path n times, in as many threads as given.
static int flood_count;

static void *flood_thread(void *path)
{
	for (int i = 0; i < flood_count; i++)
		open_close(path);
	return NULL;
}

static void flood(char *path, int count, int nthreads)
{
	pthread_t thread[16];

	flood_count = count;
	for (int i = 1; i < nthreads; i++)
		pthread_create(&thread[i], NULL, flood_thread, path);
	flood_thread(path);
	for (int i = 1; i < nthreads; i++)
		pthread_join(thread[i], NULL);
}

static void fork_flood(int count)
{
	for (int i = 0; i < count; i++) {
		pid_t child = must(fork(), "fork");

		if (child == 0)
			_exit(i & 0x7f);
		waitpid(child, NULL, 0);
	}
}

// For each byte on standard input: the time of 1000 opens and closes, in ns
// of this thread's CPU time, as one line.
static void bench(char *path)
{
	struct timespec a, b;
	char c;

	while (read(0, &c, 1) == 1) {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
		for (int i = 0; i < 1000; i++)
			open_close(path);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
		printf("%lld\n", (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	const char *command;
	char c;

	if (argc > 1 && !strcmp(argv[1], "wait")) {
		close(3);
		if (read(0, &c, 1) != 1)
			return 97;
		argc--;
		argv++;
	}
	if (argc < 2)
		return 96;
	command = argv[1];
	argv += 2;
	if (!strcmp(command, "open"))
		while (*argv)
			open_close(*argv++);
	else if (!strcmp(command, "threads"))
		threads(argv);
	else if (!strcmp(command, "forks"))
		forks(argv);
	else if (!strcmp(command, "exec"))
		execv(argv[0], argv);
	else if (!strcmp(command, "thread-exec"))
		thread_exec(argv);
	else if (!strcmp(command, "leader-exit"))
		leader_exit(argv[0]);
	else if (!strcmp(command, "calls"))
		calls(argv);
	else if (!strcmp(command, "int80"))
		int80(argv);
	else if (!strcmp(command, "handle"))
		handle(argv[0]);
	else if (!strcmp(command, "io-uring"))
		rings();
	else if (!strcmp(command, "vanishing-path"))
		vanishing_path(argv[0]);
	else if (!strcmp(command, "flood"))
		flood(argv[0], atoi(argv[1]), atoi(argv[2]));
	else if (!strcmp(command, "fork-flood"))
		fork_flood(atoi(argv[0]));
	else if (!strcmp(command, "bench"))
		bench(argv[0]);
	else
		return 95;
	return 0;
}
