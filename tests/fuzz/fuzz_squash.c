/* Any bytes as a squashfs: every directory, file and link is read, and mountpoints are made up. */
#include "fuzz.h"

#include "mount/squash.h"

#include <sys/mman.h>
#include <sys/stat.h>

#define MAX_NODES 100 /* an image may hold a directory in itself; the time goes with the square */

struct walk {
	struct squash *s;
	unsigned nodes;
	uint8_t buf[SQ_XATTR_MAX];
};

static void visit(struct walk *w, uint64_t ref, unsigned depth)
{
	char target[SQ_LINK_MAX + 1];
	struct sq_inode i;
	struct sq_entry e, found;
	struct sq_dir d;

	if (w->nodes++ > MAX_NODES || depth > 64 || vmnt_sq_inode(w->s, ref, &i) < 0)
		return;
	if (S_ISLNK(i.mode) && vmnt_sq_link(w->s, &i, target) == 0 && strlen(target) != i.size)
		abort();
	uint64_t offs[] = { 0, i.size > 5000 ? i.size - 5000 : 1 };
	for (size_t k = 0; S_ISREG(i.mode) && k < VL_COUNT(offs); k++)
		if (vmnt_sq_read(w->s, &i, offs[k], w->buf, 20000) > 20000)
			abort();
	for (size_t k = 0; S_ISREG(i.mode) && k < 2 * VL_COUNT(offs); k++) {
		uint64_t at = offs[k / 2], to = 0;
		if (vmnt_sq_seek(w->s, &i, at, k % 2, &to) == 0 && (to < at || to > i.size))
			abort();
	}
	if (i.sparse > i.size)
		abort();
	ssize_t n = vmnt_sq_xattr_list(w->s, &i, (char *)w->buf);
	if (n > 0) {
		VL_FREE char *names = vl_memdup(w->buf, (size_t)n);
		if (names[n - 1])
			abort();
		for (const char *p = names; p < names + n; p += strlen(p) + 1)
			(void)vmnt_sq_xattr_get(w->s, &i, p, w->buf);
	}
	if (!S_ISDIR(i.mode) || vmnt_sq_dir(w->s, &i, 0, &d) < 0)
		return;
	while (w->nodes < MAX_NODES && vmnt_sq_next(w->s, &d, &e) > 0) {
		struct sq_dir again;
		if (strlen(e.name) > SQ_NAME_MAX || strchr(e.name, '/'))
			abort();
		(void)vmnt_sq_lookup(w->s, &i, e.name, &found);
		(void)vmnt_sq_dir(w->s, &i, e.end, &again);
		visit(w, e.ref, depth + 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vmnt_place places[] = {
		{ .path = "/proc", .dir = true },
		{ .path = "/etc/resolv.conf", .nofollow = true },
		{ .path = "/a/b/../c/d" },
		{ .path = "/link/new", .dir = true },
	};
	VL_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
	struct vmnt_image image = { .fd = fd, .name = "input", .memory = 1 << 20 };
	struct squash s;
	struct sq_virtuals v = { 0 };
	struct vl_err err = { 0 };

	if (fd < 0 || vl_write_full(fd, data, size) < 0 || vmnt_sq_open(&s, &image, &err) < 0)
		return 0;
	VL_FREE struct walk *w = vl_alloc(sizeof *w);
	w->s = &s;
	visit(w, s.super.root, 0);
	vmnt_virtual_plan(&s, places, VL_COUNT(places), &v, &err);
	vmnt_virtual_free(&v);
	vmnt_sq_close(&s);
	return 0;
}
