#include "check.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <vial/policy.h>

#define A "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define B "SHA256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
#define PGP "0123456789ABCDEF0123456789ABCDEF01234567"

static void add(struct pol_list *l, const char *text)
{
	struct vl_err err = { 0 };

	if (pol_read_text(text, strlen(text), "p.toml", l, &err) < 0)
		CHECK_FAIL("%s", err.text);
}

static enum pol_action decide(const char *site, const char *user, const struct pol_facts *f)
{
	POL struct pol p = { 0 };

	add(&p.site, site);
	add(&p.user, user);
	return pol_decide(&p, f).action;
}

static struct pol_facts sif(void)
{
	return (struct pol_facts){
		.kind = POL_SIF, .use = POL_IMAGE, .path = vl_strdup("/apps/a.sif"), .looked = true
	};
}

TEST(patterns)
{
	static const struct {
		const char *pattern, *text;
		bool match;
	} t[] = {
		{ "/a/b", "/a/b", true },
		{ "/a/b", "/a/bc", false },
		{ "/a/b", "/a/b/c", false },
		{ "/a/*", "/a/b", true },
		{ "/a/*", "/a/", true },
		{ "/a/*", "/a/b/c", false },
		{ "/a/**", "/a/b/c", true },
		{ "/a/**", "/ab/c", false },
		{ "/a/**", "/a", false },
		{ "/**/x.sif", "/a/b/x.sif", true },
		{ "/**/x.sif", "/a/b/y.sif", false },
		{ "/**/b/*.sif", "/a/b/b/x.sif", true },
		{ "/**/b/*.sif", "/a/b/c/x.sif", false },
		{ "/a/*.sif", "/a/x.sif.sif", true },
		{ "/a/*.sif", "/a/x.sif.bak", false },
		{ "/a/?.sif", "/a/x.sif", true },
		{ "/a/?.sif", "/a/.sif", false },
		{ "/a?b", "/a/b", false },
		{ "/*/b/**", "/a/b/c", true },
		{ "/*/b/**", "/a/a/b/c", false },
		{ "/a/**/", "/a/b/", true },
		{ "**", "", true },
		{ "*", "", true },
		{ "", "", true },
		{ "", "a", false },
		{ "docker://r.org/lab/**", "docker://r.org/lab/a/b@sha256:00", true },
		{ "docker://r.org/lab/**", "docker://r.org.evil.org/lab/a", false },
		{ "/[ab]", "/a", false },
		{ "/a\\*", "/a*", false },
	};

	for (size_t i = 0; i < VL_COUNT(t); i++)
		if (pol_matches(t[i].pattern, t[i].text) != t[i].match)
			CHECK_FAIL("'%s' and '%s': not %d", t[i].pattern, t[i].text, t[i].match);
}

TEST(a_pattern_of_many_stars_ends)
{
	char pattern[201], text[4096];

	for (size_t i = 0; i < 200; i++)
		pattern[i] = i % 2 ? 'a' : '*';
	pattern[200] = 0;
	memset(text, 'a', sizeof text);
	text[sizeof text - 1] = 0;
	text[sizeof text - 2] = 'b';
	CHECK(!pol_matches(pattern, text));
	for (size_t i = 0; i + 2 < 200; i += 3)
		memcpy(pattern + i, "**a", 3);
	CHECK(!pol_matches(pattern, text));
}

TEST(the_first_rule_that_holds_decides)
{
	POL_FACTS struct pol_facts f = sif();

	CHECK_EQ(decide("", "", &f), POL_ALLOW);
	CHECK_EQ(decide("default = 'deny'", "", &f), POL_DENY);
	CHECK_EQ(decide("default = 'deny'\n[[rule]]\naction = 'allow'\npath = '/apps/**'", "", &f), POL_ALLOW);
	CHECK_EQ(decide("[[rule]]\naction = 'warn'\npath = '/apps/**'\n[[rule]]\naction = 'deny'", "", &f), POL_WARN);
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\npath = ['/x', '/apps/*']\n[[rule]]\naction = 'allow'", "", &f),
		 POL_DENY);
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nkind = ['squashfs', 'directory', 'ext3']", "", &f), POL_ALLOW);
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nkind = 'sif'\nuse = ['bind', 'overlay']", "", &f), POL_ALLOW);
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nkind = 'sif'\nuse = 'image'", "", &f), POL_DENY);
}

TEST(a_user_can_add_strictness_only)
{
	static const char *const words[] = { "allow", "warn", "deny" };
	POL_FACTS struct pol_facts f = sif();

	for (int site = 0; site < 3; site++)
		for (int user = 0; user < 3; user++) {
			VL_FREE char *s = vl_asprintf("[[rule]]\naction = '%s'", words[site]);
			VL_FREE char *u = vl_asprintf("default = '%s'", words[user]);
			CHECK_EQ(decide(s, u, &f), VL_MAX(site, user));
			CHECK_EQ(decide(u, s, &f), VL_MAX(site, user));
		}
}

TEST(of_several_defaults_the_strictest_counts)
{
	POL struct pol p = { 0 };
	POL_FACTS struct pol_facts f = sif();

	add(&p.site, "default = 'deny'");
	add(&p.site, "default = 'allow'");
	CHECK_EQ(pol_decide(&p, &f).action, POL_DENY);
}

TEST(a_file_without_a_name_is_under_no_path)
{
	POL_FACTS struct pol_facts f = { .kind = POL_SIF, .use = POL_IMAGE, .looked = true };

	CHECK_EQ(decide("default = 'deny'\n[[rule]]\naction = 'allow'\npath = '/**'", "", &f), POL_DENY);
}

/* Signatures that make a rule hold, and those that do not. */
TEST(what_allows_is_covered_by_one_signature_of_a_signer_of_the_rule)
{
	static const char rule[] = "default = 'deny'\n[[rule]]\naction = 'allow'\nsigner = ['" A "']\n"
				   "source = 'docker://r.org/**'\nobjects = ['sbom', 'provenance']\n";
	POL_FACTS struct pol_facts f = sif();

	f.source = vl_strdup("docker://r.org/lab/x@sha256:00");
	f.objects = POL_SBOM | POL_PROVENANCE;
	CHECK_EQ(decide(rule, "", &f), POL_DENY); /* words of the image alone */
	struct pol_signature *b = pol_facts_add(&f, POL_BY_KEY, B, NULL);
	b->image = b->source = true;
	b->objects = f.objects;
	CHECK_EQ(decide(rule, "", &f), POL_DENY); /* another's */
	struct pol_signature *a = pol_facts_add(&f, POL_BY_KEY, A, NULL);
	a->image = true;
	CHECK_EQ(decide(rule, "", &f), POL_DENY); /* of the image, not of what it says */
	a->source = true;
	a->objects = POL_SBOM;
	CHECK_EQ(decide(rule, "", &f), POL_DENY);
	struct pol_signature *more = pol_facts_add(&f, POL_BY_KEY, A, NULL);
	more->objects = POL_PROVENANCE;
	CHECK_EQ(decide(rule, "", &f), POL_DENY); /* two halves are not one */
	f.sigs[1].objects |= POL_PROVENANCE;
	CHECK_EQ(decide(rule, "", &f), POL_ALLOW);
	f.sigs[1].image = false;
	CHECK_EQ(decide(rule, "", &f), POL_DENY);
	f.sigs[1].image = true;
	vl_freep(&f.source);
	f.source = vl_strdup("docker://r.org.evil.org/x");
	CHECK_EQ(decide(rule, "", &f), POL_DENY);
}

TEST(the_digest_of_a_source_may_be_left_out_of_the_rule)
{
	POL_FACTS struct pol_facts f = sif();

	f.source = vl_strdup("docker://r.org/lab/x@sha256:00");
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nsource = 'docker://r.org/lab/x'", "", &f), POL_DENY);
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nsource = 'docker://r.org/lab/x@sha256:00'", "", &f), POL_DENY);
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nsource = 'docker://r.org/lab/x@sha256:01'", "", &f), POL_ALLOW);
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nsource = 'docker://r.org/lab'", "", &f), POL_ALLOW);
}

TEST(what_denies_takes_the_image_by_its_word)
{
	POL_FACTS struct pol_facts f = sif();

	f.source = vl_strdup("docker://evil.org/x");
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nsource = 'docker://evil.org/**'", "", &f), POL_DENY);
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nsigner = '" A "'", "", &f), POL_ALLOW);
	pol_facts_add(&f, POL_BY_KEY, A, NULL); /* covers not even the image */
	CHECK_EQ(decide("[[rule]]\naction = 'deny'\nsigner = '" A "'", "", &f), POL_DENY);
}

TEST(signers_of_each_kind)
{
	static const char certified[] = "default = 'deny'\n[[rule]]\naction = 'allow'\n"
					"signer = [{ subject = 'CN=jane,*', roots = '/etc/ca.pem' }]\n";
	POL_FACTS struct pol_facts f = sif();

	pol_facts_add(&f, POL_BY_PGP, PGP, "Jane")->image = true;
	CHECK_EQ(decide("default = 'deny'\n[[rule]]\naction = 'allow'\nsigner = '" PGP "'", "", &f), POL_ALLOW);
	CHECK_EQ(decide("default = 'deny'\n[[rule]]\naction = 'allow'\nsigner = "
			"'0123 4567 89ab cdef 0123  4567 89ab cdef 0123 4567'",
			"", &f),
		 POL_ALLOW);
	CHECK_EQ(decide(certified, "", &f), POL_DENY);
	pol_facts_add(&f, POL_BY_KEY, A, "CN=jane,O=x")->image = true; /* a name that is no subject */
	CHECK_EQ(decide(certified, "", &f), POL_DENY);
	struct pol_signature *s = pol_facts_add(&f, POL_BY_CERTIFICATE, A, "CN=jane,O=x");
	s->image = true;
	CHECK_EQ(decide(certified, "", &f), POL_DENY); /* under no root */
	s->roots = vl_strdup("/etc/other.pem");
	CHECK_EQ(decide(certified, "", &f), POL_DENY);
	vl_freep(&s->roots);
	s->roots = vl_strdup("/etc/ca.pem");
	CHECK_EQ(decide(certified, "", &f), POL_ALLOW);
}

TEST(an_image_is_looked_into_when_the_decision_takes_it)
{
	POL_FACTS struct pol_facts f = sif();
	POL struct pol p = { 0 };

	f.looked = false;
	add(&p.site, "[[rule]]\naction = 'allow'\npath = '/apps/**'\n[[rule]]\naction = 'allow'\nsigner = '" A "'\n");
	CHECK(!pol_decide(&p, &f).look);
	vl_freep(&f.path);
	f.path = vl_strdup("/home/a.sif");
	CHECK(pol_decide(&p, &f).look);
	add(&p.user, "[[rule]]\naction = 'deny'\nkind = 'sif'");
	CHECK(!pol_decide(&p, &f).look); /* whatever it is, it is denied */
	CHECK_EQ(pol_decide(&p, &f).action, POL_DENY);
}

TEST(what_was_trusted_by_its_tree_must_be_mounted_by_it)
{
	static const char plain[] = "[[rule]]\naction = 'allow'\nsigner = '" A "'";
	POL_FACTS struct pol_facts f = sif();
	POL struct pol p = { 0 }, tree = { 0 };

	pol_facts_add(&f, POL_BY_KEY, A, NULL)->image = true;
	add(&p.site, plain);
	add(&tree.site, "default = 'deny'\n[[rule]]\naction = 'allow'\nsigner = '" A "'\ntree = true");
	CHECK(!pol_decide(&p, &f).tree);
	f.by_tree = true;
	CHECK(pol_decide(&p, &f).tree);
	f.by_tree = false;
	CHECK_EQ(pol_decide(&tree, &f).action, POL_DENY);
	f.sigs[0].objects = POL_TREE;
	CHECK_EQ(pol_decide(&tree, &f).action, POL_ALLOW);
	CHECK(pol_decide(&tree, &f).tree);
}

TEST(mistakes_are_named_with_file_and_line)
{
	static const struct {
		const char *text, *says;
	} t[] = {
		{ "default = 'no'", "p.toml:1: default is \"allow\"" },
		{ "\ndefalt = 'deny'", "p.toml:2: defalt is no word of a policy" },
		{ "rule = 1", "p.toml:1: rule is written [[rule]]" },
		{ "[rule]\naction = 'deny'", "rule is written [[rule]]" },
		{ "rule = [1]", "a rule begins with [[rule]]" },
		{ "[[rule]]\npath = '/x'", "p.toml:1: a rule needs an action" },
		{ "[[rule]]\naction = 1", "p.toml:2: action is" },
		{ "[[rule]]\naction = 'deny'\n\npaths = '/x'", "p.toml:4: paths is no word of a rule" },
		{ "[[rule]]\naction = 'deny'\npath = 'x'", "p.toml:3: path begins with '/'" },
		{ "[[rule]]\naction = 'deny'\npath = '/x/'", "p.toml:3: path has no" },
		{ "[[rule]]\naction = 'deny'\npath = '/x/../y'", "p.toml:3: path has no" },
		{ "[[rule]]\naction = 'deny'\npath = []", "p.toml:3: path is an empty list" },
		{ "[[rule]]\naction = 'deny'\npath = ['/x', 1]", "p.toml:3: path is a string" },
		{ "[[rule]]\naction = 'deny'\npath = ''", "p.toml:3: path is a string" },
		{ "[[rule]]\naction = 'deny'\nkind = 'sfi'",
		  "kind has no 'sfi'; there is sif, squashfs, ext3, directory" },
		{ "[[rule]]\naction = 'deny'\nuse = 'root'", "use has no 'root'" },
		{ "[[rule]]\naction = 'deny'\nobjects = 'tree'", "objects has no 'tree'" },
		{ "[[rule]]\naction = 'deny'\nsigner = 'SHA256:AAAA'", "p.toml:3: signer is the whole id" },
		{ "[[rule]]\naction = 'deny'\nsigner = 'ABCDEF01'", "signer is the whole id" },
		{ "[[rule]]\naction = 'deny'\nsigner = []", "signer is an empty list" },
		{ "[[rule]]\naction = 'deny'\nsigner = [{ subject = 'CN=x' }]", "signer by certificate needs" },
		{ "[[rule]]\naction = 'deny'\nsigner = [{ subject = 'CN=x', roots = 'x' }]", "needs" },
		{ "[[rule]]\naction = 'deny'\nsigner = [{ subject = 'x', roots = '/x', root = 1 }]", "nothing else" },
		{ "[[rule]]\naction = 'allow'\nsource = 'docker://**'",
		  "p.toml:3: source allows nothing without a signer" },
		{ "[[rule]]\naction = 'warn'\nobjects = 'sbom'", "objects allows nothing without a signer" },
		{ "[[rule]]\naction = 'allow'\ntree = true", "tree allows nothing without a signer" },
		{ "[[rule]]\naction = 'deny'\ntree = false", "tree is true" },
		{ "[[rule]]\naction = 'deny'\nname = 1", "name is a string" },
		{ "[[rule]\n", "p.toml: line 1:" },
	};

	for (size_t i = 0; i < VL_COUNT(t); i++) {
		POL struct pol p = { 0 };
		struct vl_err err = { 0 };
		if (pol_read_text(t[i].text, strlen(t[i].text), "p.toml", &p.site, &err) == 0)
			CHECK_FAIL("taken: %s", t[i].text);
		CHECK_HAS(err.text, t[i].says);
	}
}

/* ---- files ---- */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static int read_dir(struct pol_list *l, struct vl_err *err)
{
	return pol_read_dir("d", POL_USER, l, err);
}

TEST(files_are_read_in_the_order_of_their_names)
{
	POL struct pol p = { 0 };
	struct vl_err err = { 0 };

	mkdir("d", 0755);
	write_file("d/20.toml", "[[rule]]\naction = 'warn'");
	write_file("d/10.toml", "[[rule]]\naction = 'deny'");
	write_file("d/.hidden.toml", "nonsense");
	write_file("d/05.toml~", "nonsense");
	CHECK_EQ(read_dir(&p.user, &err), 0);
	CHECK_EQ(p.user.files.n, 2);
	CHECK_EQ(p.user.v[0].action, POL_DENY);
	CHECK_HAS(p.user.v[0].file, "d/10.toml");
	CHECK_EQ(p.user.v[0].line, 1);
	CHECK_EQ(p.user.v[1].action, POL_WARN);
}

TEST(a_directory_that_is_not_there_has_no_rules)
{
	POL struct pol p = { 0 };
	struct vl_err err = { 0 };

	CHECK_EQ(read_dir(&p.user, &err), 0);
	CHECK_EQ(pol_read_dir("d/e", POL_SITE, &p.site, &err), 0);
	CHECK_EQ(p.user.files.n + p.site.files.n, 0);
}

TEST(what_cannot_be_read_is_no_permission)
{
	POL struct pol p = { 0 };
	struct vl_err err = { 0 };

	CHECK(symlink("nowhere", "d") == 0);
	CHECK(read_dir(&p.user, &err) < 0);
	unlink("d");
	write_file("d", "");
	CHECK(read_dir(&p.user, &err) < 0);
	unlink("d");
	mkdir("d", 0755);
	CHECK(symlink("nowhere", "d/1.toml") == 0);
	CHECK(read_dir(&p.user, &err) < 0);
	CHECK_HAS(err.text, "d/1.toml");
	unlink("d/1.toml");
	mkdir("d/1.toml", 0755);
	CHECK(read_dir(&p.user, &err) < 0);
	rmdir("d/1.toml");
	write_file("d/1.toml", "[[rule]]\naction =");
	CHECK(read_dir(&p.user, &err) < 0);
	CHECK_HAS(err.text, "d/1.toml: line 2");
	write_file("d/1.toml", "default = 'deny'");
	CHECK_EQ(read_dir(&p.user, &err), 0);
	CHECK(chmod("d/1.toml", 0000) == 0);
	CHECK(read_dir(&p.user, &err) < 0 || geteuid() == 0);
}

TEST(what_others_can_write_is_refused)
{
	static const mode_t modes[] = { 0664, 0646, 0666 };
	POL struct pol p = { 0 };
	struct vl_err err = { 0 };

	mkdir("d", 0755);
	write_file("d/1.toml", "default = 'deny'");
	for (size_t i = 0; i < VL_COUNT(modes); i++) {
		chmod("d/1.toml", modes[i]);
		CHECK_EQ(read_dir(&p.user, &err), -EPERM);
		CHECK_HAS(err.text, "d/1.toml can be written to by others");
	}
	chmod("d/1.toml", 0644);
	chmod("d", 0775);
	CHECK_EQ(read_dir(&p.user, &err), -EPERM);
	chmod("d", 0755);
	CHECK_EQ(read_dir(&p.user, &err), 0);
	if (geteuid() == 0) {
		CHECK_EQ(pol_read_dir("d", POL_SITE, &p.site, &err), 0);
		CHECK(chown("d/1.toml", 1234, 0) == 0);
		CHECK_EQ(read_dir(&p.user, &err), -EPERM);
		CHECK_HAS(err.text, "belongs to another user");
	}
	CHECK_EQ(pol_read_dir("d", POL_SITE, &p.site, &err), -EPERM); /* the site is root */
	CHECK_HAS(err.text, "root's");
}

/* Returns -EAGAIN where there can be no such namespace. */
static int read_as_in_a_container(struct pol_list *l, struct vl_err *err)
{
	static const char map[] = "1234 1234 1";

	if (setresuid(1234, 1234, 1234) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0 || unshare(CLONE_NEWUSER) < 0)
		return -EAGAIN;
	int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, map, strlen(map)) < 0)
		return -EAGAIN;
	close(fd);
	return pol_read_dir("d", POL_SITE, l, err);
}

TEST(root_is_nobody_where_no_id_is_his)
{
	if (geteuid() != 0)
		return;
	for (uid_t owner = 0; owner <= 1234; owner += 1234) {
		POL struct pol p = { 0 };
		struct vl_err err = { 0 };
		mkdir("d", 0755);
		write_file("d/1.toml", "default = 'deny'");
		chmod("d/1.toml", 0644);
		CHECK(chmod(".", 0755) == 0 && chown("d/1.toml", owner, 0) == 0);
		pid_t pid = fork();
		if (pid == 0) {
			int r = read_as_in_a_container(&p.site, &err);
			_exit(r == -EAGAIN || r == (owner ? -EPERM : 0) ? 0 : 1);
		}
		CHECK_EQ(vl_wait(pid), 0);
	}
}

/* ---- facts on their way ---- */

TEST(facts_come_through)
{
	POL_FACTS struct pol_facts f = sif(), got = { 0 };
	struct vl_err err = { 0 };

	f.source = vl_strdup("oci:/x\"\n\x01:y");
	f.objects = POL_SBOM | POL_TREE;
	f.by_tree = true;
	f.why = vl_strdup("no");
	struct pol_signature *s = pol_facts_add(&f, POL_BY_CERTIFICATE, A, "CN=\xff");
	s->roots = vl_strdup("/r");
	s->image = true;
	s->objects = POL_PROVENANCE;
	pol_facts_add(&f, POL_BY_PGP, PGP, NULL)->source = true;
	VL_FREE char *text = pol_facts_text(&f);
	CHECK_EQ(pol_facts_parse(text, strlen(text), &got, &err), 0);
	VL_FREE char *again = pol_facts_text(&got);
	CHECK(vl_streq(text, again));
	CHECK(got.looked && got.by_tree && got.n_sigs == 2 && got.sigs[0].image && !got.sigs[1].image &&
	      got.sigs[1].source);
	CHECK(vl_streq(got.source, f.source) && vl_streq(got.sigs[0].roots, "/r") && !got.sigs[1].roots);
}

TEST(facts_that_make_no_sense_are_refused)
{
	static const char *const t[] = { "",
					 "[]",
					 "{",
					 "{\"signatures\":[1]}",
					 "{\"signatures\":[{\"by\":\"key\"}]}",
					 "{\"signatures\":[{\"by\":\"king\",\"id\":\"x\"}]}",
					 "{\"signatures\":[{\"id\":\"x\"}]}" };
	VL_BUF struct vl_buf many = { 0 };
	struct vl_err err = { 0 };

	for (size_t i = 0; i < VL_COUNT(t); i++) {
		POL_FACTS struct pol_facts f = { 0 };
		if (pol_facts_parse(t[i], strlen(t[i]), &f, &err) == 0)
			CHECK_FAIL("taken: %s", t[i]);
		CHECK(!f.looked);
	}
	vl_buf_adds(&many, "{\"signatures\":[");
	for (int i = 0; i <= POL_SIGNATURES_MAX; i++)
		vl_buf_addf(&many, "%s{\"by\":\"key\",\"id\":\"x\"}", i ? "," : "");
	vl_buf_adds(&many, "]}");
	POL_FACTS struct pol_facts f = { 0 };
	CHECK(pol_facts_parse(many.data, many.len, &f, &err) < 0);
}

TEST(an_explanation_names_every_rule_and_the_one_that_decides)
{
	POL_FACTS struct pol_facts f = sif();
	POL struct pol p = { 0 };

	add(&p.site, "default = 'deny'\n[[rule]]\nname = 'n'\naction = 'allow'\npath = '/x'\nsigner = '" A "'\n");
	VL_JSON vl_json *j = pol_explain(&p, &f);
	VL_FREE char *text = vl_json_text(j, false);
	CHECK(vl_streq(vl_json_str(j, "decision"), "deny"));
	const vl_json *rules = vl_json_arr(vl_json_obj(j, "site"), "rules");
	CHECK_EQ(vl_json_len(rules), 2);
	CHECK(!vl_json_is_true(vl_json_get(vl_json_at(rules, 0), "decides")));
	CHECK(vl_json_is_true(vl_json_get(vl_json_at(rules, 1), "decides")));
	const vl_json *c = vl_json_at(vl_json_arr(vl_json_at(rules, 0), "conditions"), 0);
	int64_t line = 0;
	CHECK(vl_json_int(c, "line", &line) && line == 5);
	CHECK(vl_streq(vl_json_str(c, "why"), "it is /apps/a.sif"));
}
