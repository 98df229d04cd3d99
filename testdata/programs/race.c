/*
 * Races whoever checks a path before the kernel reads it: one thread flips the
 * buffer between two names while the other opens it.
 *
 *	race ALLOWED FORBIDDEN TRIES
 *
 * exits 0 when ALLOWED was opened at least once and FORBIDDEN never.
 */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char buffer[PATH_MAX];
static char **names;
static atomic_int stop;

static void *flip(void *unused)
{
	size_t lengths[2] = {strlen(names[0]) + 1, strlen(names[1]) + 1};

	for (unsigned i = 0; !stop; i++)
		memcpy(buffer, names[i & 1], lengths[i & 1]);
	return unused;
}

int main(int argc, char **argv)
{
	struct stat forbidden, st;
	pthread_t flipper;
	long tries, allowed = 0, leaked = 0;

	if (argc != 4 || stat(argv[2], &forbidden) < 0) {
		perror("usage: race ALLOWED FORBIDDEN TRIES");
		return 2;
	}
	names = argv + 1;
	strcpy(buffer, names[0]);
	if (pthread_create(&flipper, NULL, flip, NULL) != 0)
		return 2;
	for (tries = atol(argv[3]); tries > 0; tries--) {
		int fd = open(buffer, O_RDONLY);

		if (fd < 0)
			continue;
		if (fstat(fd, &st) == 0 && st.st_ino == forbidden.st_ino && st.st_dev == forbidden.st_dev)
			leaked++;
		else
			allowed++;
		close(fd);
	}
	stop = 1;
	pthread_join(flipper, NULL);
	printf("opened the forbidden file %ld times\n", leaked);
	if (allowed == 0)
		printf("the race was none: the allowed file was never opened\n");
	return leaked > 0 || allowed == 0;
}
