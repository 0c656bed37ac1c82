/* What steps that share a container with a name must agree on: the image that it is made of, and what the step that runs in it
 * has asked for. A path alone is no image: the file may be another one by now, under changes that were made to the old one. */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define IDENTITY_MAX 1024

/* ---- the image ------------------------------------------------------------------------------------- */

/* A device without a number of its own, as those of network file systems, has another one after each mount. */
static char *name_file(const struct stat *st)
{
	unsigned long long dev = major(st->st_dev) ? st->st_dev : 0, ino = st->st_ino;

	if (S_ISDIR(st->st_mode)) /* what is in it may change */
		return vl_asprintf("directory %llx %llx\n", dev, ino);
	return vl_asprintf("file %llx %llx %lld %lld.%09ld\n", dev, ino, (long long)st->st_size,
			   (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

/* What the store has is named by what it was made of: one that was fetched again is the same. NULL: cannot be known. */
static char *name_image(const char *word, const struct action_image *i)
{
	struct stat st;

	if (cmd_image_is_uri(word) && access(word, F_OK) < 0)
		return *i->path == '/' ? vl_asprintf("store %s\n", vl_basename(i->path)) : NULL;
	if (i->decrypted ? stat(i->path, &st) < 0 : fstat(i->origin ? i->origin : i->fd, &st) < 0)
		return NULL;
	VL_FREE char *file = name_file(&st);
	return vl_asprintf("%spartition %llu %llu\n", file, (unsigned long long)i->off, (unsigned long long)i->size);
}

static int another(const struct named *n, struct vl_err *err)
{
	return vl_fail(err, ESTALE,
		       "%s is not the image any more that the container %s of this job is made of: it was changed or "
		       "replaced; take another name",
		       n->image, n->name);
}

static int gone(const struct named *n, struct vl_err *err)
{
	return vl_fail(err, ENOENT, "%s, which the container %s of this job is made of, is not there any more",
		       n->image, n->name);
}

int cmd_named_same_image(const struct named *n, const struct action_image *i, struct vl_err *err)
{
	VL_FREE char *is = name_image(n->image, i), *was = NULL;
	VL_CLOSE int lock = openat(n->dir, "lock", O_RDWR | O_CLOEXEC);
	struct vl_err none;
	size_t len;

	if (!is)
		return 0;
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return vl_fail_sys(err, errno, "cannot lock the container %s", n->name);
	if (vl_read_file(n->dir, "identity", IDENTITY_MAX, &was, &len, &none) == 0)
		return vl_streq(is, was) ? 0 : another(n, err);
	return cmd_named_note(n->dir, "identity", is, err);
}

int cmd_named_no_image(const struct named *n, int r, struct vl_err *err)
{
	return r == -ENOENT && !n->made ? gone(n, err) : r;
}

int cmd_named_same_file(const struct named *n, struct vl_err *err)
{
	VL_FREE char *was = NULL;
	struct vl_err none;
	struct stat st;
	size_t len;

	if (cmd_image_is_uri(n->image) && access(n->image, F_OK) < 0)
		return 0;
	if (stat(n->image, &st) < 0)
		return errno == ENOENT ? gone(n, err) : vl_fail_sys(err, errno, "image %s", n->image);
	VL_FREE char *is = name_file(&st);
	if (vl_read_file(n->dir, "identity", IDENTITY_MAX, &was, &len, &none) < 0)
		return 0; /* it is being made */
	return vl_prefix(was, is) ? 0 : another(n, err);
}

/* ---- options --------------------------------------------------------------------------------------- */

/* Of these, the first is what holds when nothing is said; others have a value, and none then. */
static const char *const pairs[][2] = { { "readonly", "writable" },
					{ "mount-home", "no-mount-home" },
					{ "no-remap-root", "remap-root" },
					{ "no-entrypoint", "entrypoint" } };

/* The line of a text of lines that has that word, alone or with a value; NULL. */
static const char *find_line(const char *lines, const char *word)
{
	size_t n = strlen(word);

	for (; lines && *lines; lines = strchr(lines, '\n'), lines = lines ? lines + 1 : NULL)
		if (!strncmp(lines, word, n) && (!lines[n] || lines[n] == '\n' || lines[n] == '='))
			return lines;
	return NULL;
}

static bool is_line(const char *line, const char *text)
{
	return line && strcspn(line, "\n") == strlen(text) && !strncmp(line, text, strlen(text));
}

/* Has the container, which was asked for with these words, what this one asks for? */
static bool has(const char *was, const char *asked)
{
	VL_FREE char *word = vl_strndup(asked, strcspn(asked, "="));

	if (vl_streq(asked, "no-mpi") || vl_streq(asked, "mpi=none")) {
		const char *line = find_line(was, "mpi");
		return !line || is_line(line, "mpi=none");
	}
	for (size_t i = 0; i < VL_COUNT(pairs); i++) {
		if (vl_streq(asked, pairs[i][0]))
			return !find_line(was, pairs[i][1]);
		if (vl_streq(asked, pairs[i][1]))
			return find_line(was, asked);
	}
	return is_line(find_line(was, word), asked);
}

char *cmd_named_asked(const struct action_opts *o)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	for (size_t i = 0; i < o->asked.n; i++)
		vl_buf_addf(&b, "%s%s", i ? "\n" : "", o->asked.v[i]);
	return vl_steal(&b.data);
}

int cmd_named_same_options(const struct named *n, const struct action_opts *o, const struct vl_strv *changes,
			   struct vl_err *err)
{
	const char *was = changes->n ? vl_env_value(changes->v, CTR_ASKED) : NULL;

	for (size_t i = 0; i < o->asked.n; i++)
		if (!has(was, o->asked.v[i]))
			return vl_fail(err, EBUSY,
				       "%s: the container %s is in use by another step of this job, which was started "
				       "without that; leave it out, wait for that step to end, or take another name",
				       o->asked.v[i], n->name);
	return 0;
}
