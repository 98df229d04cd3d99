/* Uses a shared library that a policy can leave out: zlib. */
extern const char *zlibVersion(void);

int main(void)
{
	return zlibVersion() == 0;
}
