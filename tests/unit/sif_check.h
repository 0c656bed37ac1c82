/* What the tests of sif/ share beyond check.h. */
#ifndef SIF_CHECK_H
#define SIF_CHECK_H

#include "check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <vial/sif.h>

/* A call that must succeed, with its error's text. */
#define CHECK_OK(call, err)                                                                                            \
	do {                                                                                                           \
		int _r = (call);                                                                                       \
		if (_r < 0)                                                                                            \
			CHECK_FAIL("%s = %d: %s", #call, _r, (err).text);                                              \
	} while (0)

/* An anonymous file with this content. */
static inline int memfd_with(const void *data, size_t n)
{
	int fd = memfd_create("check", MFD_CLOEXEC);
	if (fd < 0 || (n && pwrite(fd, data, n, 0) != (ssize_t)n))
		abort();
	return fd;
}

#endif
