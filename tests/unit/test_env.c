#include "check.h"

#include "rootless/rootless.h"

/* Value of X after the text, "-" when unset; A=host is in the environment. */
static char *eval(const char *text, bool *ret_all)
{
	CTR_SCOPE struct ctr_scope scope = { 0 };
	vl_strv_add(&scope.env, "A=host");
	vl_strv_add(&scope.env, "EMPTY=");
	bool all = ctr_eval_text(text, &scope);
	if (ret_all)
		*ret_all = all;
	const char *x = ctr_env_get(&scope.env, "X");
	return vl_strdup(x ? x : "-");
}

TEST(texts_that_are_understood)
{
	static const char *const t[][2] = {
		{ "export X=1", "1" },
		{ "export X=\"${A:-\"1\"}\"", "host" },
		{ "export X=\"${B:-\"a b\"}\"", "a b" },
		{ "export X=${B-d} ", "d" },
		{ "export X=${EMPTY-d}", "" },
		{ "export X=${EMPTY:-d}", "d" },
		{ "export X=${A:+set}${B:+unset}", "set" },
		{ "export X=${B:-${C:-${A}}}", "host" },
		{ "X=1; export X", "1" },
		{ "X=1\nexport X", "1" },
		{ "X=1", "-" },
		{ "X=1 Y=2\nexport Y X # done\n# X=3", "1" },
		{ "export X='$A \"q\" \\'", "$A \"q\" \\" },
		{ "export X=\"\\$A \\\"q\\\" \\\\ \\n\"", "$A \"q\" \\ \\n" },
		{ "export X=it\\'s", "it's" },
		{ "export X='a'\"b\"c", "abc" },
		{ "export X=\"two\nlines\"", "two\nlines" },
		{ "export X=$A$", "host$" },
		{ "export B=1 X=$B", "1" },
		{ "export A.B=\"x\"\nexport X=1", "1" },
		{ "[ -n \"${A+x}\" ] || A=image\nexport A\nexport X=$A", "host" },
		{ "[ -n \"${B+x}\" ] || B=\"from image\"\nexport B X=$B", "from image" },
		{ "[ -z \"$B\" ] && export X=empty", "empty" },
		{ "\texport\tX=1 ;", "1" },
		{ "B=1; export B=\"$B:2\"; export X=$B", "1:2" },
		{ "B=/a; export B; B=$B:/b; export X=$B", "/a:/b" },
		{ "B=1; A=2; export A B; B=3; export X=$A$B", "23" },
		{ "export X=1; X+=2; export X+=3", "123" },
		{ "B=1; B+=2; export X+=$B", "12" },
		{ "", "-" },
		{ "#!/bin/sh\n", "-" },
	};

	for (size_t i = 0; i < VL_COUNT(t); i++) {
		bool all;
		VL_FREE char *x = eval(t[i][0], &all);
		if (!all)
			CHECK_FAIL("not understood: %s", t[i][0]);
		CHECK_STR(x, t[i][1]);
	}
}

TEST(programs_are_not_understood_and_do_nothing)
{
	static const char *const t[] = {
		"export X=$(id)",   "export X=`id`", "X=1 id",           "if true; then export X=1; fi",
		"export X=1 && id", "export X=$1",   "export X=~",       "export X=\"open",
		"export X='open",   "export -n X",   "export X=${A%%o}", "export X=${A:=1}",
		"eval X=1",         "export X=${A",  "export B; B=1",
	};

	for (size_t i = 0; i < VL_COUNT(t); i++) {
		bool all;
		VL_FREE char *x = eval(t[i], &all);
		if (all)
			CHECK_FAIL("understood: %s", t[i]);
	}
}

TEST(a_later_text_knows_what_an_earlier_one_said)
{
	CTR_SCOPE struct ctr_scope scope = { 0 };

	CHECK(ctr_eval_text("L=local\nexport E=1\n", &scope));
	CHECK(ctr_eval_text("export FROML=\"[$L]\" FROME=$E\nexport L", &scope));
	CHECK_STR(ctr_env_get(&scope.env, "FROML"), "[local]");
	CHECK_STR(ctr_env_get(&scope.env, "FROME"), "1");
	CHECK_STR(ctr_env_get(&scope.env, "L"), "local");
}

TEST(a_file_of_variables_names_what_the_host_has_too)
{
	PLAN struct plan p = PLAN_INIT;
	char *const environ_[] = { (char *)"A=1", (char *)"B=2", (char *)"=x", NULL };
	struct vl_err err = { 0 };

	CHECK_EQ(ctr_plan_env_text(&p, "A=1\nC=$B\n", "file", environ_, NULL, &err), 0);
	CHECK_EQ(p.env.set.n, 2);
	CHECK_STR(ctr_env_get(&p.env.set, "A"), "1");
	CHECK_STR(ctr_env_get(&p.env.set, "C"), "2");
}

TEST(a_bad_line_costs_that_line_only)
{
	VL_FREE char *x = eval("export Y=$(id)\nexport X=2\n", NULL);
	CHECK_STR(x, "2");
}

TEST(host_variables_are_sorted_out)
{
	PLAN struct plan p = PLAN_INIT;
	VL_STRV struct vl_strv block = { 0 };
	char *const environ_[] = { (char *)"A=1",
				   (char *)"PATH=/x",
				   (char *)"HOME=/h",
				   (char *)"LD_LIBRARY_PATH=/l",
				   (char *)"APPTAINER_BIND=/b",
				   (char *)"SINGULARITYENV_Z=1",
				   (char *)"VIAL_DEBUG=1",
				   (char *)"TOKEN=t",
				   (char *)"TERM=vt",
				   (char *)"broken",
				   (char *)"=x",
				   NULL };

	vl_strv_add(&block, "TOKEN");
	ctr_plan_host_env(&p, environ_, CTR_CLEAN_NONE, &block);
	CHECK_EQ(p.env.host.n, 2);
	CHECK_STR(p.env.host.v[0], "A=1");
	CHECK_STR(p.env.host.v[1], "TERM=vt");
	vl_strv_free(&p.env.host);
	ctr_plan_host_env(&p, environ_, CTR_CLEAN_ALL, &block);
	CHECK_EQ(p.env.host.n, 2);
	CHECK_STR(p.env.host.v[0], "TERM=vt");
	CHECK_STR(p.env.host.v[1], "LANG=C");
}

TEST(special_names)
{
	PLAN struct plan p = PLAN_INIT;
	struct vl_err err = { 0 };

	CHECK_EQ(ctr_plan_set_env(&p, "PREPEND_PATH=/a", NULL, &err), 0);
	CHECK_EQ(ctr_plan_set_env(&p, "PREPEND_PATH=/b", NULL, &err), 0);
	CHECK_EQ(ctr_plan_set_env(&p, "APPEND_PATH=/c", NULL, &err), 0);
	CHECK_EQ(ctr_plan_set_env(&p, "K=1", NULL, &err), 0);
	CHECK_EQ(ctr_plan_set_env(&p, "K=2=3", NULL, &err), 0);
	CHECK_EQ(ctr_plan_set_env(&p, "HOME=/x", NULL, &err), 0);
	CHECK_EQ(ctr_plan_set_env(&p, "nothing", NULL, &err), -EINVAL);
	CHECK_EQ(ctr_plan_set_env(&p, "=x", NULL, &err), 0);
	CHECK_STR(p.env.path_first, "/b:/a");
	CHECK_STR(p.env.path_last, "/c");
	CHECK_EQ(p.env.set.n, 1);
	CHECK_STR(p.env.set.v[0], "K=2=3");
}

/* What is left of a few variables at one level, as "A B ". */
static char *left(enum plan_clean level)
{
	PLAN struct plan p = PLAN_INIT;
	VL_STRV struct vl_strv none = { 0 };
	VL_BUF struct vl_buf b = { 0 };
	char *const environ_[] = { (char *)"A=1",
				   (char *)"PYTHONPATH=/h",
				   (char *)"LD_PRELOAD=/h.so",
				   (char *)"BASH_FUNC_module%%=() { :; }",
				   (char *)"SLURM_JOB_ID=7",
				   (char *)"CUDA_VISIBLE_DEVICES=0",
				   (char *)"TERM=vt",
				   NULL };

	ctr_plan_host_env(&p, environ_, level, &none);
	for (size_t i = 0; i < p.env.host.n; i++)
		vl_buf_addf(&b, "%.*s ", (int)strcspn(p.env.host.v[i], "="), p.env.host.v[i]);
	return vl_steal(&b.data);
}

TEST(levels_of_cleaning)
{
	static const char *const want[] = {
		[CTR_CLEAN_NONE] = "A PYTHONPATH LD_PRELOAD BASH_FUNC_module%% SLURM_JOB_ID CUDA_VISIBLE_DEVICES TERM ",
		[CTR_CLEAN_HOST_DEV] = "A SLURM_JOB_ID CUDA_VISIBLE_DEVICES TERM PYTHONNOUSERSITE ",
		[CTR_CLEAN_BUT_SCHEDULER] = "SLURM_JOB_ID CUDA_VISIBLE_DEVICES TERM LANG ",
		[CTR_CLEAN_ALL] = "TERM LANG ",
	};

	for (size_t i = 0; i < VL_COUNT(want); i++) {
		VL_FREE char *got = left((enum plan_clean)i);
		CHECK_STR(got, want[i]);
	}
}

/* Value of X after a text that is more than assignments; the error where there is one. */
static char *shell(const char *text)
{
	PLAN struct plan p = PLAN_INIT;
	struct vl_err err = { 0 };
	char *const environ_[] = { (char *)"H=it's \"h\"\nst", (char *)"UID=1", (char *)"X.Y=1", (char *)"PWD=/x",
				   NULL };

	if (ctr_plan_env_text(&p, text, "the file", environ_, NULL, &err) < 0)
		return vl_strdup(err.text);
	for (size_t i = 0; i < p.env.set.n; i++)
		if (!vl_prefix(p.env.set.v[i], "X=") && !vl_prefix(p.env.set.v[i], "Y="))
			CHECK_FAIL("%s was assigned by nobody", p.env.set.v[i]);
	const char *x = ctr_env_get(&p.env.set, "X");
	return vl_strdup(x ? x : "-");
}

TEST(files_that_are_programs_are_read_by_the_shell)
{
	static const char *const t[][2] = {
		{ "X=$(echo 1)", "1" },
		{ "Y=1\nif [ \"$Y\" = 1 ]; then X=\"[$H]\"; fi", "[it's \"h\"\nst]" },
		{ "f() { echo \"a  b\"; }\nX=\"$(f)\"", "a  b" },
		{ "for Y in 1 2; do X=$X$Y; done", "12" },
		{ "X=$(printf '\\001\\033\\047')", "\001\033'" },
		{ "H=$(:)\nunset H\nX=\"${H-none}\"", "none" },
	};

	for (size_t i = 0; i < VL_COUNT(t); i++) {
		VL_FREE char *x = shell(t[i][0]);
		CHECK_STR(x, t[i][1]);
	}
}

TEST(the_shell_starts_no_program_and_its_failure_is_one)
{
	static const char *const bad[] = { "X=1\nexit 3", "X=$(", "if", "X=1\nexec /bin/true", "kill -9 $$" };

	CHECK(freopen("/dev/null", "w", stderr)); /* what the shell says about it */
	VL_FREE char *x = shell("X=\"$(/bin/cat /etc/passwd; touch made)none\"");
	CHECK_STR(x, "none");
	CHECK(access("made", F_OK) < 0);
	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		VL_FREE char *got = shell(bad[i]);
		CHECK(strstr(got, "the file: /bin/sh ended"));
	}
}

TEST(ansi_c_quotes_are_known_where_asked_for)
{
	CTR_SCOPE struct ctr_scope scope = { .ansi_c = true };

	CHECK(ctr_eval_text("export A=$'a\\n\\x41\\101\\E\\'\\\\'b", &scope));
	CHECK_STR(ctr_env_get(&scope.env, "A"), "a\nAA\033'\\b");
	static const char *const bad[] = { "export A=$'open", "export A=$'\\0'", "export A=$'\\x'", "export A=$'\\" };
	for (size_t i = 0; i < VL_COUNT(bad); i++)
		CHECK(!ctr_eval_text(bad[i], &scope));
}
