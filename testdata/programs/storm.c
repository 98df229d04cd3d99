/*
 * Many short-lived processes:
 *
 *	storm N FILE
 *
 * forks N times; each child opens FILE and exits. Exits 0 when all could.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { at_once = 8 };

static int reap(void)
{
	int status;

	return wait(&status) < 0 || status != 0;
}

int main(int argc, char **argv)
{
	int failed = 0, running = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: storm N FILE\n");
		return 2;
	}
	for (long n = atol(argv[1]); n > 0; n--) {
		pid_t pid = fork();

		if (pid < 0) {
			perror("fork");
			return 2;
		}
		if (pid == 0)
			_exit(open(argv[2], O_RDONLY) < 0);
		if (++running == at_once) {
			failed |= reap();
			running--;
		}
	}
	for (; running > 0; running--)
		failed |= reap();
	return failed;
}
