#include <vial/base.h>

#include <stdio.h>

/* Out of memory for a few bytes is not a state anything here could continue from. */
static void *or_abort(void *p)
{
	if (!p)
		abort();
	return p;
}

void *vl_alloc(size_t size)
{
	return or_abort(calloc(1, size ? size : 1));
}

void *vl_realloc(void *p, size_t n, size_t size)
{
	return or_abort(reallocarray(p, n ? n : 1, size ? size : 1));
}

char *vl_strdup(const char *s)
{
	return or_abort(strdup(s));
}

char *vl_strndup(const char *s, size_t n)
{
	return or_abort(strndup(s, n));
}

void *vl_memdup(const void *p, size_t n)
{
	void *q = vl_alloc(n);
	if (n)
		memcpy(q, p, n);
	return q;
}

char *vl_vasprintf(const char *fmt, va_list ap)
{
	char *s = NULL;

	return vasprintf(&s, fmt, ap) < 0 ? or_abort(NULL) : s;
}

char *vl_asprintf(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	char *s = vl_vasprintf(fmt, ap);
	va_end(ap);
	return s;
}

void vl_freep(void *p)
{
	int keep = errno;
	free(*(void **)p);
	*(void **)p = NULL;
	errno = keep;
}

void vl_closep(int *fd)
{
	int keep = errno;
	/* Never retried on EINTR: on Linux the number is free already. */
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = keep;
}
