/* Newest layer first: what is hidden by a newer layer need not be compressed. Names are compared
 * as they are written, so a file reached through a link may be kept in vain, or skipped although
 * a hard link still needs it: the tree notices the latter, and that layer is read once more. */
#include "tree.h"

enum { HIDES_ITSELF = 1, HIDES_BELOW = 2, WANTED = 4 };

struct shadow_name {
	uint8_t what;
	size_t len;
	char path[];
};

static struct shadow_name *find(struct img_shadow *s, const char *path, size_t len)
{
	uint64_t hash = img_table_name(&s->names, path, len, 0);
	size_t at = SIZE_MAX;

	for (struct shadow_name *n; (n = img_table_next(&s->names, hash, &at));)
		if (n->len == len && !memcmp(n->path, path, len))
			return n;
	return NULL;
}

static void add(struct img_shadow *s, const char *path, uint8_t what)
{
	size_t len = strlen(path);
	struct shadow_name *n = find(s, path, len);

	if (!n) {
		n = vl_alloc(sizeof *n + len);
		n->len = len;
		memcpy(n->path, path, len);
		img_table_add(&s->names, img_table_name(&s->names, path, len, 0), n);
	}
	n->what |= what;
}

void img_shadow_add_log(struct img_shadow *s, const struct img_log *newer)
{
	for (size_t i = 0; i < newer->n; i++) {
		const struct img_entry *e = &newer->e[i];
		if (e->type == IMG_OPAQUE)
			add(s, e->path, HIDES_BELOW);
		else if (e->type == IMG_DIR)
			add(s, e->path, HIDES_ITSELF); /* a file of that name, not a folder's content */
		else
			add(s, e->path, HIDES_ITSELF | HIDES_BELOW);
		if (e->type == IMG_HARDLINK)
			add(s, e->target, WANTED);
	}
}

bool img_shadow_hides(struct img_shadow *s, const char *path)
{
	size_t len = strlen(path);
	const struct shadow_name *n = find(s, path, len);

	if (n && n->what & WANTED)
		return false;
	if (n && n->what & HIDES_ITSELF)
		return true;
	for (;;) {
		while (len && path[len - 1] != '/')
			len--;
		len -= len > 0;
		n = find(s, path, len);
		if (n && n->what & HIDES_BELOW)
			return true;
		if (!len)
			return false;
	}
}

void img_shadow_free(struct img_shadow *s)
{
	for (size_t i = 0; i < s->names.cap; i++)
		free(s->names.slots[i].p);
	img_table_free(&s->names);
}
