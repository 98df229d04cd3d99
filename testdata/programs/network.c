/*
 * Says what network there is: a connection over the loopback, and one to an
 * address that is nobody's (192.0.2.1, RFC 5737).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const char *reach(struct sockaddr_in *to, int flags)
{
	int fd = socket(AF_INET, SOCK_STREAM | flags, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)to, sizeof *to) < 0)
		return strerrorname_np(errno);
	return "connected";
}

int main(void)
{
	struct sockaddr_in inside = {.sin_family = AF_INET}, outside = {.sin_family = AF_INET};
	socklen_t size = sizeof inside;
	int server = socket(AF_INET, SOCK_STREAM, 0);

	inside.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (server < 0 || bind(server, (struct sockaddr *)&inside, size) < 0 || listen(server, 1) < 0 ||
	    getsockname(server, (struct sockaddr *)&inside, &size) < 0) {
		printf("no server on the loopback: %s\n", strerrorname_np(errno));
		return 1;
	}
	printf("loopback: %s\n", reach(&inside, 0));
	outside.sin_addr.s_addr = inet_addr("192.0.2.1");
	outside.sin_port = htons(9);
	printf("outside: %s\n", reach(&outside, SOCK_NONBLOCK));
	return 0;
}
