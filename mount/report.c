/* A line about a mount that has ended, for who asked. Also the server writes it, in its jail: no file is opened, and
 * JSON is made by hand. */
#include "squash.h"

#include <sys/socket.h>

void vmnt_json_text(struct vl_buf *b, const char *s)
{
	vl_buf_adds(b, "\"");
	for (const unsigned char *p = (const unsigned char *)s; *p; p++)
		if (*p < 32 || *p > 126)
			vl_buf_addf(b, "\\\\x%02x", *p);
		else
			vl_buf_addf(b, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
	vl_buf_adds(b, "\"");
}

/* Standard error may be a socket, which is nobody's to make non-blocking: it is asked not to wait this once. */
static void put(int fd, const char *p, size_t n)
{
	struct iovec iov = { (void *)p, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == ENOTSOCK)
		(void)!write(fd, p, n);
}

void vmnt_report_write(int fd, const struct vmnt_report *r, const char *stats)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "{\"image\":");
	vmnt_json_text(&b, r->image);
	vl_buf_addf(&b, ",\"pid\":%d,\"since\":%lld,\"until\":%lld", r->pid, (long long)r->since, (long long)r->until);
	if (r->holder)
		vl_buf_addf(&b, ",\"holder\":%d", r->holder);
	vl_buf_addf(&b, ",\"stats\":%s}\n", stats ? stats : "null");
	put(fd, b.data, b.len);
}
