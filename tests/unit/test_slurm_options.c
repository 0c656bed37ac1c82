/* The plugin's words, without Slurm. */
#include "check.h"

#include <stdio.h>

#include "../../slurm-plugin/options.c"
#include "../../slurm-plugin/site.c"

static const struct vsp_site site = { .prefix = "container" };

/* The words that `vial hold` gets, joined; NULL when they are refused. Returns new. */
static char *words_of(const struct vsp_site *at, const struct vsp_options *o)
{
	VL_STRV struct vl_strv l = { 0 };
	VL_BUF struct vl_buf b = { 0 };
	struct vl_err err = { 0 };

	if (vsp_options_words(at, o, &l, &err) < 0)
		return NULL;
	vl_buf_adds(&b, "");
	for (size_t i = 0; i < l.n; i++)
		vl_buf_addf(&b, "%s%s", i ? " " : "", l.v[i]);
	return vl_strdup(b.data);
}

static char *words(const struct vsp_options *o)
{
	return words_of(&site, o);
}

static char *with(enum vsp_word word, const char *value)
{
	struct vsp_options o = { 0 };

	vsp_options_set(&o, word, value);
	char *text = words(&o);
	vsp_options_free(&o);
	return text;
}

TEST(images_are_staged_where_the_site_has_a_place)
{
	const struct vsp_site with_stage = { .prefix = "container", .stage = "/s:1G" };
	static const struct {
		enum vsp_word word;
		const char *here, *there; /* what hold is told, without and with such a place; NULL: refused */
	} cases[] = { { VSP_WRITABLE, "--writable-tmpfs", "--stage=/s:1G --writable-tmpfs" },
		      { VSP_STAGE, NULL, "--stage=/s:1G --stage-always" },
		      { VSP_NO_STAGE, "", "" } };

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct vsp_options o = { 0 };
		vsp_options_set(&o, cases[i].word, "");
		VL_FREE char *here = words(&o), *there = words_of(&with_stage, &o);
		CHECK((here == NULL) == (cases[i].here == NULL) && there);
		if (here && there) {
			CHECK_STR(here, cases[i].here);
			CHECK_STR(there, cases[i].there);
		}
		vsp_options_free(&o);
	}
}

TEST(the_hosts_mpi_is_used_when_asked_for)
{
	VL_FREE char *host = with(VSP_MPI, "host"), *fabric = with(VSP_MPI, "libfabric"), *no = with(VSP_NO_MPI, NULL);
	VL_FREE char *none = with(VSP_MPI, "none"), *srun = with(VSP_MPI, "pmix"), *empty = with(VSP_MPI, "");

	CHECK_STR(host, "--mpi=host");
	CHECK_STR(fabric, "--mpi=libfabric");
	CHECK_STR(none, "--mpi=none");
	CHECK_STR(no, "--mpi=none");
	CHECK(!srun && !empty);
}

TEST(mounts_are_binds)
{
	static const struct {
		const char *given, *want; /* NULL: refused */
	} cases[] = {
		{ "", "" },
		{ "/a", "--bind /a" },
		{ "/a:/b", "--bind /a:/b" },
		{ "/a:/b:ro", "--bind /a:/b:ro" },
		{ "/a:/b:rw", "--bind /a:/b" },
		{ "/a:/b:ro+x-create=auto", "--bind /a:/b:ro" },
		{ "/a:/b:ro+rprivate", "--bind /a:/b:ro" },
		{ "/a:/b:private+x-create=dir,/c:/d:unbindable+ro,/e:/f:x-create=file+rslave",
		  "--bind /a:/b --bind /c:/d:ro --bind /e:/f" },
		{ "/a:/b:noexec+nodev,/c::ro+noexec", "--bind /a:/b:noexec --bind /c::ro,noexec" },
		{ "tmpfs:/t", "--mount type=tmpfs,dst=/t" },
		{ "tmpfs:/t:size=1G+ro+nosuid,tmpfs", "--mount type=tmpfs,dst=/t,size=1G,ro --bind tmpfs" },
		{ "umount:/tmp,umount:/a:x-detach,/b", NULL },
		{ "umount:/tmp,/b", "--no-mount=/tmp --bind /b" },
		{ "/a:/b:ro+", "--bind /a:/b:ro" },
		{ ",/a,,/b:/c,", "--bind /a --bind /b:/c" },
		{ "/a:/b:", "--bind /a:/b" },
		{ "/a:/b:ro,/c:/d:strange", NULL },
		{ "/a:/b:roo", NULL },
		{ "/a:/b:+ro", NULL },
		{ "/a:/b:ro:rw", NULL },
		{ "/a:/b:size=1G", NULL },
		{ "/a:b", NULL },
		{ ":/b", NULL },
		{ "/a:/", NULL },
		{ "/a://:ro", NULL },
		{ "/a:/./.", NULL },
		{ "/a:/.b", "--bind /a:/.b" },
		{ "tmpfs:/t:size=0", NULL },
		{ "umount:/", NULL },
		{ "tmpfs:/t:size=much", NULL },
		{ "tmpfs:t", NULL },
		{ "tmpfs:", NULL },
		{ "tmpfs:/t:noexec", NULL },
		{ "umount:home", NULL },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		VL_FREE char *got = with(VSP_MOUNTS, cases[i].given);
		CHECK((got == NULL) == (cases[i].want == NULL));
		if (got && cases[i].want)
			CHECK_STR(got, cases[i].want);
	}
}

TEST(what_excludes_each_other_is_refused)
{
	for (size_t i = 0; i < VL_COUNT(pairs); i++) {
		struct vsp_options o = { 0 };
		vsp_options_set(&o, pairs[i][0], NULL);
		vsp_options_set(&o, pairs[i][1], "");
		VL_FREE char *got = words(&o);
		CHECK(got == NULL);
		vsp_options_free(&o);
	}
	VL_FREE char *relative = with(VSP_WORKDIR, "here"), *entry = with(VSP_ENTRYPOINT, NULL);
	VL_FREE char *unknown = with(VSP_UNSHARE, "net,pid"), *none = with(VSP_NO_ENTRYPOINT, NULL);
	VL_FREE char *nowhere = with(VSP_SAVE, ""), *log = with(VSP_ENTRYPOINT_LOG, NULL);
	VL_FREE char *assigned = with(VSP_ENV, "A,B=3");
	CHECK(!relative && !unknown && !nowhere && !assigned);
	CHECK_STR(entry, "--with-entrypoint");
	CHECK_STR(log, "--entrypoint-log");
	CHECK_STR(none, "");
}

TEST(names_are_words_with_a_known_mode)
{
	static const struct {
		const char *given;
		bool good;
	} cases[] = {
		{ "box", true },
		{ "box:auto", true },
		{ "box:create", true },
		{ "b.o_x-1:exec", true },
		{ "box:no_exec", true },
		{ "", false },
		{ ":auto", false },
		{ "box:", false },
		{ "box:Auto", false },
		{ "box:auto:exec", false },
		{ ".box", false },
		{ "..", false },
		{ "a/b", false },
		{ "a b", false },
		{ "a\nb", false },
		{ "0123456789012345678901234567890123456789012345678901234567890123", true },
		{ "01234567890123456789012345678901234567890123456789012345678901234", false },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct vsp_options o = { 0 };
		vsp_options_set(&o, VSP_NAME, cases[i].given);
		CHECK(vsp_options_wanted(&o));
		VL_FREE char *got = words(&o);
		CHECK((got != NULL) == cases[i].good);
		vsp_options_free(&o);
	}
}

static void make_file(const char *name, size_t at, const char *magic)
{
	FILE *f = fopen(name, "w");

	if (f && fseek(f, (long)at, SEEK_SET) == 0)
		fputs(magic, f);
	if (f && ftruncate(fileno(f), 4096) == 0)
		fclose(f);
}

TEST(images_are_paths_or_names)
{
	static const struct {
		const char *given, *want; /* @: the current directory */
	} cases[] = {
		{ "/a/b.sif", "/a/b.sif" },
		{ "/a/../b.sif", "/a/../b.sif" },
		{ "./b.sif", "@/b.sif" },
		{ "../b", "@/../b" },
		{ "b.sif", "@/b.sif" }, /* is not there */
		{ "lab/b.SQSH", "@/lab/b.SQSH" },
		{ "imgs/one", "@/imgs/one" }, /* is there */
		{ "imgs/two", "docker://imgs/two" },
		{ "python", "docker://python" }, /* a directory */
		{ "./python", "@/python" },
		{ "text", "docker://text" }, /* a file, but no image */
		{ "sif", "@/sif" },
		{ "squash", "@/squash" },
		{ "docker://a/b:1", "docker://a/b:1" },
		{ "oras://a/b:1", "oras://a/b:1" },
		{ "docker://reg.example.org#lab/app:1", "docker://reg.example.org/lab/app:1" },
		{ "docker://me@reg.example.org#app", "docker://reg.example.org/app" },
		{ "python:3", "docker://python:3" },
		{ "reg.example.org#lab/app:1", "docker://reg.example.org/lab/app:1" },
		{ "me@reg.example.org#app", "docker://reg.example.org/app" },
		{ "reg#app.sif", "docker://reg/app.sif" },
		{ "#app", "docker:///app" },
		{ "@#app", "docker:///app" },
		{ "", "docker://" },
	};
	char dir[] = "/tmp/vial-options.XXXXXX";

	CHECK(mkdtemp(dir) && chdir(dir) == 0);
	CHECK(mkdir("python", 0700) == 0 && mkdir("imgs", 0700) == 0 && mkdir("imgs/one", 0700) == 0);
	make_file("text", 0, "text");
	make_file("sif", 32, "SIF_MAGIC");
	make_file("squash", 0, "hsqs");
	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		const char *w = cases[i].want;
		VL_FREE char *want = *w == '@' ? vl_asprintf("%s%s", dir, w + 1) : vl_strdup(w);
		VL_FREE char *got = vsp_image_name(cases[i].given);
		CHECK_STR(got, want);
		VL_FREE char *again = vsp_image_name(got);
		CHECK_STR(again, got);
	}
	CHECK(chdir("/") == 0);
	VL_FREE char *at_root = vsp_image_name("./b");
	CHECK_STR(at_root, "/b");
	VL_FREE char *remove = vl_asprintf("rm -r '%s'", dir);
	CHECK_EQ(system(remove), 0);
	VL_FREE char *none = with(VSP_IMAGE, "");
	CHECK(!none);
}

static const char *value_of(void *arg, const char *name)
{
	const char *const *env = arg;

	for (; *env; env += 2)
		if (vl_streq(*env, name))
			return env[1];
	return NULL;
}

/* What of the options is said, "word=value ..." in the order of the words. Returns new. */
static char *said(const struct vsp_options *o)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	for (size_t i = 0; i < VSP_WORDS; i++)
		if (o->value[i])
			vl_buf_addf(&b, "%s%s%s%s", b.len ? " " : "", vsp_rows[i].name, *o->value[i] ? "=" : "",
				    o->value[i]);
	return vl_strdup(b.data);
}

TEST(environment_comes_after_the_options)
{
	const char *env[] = { "VIAL_CONTAINER_IMAGE",
			      "a",
			      "PYXIS_CONTAINER_IMAGE",
			      "b",
			      "PYXIS_CONTAINER_MOUNTS",
			      "/p",
			      "VIAL_CONTAINER_ENV",
			      "",
			      "VIAL_CONTAINER_REMAP_ROOT",
			      "1",
			      "PYXIS_CONTAINER_REMAP_ROOT",
			      "0",
			      "VIAL_CONTAINER_READONLY",
			      "1",
			      "VIAL_CONTAINER_WORKDIR",
			      "/e",
			      NULL };
	const struct vsp_site beside = { .prefix = "vial" };
	struct vsp_options o = { 0 }, two = { 0 };
	struct vl_err err = { 0 };

	vsp_options_set(&o, VSP_WORKDIR, "/o");
	vsp_options_set(&o, VSP_WRITABLE, NULL); /* its opposite is the environment's */
	vsp_options_set(&two, VSP_STAGE, NULL);
	CHECK_EQ(vsp_options_add_environment(&o, &site, value_of, env, &err), 0);
	CHECK_EQ(vsp_options_add_environment(&two, &beside, value_of, env, &err), 0);
	VL_FREE char *all = said(&o), *ours = said(&two);
	CHECK_STR(all, "image=a mounts=/p workdir=/o remap-root writable");
	CHECK_STR(ours, "image=a workdir=/e remap-root readonly stage");
	vsp_options_free(&o);
	vsp_options_free(&two);
}

TEST(flags_of_the_environment_are_true_or_false)
{
	static const struct {
		const char *name, *value, *want; /* NULL: refused */
	} cases[] = {
		{ "MOUNT_HOME", "0", "no-mount-home" },
		{ "MOUNT_HOME", "yes", "mount-home" },
		{ "NO_MOUNT_HOME", "False", "mount-home" },
		{ "NO_MOUNT_HOME", "n", "mount-home" },
		{ "WRITABLE", "False", "readonly" },
		{ "WRITABLE", "off", "readonly" },
		{ "WRITABLE", "ON", "writable" },
		{ "READONLY", "0", "writable" },
		{ "READONLY", "TRUE", "readonly" },
		{ "NO_ENTRYPOINT", "no", "entrypoint" },
		{ "REMAP_ROOT", "y", "remap-root" },
		{ "STAGE", "false", "no-stage" },
		{ "ENTRYPOINT_LOG", "1", "entrypoint-log" },
		{ "ENTRYPOINT_LOG", "0", "" },
		{ "NO_MPI", "0", "" }, /* of two ways to say yes, which? */
		{ "NO_MPI", "1", "no-mpi" },
		{ "WRITABLE", "", "" },
		{ "WRITABLE", "maybe", NULL },
		{ "WRITABLE", "2", NULL },
		{ "MOUNT_HOME", " 0", NULL },
		{ "ENTRYPOINT_LOG", "/tmp/log", NULL },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		VL_FREE char *name = vl_asprintf("VIAL_CONTAINER_%s", cases[i].name);
		const char *env[] = { name, cases[i].value, "VIAL_CONTAINER_IMAGE", "a", NULL };
		struct vsp_options o = { 0 };
		struct vl_err err = { 0 };
		int r = vsp_options_add_environment(&o, &site, value_of, env, &err);
		VL_FREE char *got = said(&o),
			     *want = vl_asprintf("image=a%s%s", cases[i].want && *cases[i].want ? " " : "",
						 cases[i].want ? cases[i].want : "");
		CHECK_EQ(r, cases[i].want ? 0 : -EINVAL);
		CHECK(r == 0 || strstr(err.text, name));
		CHECK_STR(got, want);
		vsp_options_free(&o);
	}
	const char *both[] = { "VIAL_CONTAINER_WRITABLE", "1", "VIAL_CONTAINER_READONLY", "1", NULL };
	struct vsp_options o = { 0 };
	struct vl_err err = { 0 };
	CHECK_EQ(vsp_options_add_environment(&o, &site, value_of, both, &err), 0);
	VL_FREE char *got = words(&o);
	CHECK(!got);
	vsp_options_free(&o);
}

TEST(what_is_handed_down_is_weaker_than_options_and_stronger_than_the_environment)
{
#define HANDED "SLURM_SPANK__SLURM_SPANK_OPTION_vial_"
	const char *env[] = { HANDED "container_image",
			      "/handed",
			      HANDED "container_readonly",
			      "(null)",
			      HANDED "no_container_mount_home",
			      "(null)",
			      "VIAL_CONTAINER_MOUNT_HOME",
			      "1",
			      "VIAL_CONTAINER_NAME",
			      "box",
			      NULL };
	const struct vsp_site beside = { .prefix = "vi-al" };
	struct vsp_options o = { 0 };
	struct vl_err err = { 0 };

	vsp_options_set(&o, VSP_WRITABLE, "");
	vsp_options_add_handed(&o, &site, value_of, env);
	CHECK_EQ(vsp_options_add_environment(&o, &site, value_of, env, &err), 0);
	CHECK(!o.value[VSP_READONLY] && !o.value[VSP_MOUNT_HOME]);
	CHECK_STR(o.value[VSP_NO_MOUNT_HOME], "");
	CHECK_STR(o.value[VSP_IMAGE], "/handed");
	CHECK_STR(o.value[VSP_NAME], "box");
	VL_FREE char *passed = vsp_passed_name(&beside, VSP_NO_MOUNT_HOME);
	CHECK_STR(passed, "_SLURM_SPANK_OPTION_vial_no_vi_al_mount_home");
	vsp_options_free(&o);
}

TEST(what_twins_said_to_the_command_is_the_weakest)
{
	const char *env[] = { "SLURM_SPANK_VIAL_TWIN_IMAGE",
			      "/there",
			      "SLURM_SPANK_VIAL_TWIN_WRITABLE",
			      "",
			      "SLURM_SPANK_VIAL_TWIN_NAME",
			      "box",
			      "VIAL_CONTAINER_NAME",
			      "mine",
			      NULL };
	struct vsp_options o = { 0 };
	struct vl_err err = { 0 };

	vsp_options_set(&o, VSP_READONLY, NULL);
	CHECK_EQ(vsp_options_add_environment(&o, &site, value_of, env, &err), 0);
	CHECK(vsp_options_add_twins(&o, value_of, env));
	CHECK(!vsp_options_add_twins(&o, value_of, env));
	VL_FREE char *all = said(&o);
	CHECK_STR(all, "image=/there name=mine readonly");
	vsp_options_free(&o);
}

TEST(lists_add_up_and_nothing_else_is_said_twice)
{
	struct vsp_options o = { 0 };
	struct vl_err err = { 0 };

	CHECK_EQ(vsp_options_add(&o, VSP_MOUNTS, "/a:/m", &err), 0);
	CHECK_EQ(vsp_options_add(&o, VSP_MOUNTS, "/b:/m", &err), 0); /* the later is the first, which is used */
	CHECK_EQ(vsp_options_add(&o, VSP_ENV, "A", &err), 0);
	CHECK_EQ(vsp_options_add(&o, VSP_ENV, "B", &err), 0);
	CHECK_EQ(vsp_options_add(&o, VSP_IMAGE, "a", &err), 0);
	CHECK_EQ(vsp_options_add(&o, VSP_IMAGE, "a", &err), 0);
	CHECK_EQ(vsp_options_add(&o, VSP_WRITABLE, "", &err), 0);
	CHECK_EQ(vsp_options_add(&o, VSP_WRITABLE, "", &err), 0);
	VL_FREE char *all = said(&o);
	CHECK_STR(all, "image=a mounts=/b:/m,/a:/m writable env=B,A");
	CHECK_EQ(vsp_options_add(&o, VSP_IMAGE, "b", &err), -EINVAL);
	CHECK(strstr(err.text, "'a'") && strstr(err.text, "'b'"));
	vsp_options_free(&o);
}

TEST(what_is_meant_goes_with_what_is_said)
{
	VL_FREE char *image = vsp_meant_value("a=1.sif", "/here/a=1.sif"), *mounts = vsp_meant_value("/b", "/b,/a");
	const char *env[] = {
		"SLURM_SPANK_VIAL_IMAGE", image, "SLURM_SPANK_VIAL_MOUNTS", mounts, "SLURM_SPANK_VIAL_ENV", "=A", NULL
	};
	struct vsp_options o = { 0 }, other = { 0 };

	vsp_options_set(&o, VSP_IMAGE, "a=1.sif");
	vsp_options_set(&o, VSP_MOUNTS, "/b");
	vsp_options_set(&other, VSP_IMAGE, "a"); /* another component's, of a heterogeneous step */
	vsp_options_set(&other, VSP_MOUNTS, "/c");
	vsp_options_complete(&o, value_of, env);
	vsp_options_complete(&other, value_of, env);
	VL_FREE char *meant = said(&o);
	CHECK_STR(meant, "image=/here/a=1.sif mounts=/b,/a");
	CHECK_STR(other.value[VSP_MOUNTS], "/c");
	CHECK_STR(other.value[VSP_IMAGE], "a");
	CHECK(!vsp_meant_name(VSP_WRITABLE));
	vsp_options_free(&o);
	vsp_options_free(&other);
}

TEST(sites_words_are_kept_beside_nonsense)
{
	const char *argv[] = { "prefix=box",       "nonsense",       "timeout=5",    "timeout=x",
			       "check=no",         "vial=relative",  "names=here",   "record-timeout=3",
			       "record-timeout=0", "fanout=/bin/sb", "fanout=sbcast" };
	struct vl_err err = { 0 };
	struct vsp_site s;

	CHECK(vsp_site_read(VL_COUNT(argv), (char **)argv, &s, &err) == -EINVAL);
	CHECK(strstr(err.text, "nonsense"));
	CHECK_STR(s.prefix, "box");
	CHECK(s.timeout == 5 && s.record_timeout == 3 && !s.check);
	CHECK_STR(s.names, "/tmp");
	CHECK_STR(s.fanout, "/bin/sb");
	CHECK(vsp_site_read(0, NULL, &s, &err) == 0 && s.check && !s.fanout && *s.vial == '/');
}
