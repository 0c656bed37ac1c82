#include "check.h"

#include "rootless/rootless.h"

/* One bind per line, "src dst flags", of the words given; or the error. */
static char *binds(const char *const *words, size_t n)
{
	PLAN struct plan p = PLAN_INIT;
	VL_STRV struct vl_strv l = { 0 };
	VL_BUF struct vl_buf b = { 0 };
	struct vl_err err = { 0 };

	for (size_t i = 0; i < n; i++)
		vl_strv_add(&l, words[i]);
	if (ctr_plan_parse_binds(&p, &l, &err) < 0)
		return vl_strdup(err.text);
	vl_buf_adds(&b, "");
	for (size_t i = 0; i < p.n_mounts; i++)
		if (p.mounts[i].kind == PLAN_IMAGE)
			vl_buf_addf(&b, "%s#%u: %s %s %u\n", p.mounts[i].image_path, p.mounts[i].image_object,
				    p.mounts[i].src, p.mounts[i].dst, p.mounts[i].flags);
		else
			vl_buf_addf(&b, "%s %s %u\n", p.mounts[i].src, p.mounts[i].dst, p.mounts[i].flags);
	return vl_steal(&b.data);
}
#define CHECK_BINDS(want, ...)                                                                                         \
	do {                                                                                                           \
		static const char *const words[] = { __VA_ARGS__ };                                                    \
		VL_FREE char *got = binds(words, VL_COUNT(words));                                                     \
		CHECK_STR(got, want);                                                                                  \
	} while (0)

TEST(source_destination_options)
{
	CHECK_BINDS("/etc /etc 0\n", "/etc");
	CHECK_BINDS("/etc /x/y 0\n", "/etc:/x//y/.");
	CHECK_BINDS("/etc /x 1\n", "/etc:/x:ro");
	CHECK_BINDS("/etc /x 1\n", "/etc:/x:ro,rw");
	CHECK_BINDS("/etc /etc 1\n", "/etc::ro");
}

TEST(a_word_after_options_continues_them_when_it_is_one)
{
	CHECK_BINDS("/etc /x 1\n/usr /y 0\n", "/etc:/x:ro", "rw", "/usr:/y");
	CHECK_BINDS("/etc /x 1\n/usr /usr 0\n", "/etc:/x:ro", "/usr");
	/* without a second colon "ro" is a name */
	VL_FREE char *got = binds((const char *const[]){ "/etc:/x", "ro" }, 2);
	CHECK(strstr(got, "bind source"));
}

TEST(a_bind_out_of_an_image_is_read_only_and_names_the_file)
{
	CHECK_BINDS("/etc/passwd#0: /a/b /x 1\n", "/etc/passwd:/x:image-src=/a//b/.");
	CHECK_BINDS("/etc/passwd#3: / /x 1\n", "/etc/passwd:/x:id=3");
	CHECK_BINDS("/etc/passwd#3: /a,b /x 1\n/usr /y 1\n", "/etc/passwd:/x:rw", "image-src=/a\\,b", "id=3",
		    "/usr:/y:ro");
}

TEST(devices_stay_devices)
{
	CHECK_BINDS("/dev/null /x 8\n", "/dev/null:/x");
}

TEST(noexec_is_an_option_of_a_bind)
{
	CHECK_BINDS("/etc /a 1024\n/etc /b 1025\n", "/etc:/a:noexec", "/etc:/b:ro", "noexec");
}

TEST(separators_can_be_escaped)
{
	char dir[] = "/tmp/bind:a,b.XXXXXX";
	CHECK(mkdtemp(dir));
	VL_FREE char *spec = vl_asprintf("/tmp/bind\\:a\\,b%s:/z", strchr(dir, '.'));
	VL_FREE char *want = vl_asprintf("%s /z 0\n", dir);
	VL_FREE char *got = binds((const char *const[]){ spec }, 1);
	rmdir(dir);
	CHECK_STR(got, want);
}

TEST(refusals_say_what)
{
	static const char *const bad[][2] = {
		{ "/no/such:/x", "bind source /no/such" },
		{ ":/x", "names no source" },
		{ "/etc:x", "absolute" },
		{ "/etc:/", "root of the container" },
		{ "/etc:/x:shiny", "'shiny'" },
		{ "/etc:/a/..", "root of the container" },
		{ "/etc:/x:image-src=a", "absolute path in the image" },
		{ "/etc:/x:id=0", "number of an object" },
		{ "/etc:/x:id=", "number of an object" },
		{ "/etc:/x:id=4294967296", "number of an object" },
	};

	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		VL_FREE char *got = binds((const char *const[]){ bad[i][0] }, 1);
		CHECK(strstr(got, bad[i][1]));
	}
}

TEST(mount_specs)
{
	PLAN struct plan p = PLAN_INIT;
	struct vl_err err = { 0 };

	CHECK_EQ(ctr_plan_parse_mount(&p, "type=bind,source=/etc,\"destination=/a,b\",readonly", &err), 0);
	CHECK_EQ(ctr_plan_parse_mount(&p, "type=tmpfs,target=/t", &err), 0);
	CHECK_STR(p.mounts[0].dst, "/a,b");
	CHECK_EQ(p.mounts[0].flags, PLAN_RO);
	CHECK_EQ(p.mounts[1].kind, PLAN_TMPFS);
	CHECK_EQ(ctr_plan_parse_mount(&p, "src=/etc,dst=/x,readonly=true", &err), 0);
	CHECK_EQ(ctr_plan_parse_mount(&p, "src=/etc,dst=/y,readonly=false", &err), 0);
	CHECK_EQ(p.mounts[2].kind, PLAN_BIND);
	CHECK_EQ(p.mounts[2].flags, PLAN_RO);
	CHECK_EQ(p.mounts[3].flags, 0);
	CHECK_EQ(ctr_plan_parse_mount(&p, "type=tmpfs,dst=/s,size=64M,ro=false", &err), 0);
	CHECK_EQ(p.mounts[4].size, 64u << 20);
	CHECK_EQ(p.mounts[4].flags, 0);
	CHECK_EQ(ctr_plan_parse_mount(&p, "src=/etc,dst=/n,nonested,ro", &err), 0);
	CHECK_EQ(p.mounts[5].flags, PLAN_NONESTED | PLAN_RO);
	CHECK_EQ(ctr_plan_parse_mount(&p, "src=/etc/passwd,dst=/i,\"image-src=/a,b\",id=7", &err), 0);
	CHECK_EQ(p.mounts[6].kind, PLAN_IMAGE);
	CHECK_EQ(p.mounts[6].image_object, 7);
	CHECK_STR(p.mounts[6].src, "/a,b");
	static const char *const bad[] = { "",
					   "type=tmpfs,dst=/x,size=0",
					   "type=tmpfs,dst=/x,size=many",
					   "type=tmpfs,dst=/x,src=/etc",
					   "type=bind,src=/etc,dst=/x,size=1M",
					   "type=bind,src=/etc,dst=/x,ro=maybe",
					   "type=bind,src=/etc,dst=/x,bind-propagation=shared",
					   "type=tmpfs,dst=/",
					   "type=tmpfs,dst=/a/..",
					   "type=bind,dst=/x",
					   "type=bind,src=/etc",
					   "type=tmpfs,dst=x",
					   "type=bind,src=/etc,dst=/x,shiny" };
	for (size_t i = 0; i < VL_COUNT(bad); i++)
		CHECK_EQ(ctr_plan_parse_mount(&p, bad[i], &err), -EINVAL);
}
