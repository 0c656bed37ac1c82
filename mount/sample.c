/* The smallest image there is to mount: a root directory with one symbolic link. */
#include "squash.h"

#include <sys/mman.h>

#define NAME "works"
#define TARGET "yes"

static void put(struct vl_buf *b, uint64_t v, size_t bytes)
{
	uint8_t le[8];

	vl_put_le64(le, v);
	vl_buf_add(b, le, bytes);
}

/* A table in one block that is not compressed. Returns where it begins. */
static uint64_t put_table(struct vl_buf *out, const struct vl_buf *table)
{
	uint64_t at = out->len;

	put(out, 0x8000 | table->len, 2);
	vl_buf_add(out, table->data, table->len);
	return at;
}

static void put_inode(struct vl_buf *b, unsigned type, unsigned mode, uint32_t number)
{
	put(b, type, 2);
	put(b, mode, 2);
	put(b, 0, 4); /* ids */
	put(b, 0, 4); /* time */
	put(b, number, 4);
}

static void make(struct vl_buf *out)
{
	VL_BUF struct vl_buf inodes = { 0 }, list = { 0 }, ids = { 0 }, super = { 0 };
	uint8_t none[SQ_SUPER_SIZE] = { 0 };

	vl_buf_add(out, none, sizeof none);
	put(&list, 0, 4); /* entries - 1 */
	put(&list, 0, 4);
	put(&list, 1, 4);
	put(&list, 0, 2); /* one entry: where its inode is, its number, type and name */
	put(&list, 0, 2);
	put(&list, SQ_LINK, 2);
	put(&list, strlen(NAME) - 1, 2);
	vl_buf_adds(&list, NAME);
	put_inode(&inodes, SQ_LINK, 0777, 1);
	put(&inodes, 1, 4);
	put(&inodes, strlen(TARGET), 4);
	vl_buf_adds(&inodes, TARGET);
	uint64_t root = inodes.len;
	put_inode(&inodes, SQ_DIR, 0755, 2);
	put(&inodes, 0, 4); /* listing: block, links, size, place, parent */
	put(&inodes, 2, 4);
	put(&inodes, list.len + 3, 2);
	put(&inodes, 0, 2);
	put(&inodes, 3, 4);
	put(&ids, 0, 4);
	uint64_t inode_table = put_table(out, &inodes), dir_table = put_table(out, &list);
	uint64_t id_block = put_table(out, &ids), id_table = out->len;
	put(out, id_block, 8);

	const uint32_t head[] = { 0x73717368, 2, 0, 4096, 0, 12 << 16 | 1 /* gzip */, 1 << 16, 4 };
	const uint64_t places[] = { root, out->len, id_table, SQ_NONE64, inode_table, dir_table, SQ_NONE64, SQ_NONE64 };
	for (size_t i = 0; i < VL_COUNT(head); i++)
		put(&super, head[i], 4);
	for (size_t i = 0; i < VL_COUNT(places); i++)
		put(&super, places[i], 8);
	memcpy(out->data, super.data, SQ_SUPER_SIZE);
}

int vmnt_sample_image(struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	VL_CLOSE int fd = memfd_create("vial-sample", MFD_CLOEXEC);

	make(&b);
	fd = fd < 0 ? fd : vl_move_fd_above_stdio(fd);
	if (fd < 0 || vl_write_full(fd, b.data, b.len) < 0)
		return vl_fail_sys(err, errno ? errno : EIO, "cannot make an image in memory");
	return vl_steal_fd(&fd);
}

int vmnt_sample_check(int rootfd, struct vl_err *err)
{
	char target[8] = "";

	if (readlinkat(rootfd, NAME, target, sizeof target - 1) < 0)
		return vl_fail_sys(err, errno, "the image server gives no answers");
	return vl_streq(target, TARGET) ? 0 : vl_fail(err, EIO, "the image server gives wrong answers");
}
