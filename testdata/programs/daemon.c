/*
 * A daemon by the book: a double fork with a session of its own in between,
 * the root directory, no standard streams. It ignores the signals of polite
 * ends, and makes the file READY once it is one.
 *
 *	daemon READY
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int ready;

	if (argc != 2) {
		fprintf(stderr, "usage: daemon READY\n");
		return 2;
	}
	if (fork() != 0)
		return 0;
	setsid();
	if (fork() != 0)
		return 0;
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	ready = open(argv[1], O_CREAT | O_WRONLY, 0644);
	if (ready < 0 || chdir("/") < 0)
		return 1;
	for (int fd = 0; fd < 256; fd++)
		close(fd);
	for (;;)
		pause();
}
