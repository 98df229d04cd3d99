/*
 * Counts signals:
 *
 *	signals READY INTERRUPTED
 *
 * makes the file READY, counts SIGINT, makes the file INTERRUPTED at each, and
 * at SIGTERM prints the count and exits with status 7.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void make(const char *name)
{
	close(open(name, O_CREAT | O_WRONLY, 0644));
}

int main(int argc, char **argv)
{
	sigset_t set;
	int interrupts = 0, signal;

	if (argc != 3) {
		fprintf(stderr, "usage: signals READY INTERRUPTED\n");
		return 2;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	make(argv[1]);
	while (sigwait(&set, &signal) == 0 && signal != SIGTERM) {
		interrupts++;
		make(argv[2]);
	}
	printf("SIGINT %d times, then SIGTERM\n", interrupts);
	return 7;
}
