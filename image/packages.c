/* What is installed in an image. The child walks the tree and parses; what it found crosses a pipe as strings, which
 * the parent bounds again. */
#include "packages.h"

#include "child.h"
#include "tree_src.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#define MAX_TEXT_DB (64u << 20)   /* dpkg's of 3000 packages has 5 MB */
#define MAX_METADATA (256u << 10) /* of one Python package: what counts comes first */
/* of what the child may send: the strings, a NUL after each, and some that are no package's */
#define MAX_LIST (IMG_MAX_PACKAGE_LIST + IMG_MAX_PACKAGES * (N_FIELDS + 2) + (1u << 20))
#define MAX_SPACE (3ull << 30) /* of the child: a database, room to grow, and the largest value in it twice */
#define CPU_SECONDS 600
#define N_FIELDS 7 /* of a package in the pipe */
#define N_OS 3
enum { PACKAGE = 'p', OS = 'o', UNREAD = 'u' };

/* ---- the list ---- */

void img_package_free(struct img_package *p)
{
	vl_freep(&p->name);
	vl_freep(&p->version);
	vl_freep(&p->epoch);
	vl_freep(&p->arch);
	vl_freep(&p->license);
	vl_freep(&p->source);
	vl_freep(&p->path);
}

void img_packages_free(struct img_packages *l)
{
	for (size_t i = 0; i < l->n; i++)
		img_package_free(&l->v[i]);
	vl_freep(&l->v);
	vl_freep(&l->os_id);
	vl_freep(&l->os_version);
	vl_freep(&l->os_name);
	vl_strv_free(&l->unread);
	l->n = l->bytes = 0;
}

static size_t bytes_of(const struct img_package *p)
{
	const char *const s[] = { p->name, p->version, p->epoch, p->arch, p->license, p->source, p->path };
	size_t n = 0;

	for (size_t i = 0; i < VL_COUNT(s); i++)
		n += s[i] ? strlen(s[i]) : 0;
	return n;
}

int img_packages_add(struct img_packages *l, struct img_package *p, struct vl_err *err)
{
	if (l->n == IMG_MAX_PACKAGES) {
		img_package_free(p);
		return vl_fail(err, EFBIG, "the image has more packages than the limit of %u", IMG_MAX_PACKAGES);
	}
	size_t bytes = bytes_of(p);
	if (bytes > IMG_MAX_PACKAGE_LIST - l->bytes) {
		img_package_free(p);
		return vl_fail(err, EFBIG,
			       "the names, versions and licenses of the image's packages are larger than the limit of "
			       "%u bytes",
			       IMG_MAX_PACKAGE_LIST);
	}
	l->bytes += bytes;
	if (!(l->n & 255)) /* room grows by 256 */
		l->v = vl_realloc(l->v, l->n + 256, sizeof *l->v);
	l->v[l->n++] = vl_move(p);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct img_package *x = a, *y = b;
	int r = (int)x->kind - (int)y->kind;

	if (!r)
		r = strcmp(x->name, y->name);
	if (!r)
		r = strcmp(x->version, y->version);
	if (!r)
		r = strcmp(x->arch ? x->arch : "", y->arch ? y->arch : "");
	return r ? r : strcmp(x->path ? x->path : "", y->path ? y->path : "");
}

/* ---- the child: which files count ---- */

enum database { NOTHING, DPKG, APK, PYTHON, OS_RELEASE, RPM_SQLITE, RPM_NDB, RPM_BDB, RPM_WAL };

static const struct {
	const char *path;
	enum database what;
} places[] = {
	{ "var/lib/dpkg/status", DPKG },  { "lib/apk/db/installed", APK },      { "usr/lib/apk/db/installed", APK },
	{ "etc/os-release", OS_RELEASE }, { "usr/lib/os-release", OS_RELEASE },
};
static const char *const rpm_folders[] = { "var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/" };
static const struct {
	const char *name;
	enum database what;
} rpm_files[] = {
	{ "rpmdb.sqlite", RPM_SQLITE },
	{ "rpmdb.sqlite-wal", RPM_WAL },
	{ "Packages.db", RPM_NDB },
	{ "Packages", RPM_BDB },
};

static bool ends(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n > k && vl_streq(s + n - k, end);
}

static enum database which(const char *path)
{
	const char *rest;

	for (size_t i = 0; i < VL_COUNT(places); i++)
		if (vl_streq(path, places[i].path))
			return places[i].what;
	for (size_t i = 0; i < VL_COUNT(rpm_folders); i++)
		if ((rest = vl_prefix(path, rpm_folders[i])))
			for (size_t k = 0; k < VL_COUNT(rpm_files); k++)
				if (vl_streq(rest, rpm_files[k].name))
					return rpm_files[k].what;
	/* images without dpkg: a file for each package, with its list of digests beside it */
	if ((rest = vl_prefix(path, "var/lib/dpkg/status.d/")))
		return strchr(rest, '/') || ends(rest, ".md5sums") ? NOTHING : DPKG;
	if (ends(path, ".dist-info/METADATA") || ends(path, ".egg-info/PKG-INFO") || ends(path, ".egg-info"))
		return PYTHON;
	return NOTHING;
}

/* ---- the child: reading ---- */

struct reading {
	const struct img_root *root;
	struct img_child *child;
	struct img_src *src;
	struct img_packages found;
	enum database what;
	char *path;             /* of the file whose content comes */
	struct img_packages os; /* of usr/lib: etc's goes first */
	struct vl_buf in;       /* the parent's */
};

static void unread(struct reading *w, const char *why)
{
	VL_FREE char *path = vl_printable(w->path, strlen(w->path)), *text = vl_printable(why, strlen(why));

	if (w->found.unread.n < 64)
		vl_strv_take(&w->found.unread, vl_asprintf("%s: %s", path, text));
}

static int entry(void *arg, const struct img_unsquash_entry *e, struct vl_err *err)
{
	struct reading *w = arg;

	(void)err;
	if (e->type != IMG_FILE)
		return 0;
	w->what = which(e->path);
	if (w->what == NOTHING)
		return IMG_UNSQUASH_SKIP;
	free(w->path);
	w->path = vl_strdup(e->path);
	if (w->what == RPM_WAL && e->size)
		unread(w, "changes that were not written into the database yet are not read");
	return w->what == RPM_WAL ? IMG_UNSQUASH_SKIP : 0;
}

/* At most `limit` bytes of the file. */
static int collect(struct reading *w, const struct img_file *f, uint64_t limit, struct vl_buf *ret, struct vl_err *err)
{
	struct img_content c = IMG_CONTENT_NONE;
	static const uint8_t zeros[4096];
	const uint8_t *p;
	size_t n;
	int r = img_content_open(w->src, w->path, f, &c, err);

	while (r == 0 && ret->len < limit && (r = img_content_next(&c, &p, &n, err)) == 0 && n)
		for (size_t k; n; n -= k) {
			k = p ? n : VL_MIN(n, sizeof zeros);
			vl_buf_add(ret, p ? p : zeros, k);
		}
	img_content_close(&c);
	return r;
}

static int parse(struct reading *w, struct vl_buf *b, struct vl_err *err)
{
	const char *text = b->data ? b->data : "";
	VL_FREE char *why = NULL;
	int r = 0;

	switch (w->what) {
	case DPKG:
		return img_packages_dpkg(text, b->len, &w->found, err);
	case APK:
		return img_packages_apk(text, b->len, &w->found, err);
	case PYTHON:
		return img_packages_python(text, b->len, w->path, &w->found, err);
	case OS_RELEASE:
		img_packages_os_release(text, b->len, vl_prefix(w->path, "etc/") ? &w->found : &w->os);
		return 0;
	case RPM_SQLITE:
		r = img_packages_rpm_sqlite((uint8_t *)b->data, b->len, &w->found, &why, err);
		break;
	case RPM_NDB:
		r = img_packages_rpm_ndb((const uint8_t *)text, b->len, &w->found, &why, err);
		break;
	case RPM_BDB:
		r = img_packages_rpm_bdb((const uint8_t *)text, b->len, &w->found, &why, err);
		break;
	default:
		break;
	}
	if (why)
		unread(w, why);
	return r;
}

static int content(void *arg, const struct img_file *f, struct vl_err *err)
{
	struct reading *w = arg;
	VL_BUF struct vl_buf b = { 0 };
	bool rpm = w->what == RPM_SQLITE || w->what == RPM_NDB || w->what == RPM_BDB;
	uint64_t limit = w->what == PYTHON ? MAX_METADATA : rpm ? IMG_MAX_PACKAGE_DB : MAX_TEXT_DB;

	if (f->size > limit && w->what != PYTHON) {
		unread(w, "it is larger than any that is known");
		return 0;
	}
	int r = collect(w, f, limit, &b, err);
	if (r == 0)
		return parse(w, &b, err);
	VL_FREE char *shown = vl_printable(w->path, strlen(w->path));
	return vl_wrap(err, "/%s", shown);
}

/* ---- across the pipe: a letter, and strings that end with a NUL ---- */

static void put(struct vl_buf *b, const char *s)
{
	vl_buf_add(b, s ? s : "", s ? strlen(s) + 1 : 1);
}

static void put_all(struct vl_buf *b, const struct img_packages *l)
{
	vl_buf_add(b, (char[]){ OS }, 1);
	put(b, l->os_id);
	put(b, l->os_version);
	put(b, l->os_name);
	for (size_t i = 0; i < l->unread.n; i++) {
		vl_buf_add(b, (char[]){ UNREAD }, 1);
		put(b, l->unread.v[i]);
	}
	for (size_t i = 0; i < l->n; i++) {
		const struct img_package *p = &l->v[i];
		vl_buf_add(b, (char[]){ PACKAGE, (char)('0' + p->kind) }, 2);
		const char *const fields[N_FIELDS] = { p->name,    p->version, p->epoch, p->arch,
						       p->license, p->source,  p->path };
		for (size_t k = 0; k < N_FIELDS; k++)
			put(b, fields[k]);
	}
}

static void merge_os(struct reading *w)
{
	if (w->found.os_id || w->found.os_name) /* two files may tell of two systems */
		return;
	w->found.os_id = vl_steal(&w->os.os_id);
	w->found.os_version = vl_steal(&w->os.os_version);
	w->found.os_name = vl_steal(&w->os.os_name);
}

/* What no count of ours foresees ends this process, not the machine. What it has mapped already is not of the image (a
 * sanitizer's shadow is larger than any limit). */
static void set_limits(void)
{
	VL_FREE char *statm = NULL;
	size_t n;
	struct vl_err err = { 0 };
	struct rlimit cpu = { CPU_SECONDS, CPU_SECONDS }, core = { 0, 0 }, space = { MAX_SPACE, MAX_SPACE };

	if (vl_read_file(AT_FDCWD, "/proc/self/statm", 4096, &statm, &n, &err) == 0)
		space.rlim_cur = space.rlim_max += strtoull(statm, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE);
	setrlimit(RLIMIT_CPU, &cpu);
	setrlimit(RLIMIT_CORE, &core);
	setrlimit(RLIMIT_AS, &space);
}

static int work(void *arg, int sock, const struct vl_progress *p, void *result, struct vl_err *err)
{
	struct reading *w = arg;
	struct img_src_walk walk = { .depth = UINT32_MAX, .entry = entry, .content = content, .arg = w };
	VL_FREE char *top = NULL;
	VL_BUF struct vl_buf out = { 0 };
	int r;

	(void)sock, (void)p, (void)result;
	signal(SIGPIPE, SIG_IGN);
	vl_raise_file_limit();
	set_limits();
	/* a directory is the host's own files, read with the rights of the caller */
	if ((!w->root->dir && (r = vl_drop_privileges(err)) < 0) || (r = img_src_open(w->root, &w->src, err)) < 0 ||
	    (r = img_src_find(w->src, "", true, &top, err)) < 0)
		return r;
	walk.top = top;
	if ((r = img_src_walk(w->src, &walk, err)) < 0)
		return r;
	merge_os(w);
	put_all(&out, &w->found);
	r = vl_write_full(w->child->pipe, out.data, out.len);
	close(w->child->pipe);
	return r < 0 ? vl_fail_sys(err, -r, "cannot hand over what was read") : 0;
}

/* ---- the parent ---- */

static int take_written(void *arg, int fd, bool *ret_end, struct vl_err *err)
{
	struct reading *w = arg;

	return img_child_gather(w->child, fd, &w->in, MAX_LIST, "the packages' names", ret_end, err);
}

/* The next string, new; NULL for an empty one. False: there is none. */
static bool next(const char **p, const char *end, char **ret)
{
	const char *nul = *p < end ? memchr(*p, 0, (size_t)(end - *p)) : NULL;

	if (!nul)
		return false;
	*ret = nul == *p ? NULL : vl_strndup(*p, (size_t)(nul - *p));
	*p = nul + 1;
	return true;
}

static bool next_package(const char **p, const char *end, struct img_packages *l, struct vl_err *err)
{
	struct img_package k = { 0 };
	char **const fields[N_FIELDS] = { &k.name, &k.version, &k.epoch, &k.arch, &k.license, &k.source, &k.path };
	bool ok = *p < end && **p >= '0' && **p <= '0' + IMG_PACKAGE_PYTHON;

	if (ok)
		k.kind = (enum img_package_kind)(*(*p)++ - '0');
	for (size_t i = 0; ok && i < N_FIELDS; i++)
		ok = next(p, end, fields[i]);
	if (!ok || !k.name) {
		img_package_free(&k);
		return false;
	}
	if (!k.version)
		k.version = vl_strdup("");
	return img_packages_add(l, &k, err) == 0;
}

static bool take_list(const char *p, size_t n, struct img_packages *l, struct vl_err *err)
{
	const char *end = p + n;
	char *s;
	bool ok = true;

	while (ok && p < end) {
		switch (*p++) {
		case OS:
			ok = !l->os_id && !l->os_version && !l->os_name && next(&p, end, &l->os_id) &&
			     next(&p, end, &l->os_version) && next(&p, end, &l->os_name);
			break;
		case UNREAD:
			ok = next(&p, end, &s) && s;
			if (ok)
				vl_strv_take(&l->unread, s);
			break;
		case PACKAGE:
			ok = next_package(&p, end, l, err);
			break;
		default:
			ok = false;
		}
	}
	return ok;
}

int img_packages_read(const struct img_root *root, struct img_packages *ret, int *ret_signal, struct vl_err *err)
{
	struct reading w = { .root = root };
	struct img_child child = {
		.name = "reading", .interrupted = "stopped", .work = work, .written = take_written, .arg = &w
	};
	struct img_packages l = { 0 };

	w.child = &child;
	int r = img_child_run(&child, NULL, NULL, ret_signal, err);
	if (r == 0 && !take_list(w.in.data ? w.in.data : "", w.in.len, &l, err))
		r = vl_fail(err, EPROTO,
			    "the reading process sent what makes no sense; the image may be built to break it");
	vl_buf_free(&w.in);
	if (r < 0) {
		img_packages_free(&l);
		return r;
	}
	if (l.n)
		qsort(l.v, l.n, sizeof *l.v, by_name);
	*ret = l;
	return 0;
}
