#include "check.h"

#include <image/tree.h>

static struct img_budget plenty = { 1000000, 1000000, 1000000, 1000000 };

static struct img_entry *add(struct img_log *l, uint8_t type, const char *path, const char *target)
{
	struct img_entry *e = img_log_add(l);
	e->type = type;
	e->path = vl_strdup(path);
	e->target = target ? vl_strdup(target) : NULL;
	if (type == IMG_FILE)
		e->file = vl_alloc(sizeof *e->file);
	return e;
}

static int apply(struct img_tree *t, struct img_log *l, struct vl_err *err)
{
	return img_tree_apply(t, l, err);
}

static struct img_inode *inode_at(struct img_tree *t, const char *path)
{
	struct img_node *n = img_tree_find(t, path);
	return n ? n->inode : NULL;
}

TEST(a_link_may_replace_the_folder_of_its_target)
{
	struct img_log l = { 0 };
	struct img_tree *t = img_tree_new(&plenty);
	struct vl_err err = { 0 };

	add(&l, IMG_DIR, "a", NULL);
	add(&l, IMG_FILE, "a/f", NULL);
	add(&l, IMG_HARDLINK, "a", "a/f");
	CHECK_EQ(apply(t, &l, &err), 0);
	CHECK_EQ(inode_at(t, "a")->type, IMG_FILE);
	CHECK_EQ(inode_at(t, "a")->nlink, 1);
	CHECK(!img_tree_find(t, "a/f"));
	img_tree_free(t);
	img_log_free(&l);
}

TEST(whiteouts_act_on_lower_layers_only)
{
	struct img_log low = { 0 }, high = { 0 };
	struct img_tree *t = img_tree_new(&plenty);
	struct vl_err err = { 0 };

	add(&low, IMG_FILE, "d/old", NULL);
	add(&low, IMG_FILE, "d/sub/deep", NULL);
	add(&low, IMG_FILE, "gone", NULL);
	add(&high, IMG_FILE, "d/new", NULL);
	add(&high, IMG_FILE, "gone", NULL); /* made again beside its own whiteout */
	add(&high, IMG_OPAQUE, "d", NULL);
	add(&high, IMG_WHITEOUT, "gone", NULL);
	add(&high, IMG_WHITEOUT, "never/there", NULL);
	CHECK_EQ(apply(t, &low, &err), 0);
	CHECK_EQ(apply(t, &high, &err), 0);
	CHECK(!img_tree_find(t, "d/old"));
	CHECK(!img_tree_find(t, "d/sub"));
	CHECK(img_tree_find(t, "d/new"));
	CHECK(inode_at(t, "gone")->e == &high.e[1]);
	CHECK(!img_tree_find(t, "never"));
	img_tree_free(t);
	img_log_free(&low);
	img_log_free(&high);
}

TEST(links_stay_inside)
{
	struct img_log l = { 0 };
	struct img_tree *t = img_tree_new(&plenty);
	struct vl_err err = { 0 };

	add(&l, IMG_DIR, "d", NULL);
	add(&l, IMG_SYMLINK, "d/up", "../../../../..");
	add(&l, IMG_SYMLINK, "abs", "/etc");
	add(&l, IMG_FILE, "d/up/etc/a", NULL);
	add(&l, IMG_FILE, "abs/b", NULL);
	CHECK_EQ(apply(t, &l, &err), 0);
	CHECK(img_tree_find(t, "etc/a"));
	CHECK(img_tree_find(t, "etc/b"));
	img_tree_free(t);
	img_log_free(&l);
}

static void refused(struct img_log *l, const char *part)
{
	struct img_tree *t = img_tree_new(&plenty);
	struct vl_err err = { 0 };

	if (apply(t, l, &err) == 0)
		CHECK_FAIL("accepted what should be refused for '%s'", part);
	CHECK_HAS(err.text, part);
	img_tree_free(t);
	img_log_free(l);
}

TEST(hostile_layers)
{
	struct img_log l = { 0 };

	add(&l, IMG_SYMLINK, "a", "b");
	add(&l, IMG_SYMLINK, "b", "a");
	add(&l, IMG_FILE, "a/x", NULL);
	refused(&l, "loop");
	add(&l, IMG_HARDLINK, "h", "later");
	add(&l, IMG_FILE, "later", NULL);
	refused(&l, "not in the image");
	add(&l, IMG_DIR, "d", NULL);
	add(&l, IMG_HARDLINK, "h", "d");
	refused(&l, "folder");
	add(&l, IMG_HARDLINK, "h", "");
	refused(&l, "folder");
	add(&l, IMG_FILE, "f", NULL);
	add(&l, IMG_FILE, "f/x", NULL);
	refused(&l, "is none");
	add(&l, IMG_FILE, "", NULL);
	refused(&l, "root");
	add(&l, IMG_SYMLINK, "self", "self/self/self");
	add(&l, IMG_FILE, "self/x", NULL);
	refused(&l, "loop");
}

/* A few names may not cost millions of folders, nor hours on the way through links. */
TEST(budgets)
{
	struct img_budget few = { .entries = 3, .link_steps = 100 };
	struct img_log l = { 0 };
	struct vl_err err = { 0 };
	struct img_tree *t = img_tree_new(&few);

	add(&l, IMG_FILE, "a/b/c/d/e/f", NULL);
	CHECK(img_tree_apply(t, &l, &err) < 0);
	CHECK_HAS(err.text, "folders");
	img_tree_free(t);
	img_log_free(&l);
	few.entries = 1000;
	t = img_tree_new(&few);
	add(&l, IMG_DIR, "d", NULL);
	add(&l, IMG_SYMLINK, "l", "d/../d/../d/../d/../d");
	for (int i = 0; i < 100; i++)
		add(&l, IMG_FILE, "l/x", NULL);
	CHECK(img_tree_apply(t, &l, &err) < 0);
	CHECK_HAS(err.text, "links");
	img_tree_free(t);
	img_log_free(&l);
}

/* The filter that saves work must never hide what is needed without the tree noticing: it may
 * only answer by the names it was told. */
TEST(shadows)
{
	struct img_log l = { 0 };
	struct img_shadow s = { 0 };

	add(&l, IMG_FILE, "etc/conf", NULL);
	add(&l, IMG_DIR, "kept", NULL);
	add(&l, IMG_WHITEOUT, "gone", NULL);
	add(&l, IMG_OPAQUE, "opq", NULL);
	add(&l, IMG_HARDLINK, "h", "target");
	add(&l, IMG_FILE, "target", NULL);
	img_shadow_add_log(&s, &l);
	CHECK(img_shadow_hides(&s, "etc/conf"));
	CHECK(img_shadow_hides(&s, "etc/conf/below"));
	CHECK(!img_shadow_hides(&s, "etc/config"));
	CHECK(img_shadow_hides(&s, "kept"));
	CHECK(!img_shadow_hides(&s, "kept/file"));
	CHECK(img_shadow_hides(&s, "gone/a/b"));
	CHECK(!img_shadow_hides(&s, "opq"));
	CHECK(img_shadow_hides(&s, "opq/x"));
	CHECK(!img_shadow_hides(&s, "target"));
	CHECK(!img_shadow_hides(&s, ""));
	img_shadow_free(&s);
	img_log_free(&l);
}

TEST(names_from_outside)
{
	static const char *const good[][2] = {
		{ "./a//b/./c/", "a/b/c" }, { "/", "" }, { "", "" }, { "...", "..." }, { "a/..b", "a/..b" },
	};
	static const char *const bad[] = { "..", "a/../b", "../x", "a/.." };
	struct vl_err err = { 0 };
	char *s = NULL;

	for (size_t i = 0; i < VL_COUNT(good); i++) {
		CHECK_EQ(img_path_normal(good[i][0], &s, &err), 0);
		CHECK_STR(s, good[i][1]);
		vl_freep(&s);
	}
	for (size_t i = 0; i < VL_COUNT(bad); i++)
		CHECK(img_path_normal(bad[i], &s, &err) < 0);
	char name[5000];
	memset(name, 'n', sizeof name);
	name[256] = 0;
	CHECK(img_path_normal(name, &s, &err) < 0);
	name[255] = 0;
	CHECK_EQ(img_path_normal(name, &s, &err), 0);
	vl_freep(&s);
	char mark[300]; /* the whiteout of a name of full length */
	snprintf(mark, sizeof mark, ".wh.%.255s", name);
	CHECK_EQ(img_path_normal(mark, &s, &err), 0);
	vl_freep(&s);
	for (size_t i = 0; i < sizeof name - 1; i += 2)
		memcpy(name + i, "n/", 2);
	name[sizeof name - 1] = 0;
	CHECK(img_path_normal(name, &s, &err) < 0);
}

/* Many names, removed in another order than made: the table must stay whole. */
TEST(table_survives_removals)
{
	struct img_table t = { 0 };
	static int v[5000];

	for (size_t i = 0; i < VL_COUNT(v); i++)
		img_table_add(&t, img_mix(i) & 0xfff, &v[i]); /* crowded on purpose */
	for (size_t i = 0; i < VL_COUNT(v); i += 3)
		img_table_remove(&t, img_mix(i) & 0xfff, &v[i]);
	for (size_t i = 0; i < VL_COUNT(v); i++) {
		size_t at = SIZE_MAX;
		bool found = false;
		for (void *p; (p = img_table_next(&t, img_mix(i) & 0xfff, &at));)
			found |= p == &v[i];
		CHECK_EQ(found, i % 3 != 0);
	}
	img_table_free(&t);
}

/* Two tables never place the same names alike: a layer cannot aim at one place. */
TEST(names_are_hashed_with_a_key)
{
	struct img_table a = { 0 }, b = { 0 };

	CHECK_EQ(img_table_name(&a, "name", 4, 7), img_table_name(&a, "name", 4, 7));
	CHECK(img_table_name(&a, "name", 4, 7) != img_table_name(&b, "name", 4, 7));
	CHECK(img_table_name(&a, "name", 4, 7) != img_table_name(&a, "name", 4, 8));
	CHECK(img_table_name(&a, "name\0", 5, 7) != img_table_name(&a, "name", 4, 7));
}
