/* The option parser: what users' fingers and environment files already know. */
#include "check.h"

#include "cmd/cmd.h"

struct values {
	bool flag, on;
	const char *str;
	struct vl_strv list, lines, env, files, keys;
	const char *cwd;
	uint64_t number;
	const char *anyhow;
};
#define O(f) offsetof(struct values, f)
static const struct opt table[] = {
	{ 'f', "flag", OPT_FLAG, O(flag), NULL, "", "FLAG", 0 },
	{ 'F', "no-on", OPT_NOFLAG, O(on), NULL, "", NULL, 0 },
	{ 's', "str", OPT_STR, O(str), "TEXT", "", "STR OLDSTR", 0 },
	{ 'B', "bind", OPT_LIST, O(list), "SPEC", "", "BIND BINDPATH", 0 },
	{ 0, "mount", OPT_LINES, O(lines), "SPEC", "", "MOUNT", 0 },
	{ 0, "env", OPT_ENV, O(env), "K=V", "", NULL, 0 },
	{ 0, "file", OPT_LIST, O(files), "F", "", "FILE", OPT_ENV_FIRST },
	{ 0, "key", OPT_LINES, O(keys), "K", "", "KEY", OPT_ONE_PLACE },
	{ 0, "cwd", OPT_STR, O(cwd), "D", "", "CWD", 0 },
	{ 0, "pwd", OPT_STR, O(cwd), "D", "", "PWDIR", 0 },
	{ 'n', "number", OPT_U64, O(number), "N", "", NULL, 0 },
	{ 0, "anyhow", OPT_STR, O(anyhow), "TEXT", "", "ANYHOW", OPT_ANYHOW },
	{ 0, "secret", OPT_FLAG, O(flag), NULL, "", NULL, OPT_HIDDEN },
	{ 'v', "volume", OPT_REFUSED, 0, NULL, "use --bind", "VOLUME", OPT_HIDDEN },
	OPT_END,
};

static struct vl_err err;
static const struct opt_config *config;
static int first;
static struct vl_strv owned; /* the parser reorders argv, so the words are kept here too */
static char *words[32];
static int n_words;

/* Splits at spaces; an underscore stands for a space inside a word. */
static int parse(struct values *v, const char *line, unsigned how)
{
	VL_FREE char *copy = vl_asprintf("prog %s", line);

	*v = (struct values){ .on = true };
	vl_strv_free(&owned);
	n_words = 0;
	for (char *save, *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		for (char *p = strchr(w, '_'); p; p = strchr(p, '_'))
			*p = ' ';
		vl_strv_add(&owned, w);
		words[n_words++] = owned.v[owned.n - 1];
	}
	words[n_words] = NULL;
	err = (struct vl_err){ 0 };
	return opt_parse(table, v, n_words, words, how, config, &first, &err);
}

static void done(struct values *v)
{
	opt_free(table, v);
	CHECK(!v->list.v && !v->lines.v && !v->env.v);
	vl_strv_free(&owned);
}

static char *joined(const struct vl_strv *l)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	for (size_t i = 0; i < l->n; i++)
		vl_buf_addf(&b, "%s%s", i ? "|" : "", l->v[i]);
	return vl_steal(&b.data);
}

TEST(every_way_to_give_a_value)
{
	static const char *const ways[] = {
		"--str x img", "--str=x img", "-s x img", "-sx img", "-s=x img", "-fs x img"
	};

	for (size_t i = 0; i < VL_COUNT(ways); i++) {
		struct values v;
		CHECK_EQ(parse(&v, ways[i], 0), 0);
		CHECK_STR(v.str, "x");
		CHECK_STR(words[first], "img");
		done(&v);
	}
}

TEST(flags)
{
	struct values v;

	CHECK_EQ(parse(&v, "-f -F", 0), 0);
	CHECK(v.flag && !v.on);
	CHECK_EQ(parse(&v, "--flag=false --no-on=false", 0), 0);
	CHECK(!v.flag && v.on);
	CHECK_EQ(parse(&v, "--flag=TRUE", 0), 0);
	CHECK(v.flag);
	CHECK_EQ(parse(&v, "-f=false", 0), 0);
	CHECK(!v.flag);
	CHECK_EQ(parse(&v, "--flag=maybe", 0), -EINVAL);
	CHECK_STR(err.text, "--flag takes true or false, not 'maybe'");
	done(&v);
}

TEST(options_end_at_the_image)
{
	struct values v;

	CHECK_EQ(parse(&v, "-f img cmd --flag -n x", 0), 0);
	CHECK_EQ(n_words - first, 5);
	CHECK_STR(words[first], "img");
	CHECK_STR(words[n_words - 1], "x");
	CHECK_EQ(parse(&v, "-f -- --str img", 0), 0);
	CHECK_STR(words[first], "--str");
	CHECK_EQ(parse(&v, "-", 0), 0); /* a lone dash is a word */
	CHECK_STR(words[first], "-");
	done(&v);
}

TEST(interspersed_options_may_follow)
{
	struct values v;

	CHECK_EQ(parse(&v, "a -f b --str x c -- -n", OPT_INTERSPERSED), 0);
	CHECK(v.flag);
	CHECK_STR(v.str, "x");
	CHECK_EQ(n_words - first, 4);
	CHECK_STR(words[first], "a");
	CHECK_STR(words[first + 2], "c");
	CHECK_STR(words[first + 3], "-n");
	done(&v);
}

TEST(lists_split_at_commas)
{
	struct values v;

	CHECK_EQ(parse(&v, "--bind a,b -B c -Bd\\,e,", 0), 0);
	VL_FREE char *l = joined(&v.list);
	CHECK_STR(l, "a|b|c|d\\,e");
	done(&v);
}

TEST(env_values_keep_their_commas)
{
	struct values v;

	CHECK_EQ(parse(&v, "--env V=a,b --env A=1,B=2 --env C=x,y,D_=3", 0), 0);
	VL_FREE char *l = joined(&v.env);
	CHECK_STR(l, "V=a,b|A=1|B=2|C=x,y,D =3");
	done(&v);
}

TEST(lines_do_not_split)
{
	struct values v;

	CHECK_EQ(parse(&v, "--mount type=bind,src=a,dst=b --mount c", 0), 0);
	VL_FREE char *l = joined(&v.lines);
	CHECK_STR(l, "type=bind,src=a,dst=b|c");
	done(&v);
	setenv("VIAL_MOUNT", "one,1\n\ntwo\n", 1);
	CHECK_EQ(parse(&v, "--mount zero", 0), 0);
	VL_FREE char *e = joined(&v.lines);
	CHECK_STR(e, "zero|one,1|two");
	done(&v);
}

TEST(numbers)
{
	struct values v;

	CHECK_EQ(parse(&v, "-n 3", 0), 0);
	CHECK_EQ(v.number, 3);
	CHECK_EQ(parse(&v, "--number=x", 0), -EINVAL);
	CHECK_STR(err.text, "--number takes a number, not 'x'");
	CHECK_EQ(parse(&v, "-n -1", 0), -EINVAL);
	done(&v);
}

TEST(environment_twins)
{
	struct values v;

	setenv("SINGULARITY_STR", "sing", 1);
	CHECK_EQ(parse(&v, "", 0), 0);
	CHECK_STR(v.str, "sing");
	setenv("APPTAINER_STR", "appt", 1);
	CHECK_EQ(parse(&v, "", 0), 0);
	CHECK_STR(v.str, "appt");
	setenv("VIAL_STR", "vial", 1);
	CHECK_EQ(parse(&v, "", 0), 0);
	CHECK_STR(v.str, "vial");
	CHECK_EQ(parse(&v, "--str line", 0), 0); /* the line beats the environment */
	CHECK_STR(v.str, "line");
	setenv("VIAL_FLAG", "1", 1);
	CHECK_EQ(parse(&v, "", 0), 0);
	CHECK(v.flag);
	CHECK_EQ(parse(&v, "--flag=false", 0), 0);
	CHECK(!v.flag);
	setenv("VIAL_FLAG", "perhaps", 1);
	CHECK_EQ(parse(&v, "", 0), -EINVAL);
	CHECK_HAS(err.text, "in the environment: FLAG takes true or false");
	done(&v);
}

TEST(of_commands_of_programs_the_environment_says_little)
{
	struct values v;

	setenv("APPTAINER_STR", "text", 1);
	setenv("VIAL_BIND", "/a", 1);
	setenv("VIAL_ANYHOW", "all the same", 1);
	CHECK_EQ(parse(&v, "--bind /b", OPT_GIVEN), 0);
	CHECK(!v.str);
	CHECK_EQ(v.list.n, 1);
	CHECK_STR(v.anyhow, "all the same");
	done(&v);
	unsetenv("APPTAINER_STR");
	unsetenv("VIAL_BIND");
	unsetenv("VIAL_ANYHOW");
}

TEST(lists_of_the_environment_are_appended)
{
	struct values v;

	setenv("APPTAINER_BINDPATH", "/c,/d", 1);
	CHECK_EQ(parse(&v, "-B /a", 0), 0);
	VL_FREE char *l = joined(&v.list);
	CHECK_STR(l, "/a|/c|/d");
	done(&v);
}

TEST(every_key_of_a_list_counts)
{
	struct values v;

	setenv("VIAL_BIND", "/a", 1);
	setenv("APPTAINER_BINDPATH", "/b", 1);
	CHECK_EQ(parse(&v, "-B /c img", 0), 0);
	VL_FREE char *all = joined(&v.list);
	CHECK_STR(all, "/c|/a|/b");
	done(&v);
}

/* Later files win, and the line beats the environment. */
TEST(lists_whose_later_items_win)
{
	struct values v;

	setenv("VIAL_FILE", "env1,env2", 1);
	CHECK_EQ(parse(&v, "--file line img", 0), 0);
	VL_FREE char *all = joined(&v.files);
	CHECK_STR(all, "env1|env2|line");
	done(&v);
}

/* Else a variable would add one who may to those whom the line names. */
TEST(lists_of_who_may_come_from_one_place)
{
	static struct opt_setting of_file = { (char *)"key", (char *)"file", (char *)"vial.conf", 1 };
	static const struct opt_config file = { &of_file, 1 };
	struct values v;

	config = &file;
	CHECK_EQ(parse(&v, "img", 0), 0);
	VL_FREE char *last = joined(&v.keys);
	CHECK_STR(last, "file");
	done(&v);
	setenv("VIAL_KEY", "env1\nenv2", 1);
	CHECK_EQ(parse(&v, "img", 0), 0);
	VL_FREE char *second = joined(&v.keys);
	CHECK_STR(second, "env1|env2");
	done(&v);
	CHECK_EQ(parse(&v, "--key line img", 0), 0);
	VL_FREE char *first_of_all = joined(&v.keys);
	CHECK_STR(first_of_all, "line");
	done(&v);
	config = NULL;
}

TEST(secrets_are_forgotten_and_nothing_else)
{
	setenv("VIAL_ENCRYPTION_PASSPHRASE", "one", 1);
	setenv("APPTAINER_DOCKER_PASSWORD", "two", 1);
	setenv("SINGULARITYENV_DB_PASSWORD", "three", 1); /* for the container */
	setenv("DB_PASSWORD", "four", 1);
	setenv("VIAL_PASSWORD_FILE", "five", 1);
	char *was = getenv("APPTAINER_DOCKER_PASSWORD");
	opt_forget_secrets();
	CHECK_EQ(memcmp(was, "\0\0\0", 4), 0);
	CHECK_STR(getenv("VIAL_ENCRYPTION_PASSPHRASE"), "");
	CHECK_STR(getenv("SINGULARITYENV_DB_PASSWORD"), "three");
	CHECK_STR(getenv("DB_PASSWORD"), "four");
	CHECK_STR(getenv("VIAL_PASSWORD_FILE"), "five");
}

TEST(two_names_of_one_option)
{
	struct values v;

	setenv("APPTAINER_PWDIR", "/env", 1);
	CHECK_EQ(parse(&v, "--cwd /line img", 0), 0);
	CHECK_STR(v.cwd, "/line");
	done(&v);
}

TEST(one_wrong_word_is_named)
{
	static const struct {
		const char *line, *want;
	} cases[] = {
		{ "--strr x", "unknown option --strr; did you mean --str?" },
		{ "--num 3", "unknown option --num; did you mean --number?" },
		{ "--zzzzzz", "unknown option --zzzzzz" },
		{ "--secrets", "unknown option --secrets" }, /* hidden words are not offered */
		{ "-fx", "unknown option -x" },
		{ "--str", "--str needs a value: --str TEXT" },
		{ "-s", "-s needs a value: -s TEXT" },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct values v;
		CHECK_EQ(parse(&v, cases[i].line, 0), -EINVAL);
		CHECK_STR(err.text, cases[i].want);
		done(&v);
	}
}

TEST(help_is_a_request)
{
	struct values v;

	CHECK_EQ(parse(&v, "--help", 0), -ECANCELED);
	CHECK_EQ(parse(&v, "-fh img", 0), -ECANCELED);
	CHECK_EQ(parse(&v, "img --help", 0), 0); /* the command's own */
	done(&v);
}

TEST(nearest_word)
{
	static const char *const names[] = { "build", "exec", "verify", "sif list" };

	CHECK_STR(opt_nearest("bulid", names, 4), "build");
	CHECK_STR(opt_nearest("ver", names, 4), "verify");
	CHECK_STR(opt_nearest("siflist", names, 4), "sif list");
	CHECK(!opt_nearest("zq", names, 4));
	CHECK(!opt_nearest("", names, 4));
	char huge[200];
	memset(huge, 'x', sizeof huge - 1);
	huge[sizeof huge - 1] = 0;
	CHECK(!opt_nearest(huge, names, 4));
}

TEST(words_of_other_tools_are_refused_with_a_reason)
{
	struct values v;

	CHECK_EQ(parse(&v, "-v a:b", 0), -EINVAL);
	CHECK_STR(err.text, "-v: use --bind");
	CHECK_EQ(parse(&v, "-fv", 0), -EINVAL);
	CHECK_EQ(parse(&v, "--volume=a:b", 0), -EINVAL);
	CHECK_STR(err.text, "--volume: use --bind");
	CHECK_EQ(parse(&v, "--volume=false x", 0), 0);
	done(&v);
	setenv("APPTAINER_VOLUME", "1", 1);
	CHECK_EQ(parse(&v, "x", 0), -EINVAL);
	CHECK(strstr(err.text, "in the environment"));
	setenv("APPTAINER_VOLUME", "0", 1);
	CHECK_EQ(parse(&v, "x", 0), 0);
	done(&v);
	unsetenv("APPTAINER_VOLUME");
}

TEST(a_global_option_after_the_command_is_told_its_place)
{
	struct values v;

	CHECK_EQ(parse(&v, "--debug", 0), -EINVAL);
	CHECK(strstr(err.text, "before the command"));
	CHECK_EQ(parse(&v, "-q", 0), -EINVAL);
	CHECK(strstr(err.text, "before the command"));
}
