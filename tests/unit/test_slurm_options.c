/* The plugin's words, without Slurm. */
#include "check.h"

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
		{ "/a:/b:ro+", "--bind /a:/b:ro" },
		{ ",/a,,/b:/c,", "--bind /a --bind /b:/c" },
		{ "/a:/b:", "--bind /a:/b" },
		{ "/a:/b:ro,/c:/d:strange", NULL },
		{ "/a:/b:roo", NULL },
		{ "/a:/b:+ro", NULL },
		{ "/a:/b:ro:rw", NULL },
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
	static const enum vsp_word pairs[][2] = { { VSP_MOUNT_HOME, VSP_NO_MOUNT_HOME },
						  { VSP_REMAP_ROOT, VSP_NO_REMAP_ROOT },
						  { VSP_WRITABLE, VSP_READONLY },
						  { VSP_ENTRYPOINT, VSP_NO_ENTRYPOINT },
						  { VSP_MPI, VSP_NO_MPI } };

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
	CHECK(!relative && !unknown && !nowhere);
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

TEST(images_are_paths_or_names)
{
	static const char *const cases[][2] = {
		{ "/a/b.sif", "/a/b.sif" },
		{ "./b.sif", "./b.sif" },
		{ "docker://a/b:1", "docker://a/b:1" },
		{ "python:3", "docker://python:3" },
		{ "reg.example.org#lab/app:1", "docker://reg.example.org/lab/app:1" },
		{ "me@reg.example.org#app", "docker://reg.example.org/app" },
		{ "#app", "docker:///app" },
		{ "@#app", "docker:///app" },
		{ "", "docker://" },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		VL_FREE char *got = vsp_image_name(cases[i][0]);
		CHECK_STR(got, cases[i][1]);
	}
}

static const char *value_of(void *arg, const char *name)
{
	const char *const *env = arg;

	for (; *env; env += 2)
		if (vl_streq(*env, name))
			return env[1];
	return NULL;
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
			      "VIAL_CONTAINER_WRITABLE",
			      "0",
			      "VIAL_CONTAINER_REMAP_ROOT",
			      "",
			      "VIAL_CONTAINER_WORKDIR",
			      "/e",
			      NULL };
	struct vsp_options o = { 0 };

	vsp_options_set(&o, VSP_WORKDIR, "/o");
	vsp_options_add_environment(&o, value_of, env);
	CHECK_STR(o.value[VSP_IMAGE], "a");
	CHECK_STR(o.value[VSP_MOUNTS], "/p");
	CHECK_STR(o.value[VSP_WORKDIR], "/o");
	CHECK(!o.value[VSP_ENV] && !o.value[VSP_WRITABLE] && o.value[VSP_REMAP_ROOT]);
	vsp_options_free(&o);
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
