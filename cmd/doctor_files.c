/* Directories that starts and downloads use, and the file systems they lie on. */
#include "doctor.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define LITTLE (1ull << 30) /* bytes; what a middling image has */

/* The deepest directory of it that exists; new. */
static char *existing(const char *path)
{
	VL_FREE char *p = vl_path_absolute(path);

	while (access(p, F_OK) < 0 && strrchr(p, '/') > p)
		*strrchr(p, '/') = 0;
	return access(p, F_OK) == 0 ? vl_steal(&p) : vl_strdup("/");
}

static bool has_lock(int dir)
{
	VL_CLOSE int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && (flock(fd, LOCK_SH | LOCK_NB) == 0 || errno == EWOULDBLOCK);
}

static bool has_nameless_files(int dir)
{
	VL_CLOSE int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd >= 0;
}

/* Type, free space, and what the file system cannot do; new. *ret_little: it is nearly full. */
static char *describe(int fd, const char *path, bool *ret_little)
{
	VL_FREE char *fs = ctr_fs_name(fd);
	struct statvfs s = { 0 };
	char size[16];

	fstatvfs(fd, &s);
	uint64_t room = (uint64_t)s.f_bavail * s.f_frsize;
	vl_human_size(room, size);
	*ret_little = room < LITTLE;
	return vl_asprintf("%s: %s, %s free", path, fs, size);
}

static void look_at(struct doctor *d, const char *what, const char *path, const char *variable)
{
	VL_FREE char *dir = existing(path);
	VL_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	VL_FREE char *mend = vl_asprintf("export %s=/another/directory", variable);
	VL_BUF struct vl_buf b = { 0 };
	bool little = false;

	if (fd < 0 || faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0) {
		VL_FREE char *why = vl_asprintf("%s: %s", dir, strerror(errno));
		cmd_doctor_say(d, DOCTOR_NOTE, what, why, mend);
		return;
	}
	VL_FREE char *text = describe(fd, path, &little);
	vl_buf_adds(&b, text);
	if (little)
		vl_buf_adds(&b, "; that is little for an image");
	if (!has_nameless_files(fd))
		vl_buf_adds(&b, "; no files without a name (O_TMPFILE), so what a killed download leaves is removed by "
				"the next");
	bool locks = has_lock(fd);
	if (!locks)
		vl_buf_adds(&b, "; no locks (flock), so starts may fetch one image twice");
	cmd_doctor_say(d, little || !locks ? DOCTOR_NOTE : DOCTOR_OK, what, b.data, little || !locks ? mend : NULL);
}

static void look_at_cache(struct doctor *d)
{
	struct store_settings s;
	struct vl_err err = { 0 };

	if (cmd_store_settings_get(d->c, &s, &err) < 0) {
		cmd_doctor_say(d, DOCTOR_NOTE, "image cache", err.text, "export VIAL_CACHEDIR=/a/directory");
		return;
	}
	look_at(d, "image cache", s.dir, "VIAL_CACHEDIR");
	cmd_store_settings_free(&s);
}

static void look_at_rundir(struct doctor *d)
{
	VL_FREE char *path = NULL;
	struct vl_err err = { 0 };
	int r = ctr_probe_rundir(&path, &err);
	VL_FREE char *why = r < 0 ? vl_asprintf("%s; each start mounts its image for itself", err.text) : NULL;

	cmd_doctor_say(d, r < 0 ? DOCTOR_NOTE : DOCTOR_OK, "runtime directory", r < 0 ? why : path,
		       r < 0 ? "export XDG_RUNTIME_DIR=/a/directory of your own with mode 0700" : NULL);
}

static void look_at_image(struct doctor *d)
{
	if (!d->image.path)
		return;
	VL_FREE char *fs = ctr_fs_name(d->image.fd);
	VL_FREE char *text = vl_asprintf("%s: on %s", d->image.path, fs);
	cmd_doctor_say(d, DOCTOR_OK, "image", text, NULL);
}

void cmd_doctor_files(struct doctor *d)
{
	const char *tmp = getenv("TMPDIR");

	look_at_image(d);
	look_at_cache(d);
	look_at(d, "temporary directory", tmp && *tmp ? tmp : "/var/tmp", "TMPDIR");
	look_at_rundir(d);
}
