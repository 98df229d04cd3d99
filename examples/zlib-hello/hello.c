/* Compresses a line with zlib, takes it apart again, and prints both sizes. */
#include <stdio.h>
#include <string.h>
#include <zlib.h>

int main(void)
{
	const char line[] = "hello, hello, hello, hello: a line that compresses";
	unsigned char packed[128];
	char unpacked[sizeof line];
	uLongf packed_size = sizeof packed;
	uLongf unpacked_size = sizeof unpacked;

	if (compress(packed, &packed_size, (const Bytef *)line, sizeof line) != Z_OK) {
		fprintf(stderr, "hello: zlib %s could not compress\n", zlibVersion());
		return 1;
	}
	if (uncompress((Bytef *)unpacked, &unpacked_size, packed, packed_size) != Z_OK ||
	    unpacked_size != sizeof line || memcmp(unpacked, line, sizeof line) != 0) {
		fprintf(stderr, "hello: zlib %s gave back something else\n", zlibVersion());
		return 1;
	}
	printf("%s\n%zu bytes, %lu packed with zlib %s\n",
	       unpacked, sizeof line, packed_size, zlibVersion());
	return 0;
}
