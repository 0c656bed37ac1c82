/* What every fuzz target includes. A target is fuzz_NAME.c with LLVMFuzzerTestOneInput; inputs
 * worth keeping lie in corpus/NAME/. Built without the engine it replays the files it is given,
 * as TAP: so the ordinary test run covers what fuzzing once found. */
#ifndef FUZZ_H
#define FUZZ_H

#include <vial/base.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A template for mkdtemp, in memory where there is such a place: a disk's file system would take most of the time. */
#define FUZZ_DIR (access("/dev/shm", W_OK) == 0 ? "/dev/shm/vial-fuzz-XXXXXX" : "/tmp/vial-fuzz-XXXXXX")

#ifndef FUZZ_ENGINE
int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		VL_FREE char *data = NULL;
		struct vl_err err = { 0 };
		size_t n;
		if (vl_read_file(AT_FDCWD, argv[i], 64 << 20, &data, &n, &err) < 0) {
			printf("# %s\nnot ok %d - %s\n", err.text, i, argv[i]);
			return 1;
		}
		/* an exact copy: a sanitizer then sees a read past the end */
		VL_FREE uint8_t *exact = n ? vl_memdup(data, n) : malloc(1);
		LLVMFuzzerTestOneInput(exact, n);
		printf("ok %d - %s\n", i, vl_basename(argv[i]));
		fflush(stdout); /* a crash in the next one must not take this line with it */
	}
	return argc < 2;
}
#endif

#endif
