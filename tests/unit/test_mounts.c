/* Lines of /proc/self/mountinfo, of which users choose parts. */
#include "check.h"

#include "cmd/mounts.h"

static bool parse(const char *text, struct cmd_mounted *ret)
{
	VL_FREE char *line = vl_strdup(text);

	memset(ret, 0, sizeof *ret);
	return cmd_mounted_parse(line, ret);
}

static void drop(struct cmd_mounted *m)
{
	struct cmd_mounted_list l = { vl_memdup(m, sizeof *m), 1 };

	cmd_mounted_free(&l);
}

TEST(a_mount_of_ours)
{
	struct cmd_mounted m;

	CHECK(parse("36 35 0:98 / /mnt/a\\040b\\134c ro,nosuid shared:1 master:2 - fuse.vial /x\\012y.sif "
		    "ro,user_id=1000,group_id=7\n",
		    &m));
	CHECK(m.ours && m.uid == 1000 && m.major == 0 && m.minor == 98);
	CHECK(vl_streq(m.dir, "/mnt/a b\\c") && vl_streq(m.source, "/x\ny.sif") && vl_streq(m.options, "ro,nosuid"));
	drop(&m);
}

TEST(not_ours)
{
	static const char *const lines[] = {
		"36 35 0:98 / / ro - fuse.vial x ro,user_id=0",                  /* a container's root */
		"36 35 0:98 /etc /mnt ro - fuse.vial x ro,user_id=0",            /* a bind of a part */
		"36 35 0:98 / /mnt ro - fuse.vialx x ro,user_id=0",              /* another program's */
		"36 35 0:98 / /mnt ro - fuse x,fuse.vial ro,user_id=0",          /* a source that says so */
		"36 35 0:98 / /mnt ro - fuse.vial x ro,xuser_id=0",              /* nobody's */
		"36 35 0:98 / /mnt\\040-\\040fuse.vial ro - tmpfs fuse.vial rw", /* a name that says so */
	};

	for (size_t i = 0; i < VL_COUNT(lines); i++) {
		struct cmd_mounted m;
		CHECK(parse(lines[i], &m));
		CHECK(!m.ours);
		drop(&m);
	}
}

TEST(not_a_line)
{
	static const char *const lines[] = { "",
					     "\n",
					     "36 35 0:98 / /mnt ro",
					     "36 35 0:98 / /mnt ro -",
					     "36 35 0:98 / /mnt ro - fuse.vial x",
					     "36 35 x / /mnt ro - fuse.vial x ro",
					     "- - - - - -" };

	for (size_t i = 0; i < VL_COUNT(lines); i++) {
		struct cmd_mounted m;
		CHECK(!parse(lines[i], &m));
	}
}

TEST(broken_escapes)
{
	struct cmd_mounted m;

	CHECK(parse("1 2 3:4 / /a\\04 ro - fuse.vial b\\ user_id=1\\", &m));
	CHECK(vl_streq(m.dir, "/a\\04") && vl_streq(m.source, "b\\"));
	drop(&m);
}
