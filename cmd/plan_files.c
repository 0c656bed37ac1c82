/* What of the host a container sees, and where its program starts (cli-compat sections 5 and 6). */
#include "policy.h"
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static bool skipped(const struct making *m, const char *word)
{
	for (size_t i = 0; i < m->o->no_mount.n; i++)
		if (vl_streq(m->o->no_mount.v[i], word))
			return true;
	return false;
}

static void check_skip_words(const struct making *m)
{
	static const char *const known[] = { "proc", "sys",    "dev", "devpts",    "home",
					     "tmp",  "hostfs", "cwd", "bind-paths" };

	for (size_t i = 0; i < m->o->no_mount.n; i++) {
		const char *w = m->o->no_mount.v[i];
		bool ok = *w == '/';
		for (size_t k = 0; k < VL_COUNT(known) && !ok; k++)
			ok = vl_streq(w, known[k]);
		if (!ok)
			vl_progress_warn(m->say, "--no-mount does not know '%s'", w);
	}
}

static void add(const struct making *m, enum plan_kind kind, const char *src, const char *dst, unsigned flags,
		const char *why)
{
	if (flags & PLAN_DEFAULT && skipped(m, dst))
		return;
	ctr_plan_add(m->p, kind, src, dst, flags);
	m->p->mounts[m->p->n_mounts - 1].why = why;
}

static void add_default(const struct making *m, const char *path, unsigned flags)
{
	add(m, PLAN_BIND, path, path, flags | PLAN_DEFAULT, "default");
}

/* ---- files the network needs ------------------------------------------------------------------ */

/* Services replace the file behind the link by renaming a new one over it: a bound file would
 * stay the old one for ever. So its directory is bound and the link itself put into the image. */
static void add_resolv_conf(const struct making *m)
{
	static const char path[] = "/etc/resolv.conf";
	struct stat st;

	if (skipped(m, path))
		return;
	VL_FREE char *real = realpath(path, NULL);
	if (!real)
		return;
	if (lstat(path, &st) < 0 || !S_ISLNK(st.st_mode) || !vl_prefix(real, "/run/")) {
		add(m, PLAN_BIND, real, path, PLAN_DEFAULT | PLAN_OPTIONAL | PLAN_NOFOLLOW, "default");
		return;
	}
	VL_FREE char *dir = vl_strndup(real, (size_t)(strrchr(real, '/') - real));
	if (!ctr_plan_shows(m->p, dir))
		add_default(m, dir, PLAN_OPTIONAL | PLAN_RO);
	add(m, PLAN_BIND, path, path, PLAN_DEFAULT | PLAN_OPTIONAL | PLAN_NOFOLLOW | PLAN_LINK, "default");
}

static void add_host_file(const struct making *m, const char *path)
{
	if (!skipped(m, path) && !skipped(m, "bind-paths"))
		add_default(m, path, PLAN_OPTIONAL | PLAN_NOFOLLOW);
}

static void add_host_files(const struct making *m)
{
	const struct plan *p = m->p;

	add_host_file(m, "/etc/hosts");
	/* root who installs a package of time zones puts a new file there, which a mount would refuse */
	if (!p->fakeroot || !(p->writable || p->writable_tmpfs || p->n_overlays))
		add_host_file(m, "/etc/localtime");
	add_resolv_conf(m);
}

/* ---- directories of the container's own -------------------------------------------------------- */

/* mkdir -p of a clean path below dirfd, each with that mode whatever the umask. Returns the last one, opened. */
static int make_below(int dirfd, const char *path, mode_t mode, const char *what, struct vl_err *err)
{
	VL_FREE char *parts = vl_strdup(path);
	VL_CLOSE int at = openat(dirfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (char *save, *d = strtok_r(parts, "/", &save); d; d = strtok_r(NULL, "/", &save)) {
		bool made = mkdirat(at, d, mode) == 0;
		if (!made && errno != EEXIST)
			return vl_fail_sys(err, errno, "cannot make %s in %s", path, what);
		int fd = openat(at, d, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || (made && fchmod(fd, mode) < 0)) {
			vl_fail_sys(err, errno, "cannot open %s in %s", path, what);
			vl_closep(&fd);
			return -err->code;
		}
		close(at);
		at = fd;
	}
	return vl_steal_fd(&at);
}

/* An empty directory at dst: in memory, or NAME in --workdir, where it outlives the container. */
static int add_own(const struct making *m, const char *name, const char *dst, mode_t mode, unsigned flags,
		   const char *why)
{
	if (!m->o->workdir || (!m->o->contain && flags & PLAN_DEFAULT)) {
		add(m, PLAN_TMPFS, NULL, dst, flags | (mode & 01000 ? PLAN_STICKY : 0u), why);
		return 0;
	}
	VL_FREE char *dir = vl_path_absolute(m->o->workdir);
	VL_FREE char *src = vl_asprintf("%s/%s", dir, name);
	VL_CLOSE int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return vl_fail_sys(m->err, errno, "--workdir %s", dir);
	VL_CLOSE int made = m->o->explain ? -1 : make_below(at, name, mode, dir, m->err);
	if (made < 0 && !m->o->explain)
		return made;
	add(m, PLAN_BIND, src, dst, (flags | PLAN_OWN) & ~(unsigned)PLAN_OPTIONAL, "--workdir");
	return 0;
}

static int add_scratch(const struct making *m)
{
	for (size_t i = 0; i < m->o->scratch.n; i++) {
		const char *word = m->o->scratch.v[i];
		VL_FREE char *dst = *word == '/' ? vl_path_clean(word) : vl_strdup("/");
		VL_FREE char *name = vl_asprintf("scratch%s", dst);
		if (vl_streq(dst, "/"))
			return vl_fail(m->err, EINVAL, "--scratch %s: an absolute path other than / is needed", word);
		int r = add_own(m, name, dst, 0700, 0, "--scratch");
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- directories -------------------------------------------------------------------------------- */

/* --home SRC[:DST] */
static int add_given_home(const struct making *m)
{
	struct plan *p = m->p;
	const char *home = m->o->home, *colon = strchr(home, ':');
	VL_FREE char *src = vl_strndup(home, colon ? (size_t)(colon - home) : strlen(home));
	VL_FREE char *from = vl_path_absolute(src);
	const char *dst = colon ? colon + 1 : from;
	struct stat st;

	if (*dst != '/')
		return vl_fail(m->err, EINVAL, "--home %s: the place in the container must be an absolute path", home);
	if (stat(src, &st) < 0)
		return vl_fail_sys(m->err, errno, "--home %s", from);
	if (!S_ISDIR(st.st_mode))
		return vl_fail(m->err, ENOTDIR, "--home %s is not a directory", from);
	free(p->user.home);
	p->user.home = vl_path_clean(dst);
	if (vl_streq(p->user.home, "/"))
		return vl_fail(m->err, EINVAL, "--home %s: nothing can be mounted on the root of the container", home);
	VL_FREE char *real = realpath(src, NULL);
	if (!m->o->no_home && !skipped(m, "home"))
		add(m, PLAN_BIND, real ? real : from, p->user.home, PLAN_DEFAULT, "--home");
	return 0;
}

static int add_home(const struct making *m)
{
	struct plan *p = m->p;

	if (m->o->home)
		return add_given_home(m);
	if (!p->user.home) { /* no passwd entry on this node */
		const char *env = getenv("HOME");
		p->user.home = vl_strdup(env && *env == '/' ? env : "/");
	}
	VL_FREE char *outside = vl_strdup(p->user.home);
	if (p->fakeroot) {
		free(p->user.home);
		p->user.home = vl_strdup("/root");
	}
	if (m->o->no_home || skipped(m, "home") || vl_streq(outside, "/"))
		return 0;
	if (m->o->contain)
		return add_own(m, "home", p->user.home, 0700, PLAN_DEFAULT, "--contain");
	add(m, PLAN_BIND, outside, p->user.home, PLAN_DEFAULT | PLAN_OPTIONAL, "default");
	return 0;
}

static void add_dev(const struct making *m)
{
	if (skipped(m, "dev"))
		return;
	if (!m->o->contain) {
		add_default(m, "/dev", PLAN_DEVICES);
		return;
	}
	add(m, PLAN_DEV, NULL, "/dev", PLAN_DEFAULT | PLAN_DEVICES, "--contain");
	if (skipped(m, "devpts"))
		add(m, PLAN_TMPFS, NULL, "/dev/pts", PLAN_DEFAULT | PLAN_RO, "--no-mount devpts");
}

static int add_system(const struct making *m)
{
	static const char *const tmp[][2] = { { "/tmp", "tmp" }, { "/var/tmp", "var_tmp" } };
	int r = 0;

	add_dev(m);
	if (!skipped(m, "proc"))
		add_default(m, "/proc", 0);
	if (!skipped(m, "sys"))
		add_default(m, "/sys", 0);
	for (size_t i = 0; i < VL_COUNT(tmp) && !skipped(m, "tmp") && r == 0; i++)
		if (m->o->contain)
			r = add_own(m, tmp[i][1], tmp[i][0], 01777, PLAN_DEFAULT | PLAN_OPTIONAL, "--contain");
		else
			add_default(m, tmp[i][0], PLAN_OPTIONAL);
	return r;
}

static bool is_system_dir(const char *path)
{
	static const char *const whole[] = { "/",      "/etc", "/bin", "/sbin", "/lib",
					     "/lib64", "/usr", "/var", "/opt",  "/mnt" };
	static const char *const below[] = { "/proc", "/sys", "/dev" };

	for (size_t i = 0; i < VL_COUNT(whole); i++)
		if (vl_streq(path, whole[i]))
			return true;
	for (size_t i = 0; i < VL_COUNT(below); i++) {
		const char *rest = vl_prefix(path, below[i]);
		if (rest && (!*rest || *rest == '/'))
			return true;
	}
	return false;
}

/* Where the shell says we are, when that is true: /scratch/me is what the user typed, even if it
 * leads to /lustre/fs1/me. */
const char *cmd_logical_cwd(void)
{
	const char *pwd = getenv("PWD");
	struct stat a, b;

	if (!pwd || *pwd != '/' || stat(pwd, &a) < 0 || stat(".", &b) < 0)
		return NULL;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? pwd : NULL;
}

/* A job's directory is the one that it was submitted from, whatever that is: it is no reason to show a home that shall not be
 * seen. (With `exec --no-home`, who is in his home sees it, as with Apptainer.) */
static bool shows_home(const struct making *m, const char *cwd, const char *home)
{
	VL_FREE char *real = m->o->no_home && m->p->keep_fd >= 0 && home ? realpath(home, NULL) : NULL;
	const char *rest = real ? vl_prefix(real, cwd) : NULL;

	return rest && (!*rest || *rest == '/');
}

/* Where the program starts. The host's directory, if the container shows it. Where it does not (system directories,
 * --contain), the image's WORKDIR if that is wanted; else the directory of the same name in the image. */
static void add_cwd(const struct making *m, const char *workdir, const char *home)
{
	struct plan *p = m->p;
	VL_FREE char *cwd = getcwd(NULL, 0);
	const char *logical = cmd_logical_cwd();
	bool known = cwd && *cwd == '/', hidden = known && shows_home(m, cwd, home);

	if (known && !m->o->contain && !hidden && !is_system_dir(cwd) && !skipped(m, "cwd") && !ctr_plan_shows(p, cwd))
		add_default(m, cwd, PLAN_OPTIONAL);
	if (m->o->cwd) {
		vl_strv_take(&p->cwd, vl_asprintf("%s%s", *m->o->cwd == '/' ? "" : "/", m->o->cwd));
		p->cwd_must = true;
		return;
	}
	if (workdir && (!known || m->o->contain || !ctr_plan_shows(p, cwd)))
		vl_strv_add(&p->cwd, workdir);
	if (!known || m->o->contain || hidden)
		return;
	if (logical && !vl_streq(logical, cwd))
		vl_strv_add(&p->cwd, logical);
	vl_strv_add(&p->cwd, cwd);
}

/* ---- what the user names ------------------------------------------------------------------------ */

/* The file that each bind out of an image names, opened once and for all. */
static int open_images(const struct making *m)
{
	for (size_t i = 0; i < m->p->n_mounts; i++) {
		struct plan_mount *b = &m->p->mounts[i];
		ACTION_IMAGE struct action_image part = ACTION_IMAGE_INIT;
		if (b->kind != PLAN_IMAGE)
			continue;
		int r = cmd_image_part(b->image_path, b->image_object, &part, m->err);
		const struct policy_image q = { .fd = part.fd,
						.kind = part.off ? POL_SIF : POL_SQUASHFS,
						.use = POL_BIND,
						.off = part.off,
						.size = part.size,
						.name = b->image_path };
		if (r < 0 || cmd_policy_ask(m->c, &q, NULL, m->err) < 0)
			return vl_wrap(m->err, "%s", b->why);
		b->image_fd = vl_steal_fd(&part.fd);
		b->image_off = part.off;
		b->image_size = part.size;
	}
	return 0;
}

/* The minimal /dev has devices under their own names only. */
static bool is_renamed_device(const struct making *m, const struct plan_mount *b)
{
	return m->o->contain && b->kind == PLAN_BIND && b->flags & PLAN_DEVICES && vl_prefix(b->dst, "/dev/") &&
	       !vl_streq(b->src, b->dst);
}

static void drop_renamed_devices(const struct making *m)
{
	struct plan *p = m->p;

	for (size_t i = 0; i < p->n_mounts;) {
		struct plan_mount *b = &p->mounts[i];
		if (!is_renamed_device(m, b)) {
			i++;
			continue;
		}
		vl_progress_warn(m->say, "%s is left out: with --contain a device keeps its name, which is not %s",
				 b->src, b->dst);
		ctr_plan_remove(p, i);
	}
}

/* What the user asks for comes first: the first of two on one place is used. */
static int add_asked(const struct making *m)
{
	struct plan *p = m->p;
	int r = ctr_plan_parse_binds(p, &m->o->bind, m->err);

	for (size_t i = 0; i < p->n_mounts && r == 0; i++)
		p->mounts[i].why = "--bind";
	for (size_t i = 0; i < m->o->mount.n && r == 0; i++) {
		size_t n = p->n_mounts;
		r = ctr_plan_parse_mount(p, m->o->mount.v[i], m->err);
		for (; n < p->n_mounts; n++)
			p->mounts[n].why = "--mount";
	}
	if (r < 0 || (r = open_images(m)) < 0)
		return r;
	drop_renamed_devices(m);
	return add_scratch(m);
}

int cmd_plan_files(const struct making *m, const char *workdir)
{
	VL_FREE char *home = m->p->user.home ? vl_strdup(m->p->user.home) : NULL; /* outside */
	int r;

	check_skip_words(m);
	if (m->o->workdir && !m->o->contain && !m->o->scratch.n)
		vl_progress_warn(m->say, "--workdir does nothing without --contain or --scratch");
	if ((r = add_asked(m)) < 0 || (r = add_home(m)) < 0 || (r = add_system(m)) < 0)
		return r;
	add_host_files(m);
	add_cwd(m, workdir, home);
	return 0;
}
