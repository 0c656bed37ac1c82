/* The error object: see docs/hacking.md, "Errors". */
#define VL_ERR_C
#include <vial/base.h>

#include <stdio.h>

static void put(struct vl_err *err, int code, const char *fmt, va_list ap)
{
	err->code = code > 0 ? code : EIO;
	vsnprintf(err->text, sizeof err->text, fmt, ap);
}

static void append(struct vl_err *err, const char *text)
{
	size_t n = strlen(err->text);
	snprintf(err->text + n, sizeof err->text - n, ": %s", text);
}

int vl_fail(struct vl_err *err, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	put(err, code, fmt, ap);
	va_end(ap);
	return -err->code;
}

int vl_fail_sys(struct vl_err *err, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	put(err, code, fmt, ap);
	va_end(ap);
	append(err, strerrordesc_np(err->code) ? strerrordesc_np(err->code) : "unknown error");
	return -err->code;
}

int vl_wrap(struct vl_err *err, const char *fmt, ...)
{
	char inner[sizeof err->text];
	va_list ap;

	memcpy(inner, err->text, sizeof inner);
	va_start(ap, fmt);
	put(err, err->code, fmt, ap);
	va_end(ap);
	append(err, inner);
	return -err->code;
}
