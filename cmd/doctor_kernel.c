/* What a start needs of the kernel, in the order of a start. */
#include "doctor.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/utsname.h>

static void look_at_kernel(struct doctor *d)
{
	unsigned major = 0, minor = 0;
	struct utsname u;

	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return;
	VL_FREE char *text = vl_asprintf("%s %s", u.sysname, u.release);
	bool old = major < 5 || (major == 5 && minor < 12);
	VL_FREE char *why = old ? vl_asprintf("%s; the mount interface of Linux 5.12 is needed", text) : NULL;
	cmd_doctor_say(d, old ? DOCTOR_NOTE : DOCTOR_OK, "kernel", old ? why : text, NULL);
}

static bool try_step(struct doctor *d, enum ctr_probe step, const char *what, const char *good)
{
	struct vl_err err = { 0 };
	int r = ctr_probe(step, NULL, NULL, &err);

	cmd_doctor_step(d, DOCTOR_PROBLEM, what, r, &err, good);
	return r == 0;
}

static void try_namespaces(struct doctor *d)
{
	d->namespaces = try_step(d, CTR_PROBE_USERNS, "user namespace", "made, and its ids mapped") &&
			try_step(d, CTR_PROBE_MOUNTNS, "mount namespace", "made, and something mounted in it");
}

/* ---- images --------------------------------------------------------------------------------- */

/* Directories run without it. */
static enum doctor_state bad_image(const struct doctor *d)
{
	return d->image.path && d->image.kind == PLAN_DIRECTORY ? DOCTOR_NOTE : DOCTOR_PROBLEM;
}

static void try_images(struct doctor *d)
{
	struct vl_err err = { 0 };
	VL_CLOSE int fd = vmnt_device_open(&err);

	cmd_doctor_step(d, bad_image(d), "/dev/fuse", fd, &err, "it can be opened");
	if (fd < 0 || !d->namespaces)
		return;
	vl_closep(&fd);
	int r = ctr_probe(CTR_PROBE_IMAGE, NULL, NULL, &err);
	cmd_doctor_step(d, bad_image(d), "image server", r, &err, "it has mounted a sample and answers");
	if (r < 0 || !d->image.path || d->image.kind == PLAN_DIRECTORY)
		return;
	struct vmnt_image image = {
		.fd = d->image.fd, .off = d->image.off, .size = d->image.size, .name = d->image.path
	};
	r = ctr_probe(CTR_PROBE_IMAGE, &image, NULL, &err);
	cmd_doctor_step(d, DOCTOR_PROBLEM, "mount of the image", r, &err, d->image.path);
}

/* ---- overlays ------------------------------------------------------------------------------- */

static void remove_tries(int at, const char *dir)
{
	static const char *const files[] = { "upper/file", NULL };
	static const char *const dirs[] = { "upper", "work/work", "work/index", "work", "lower" };
	VL_CLOSE int fd = openat(at, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	for (size_t i = 0; fd >= 0 && files[i]; i++)
		(void)!unlinkat(fd, files[i], 0);
	for (size_t i = 0; fd >= 0 && i < VL_COUNT(dirs); i++)
		(void)!unlinkat(fd, dirs[i], AT_REMOVEDIR);
	(void)!unlinkat(at, dir, AT_REMOVEDIR);
}

/* Where users keep overlays; a file system that takes none is no obstacle to a start. */
static void try_overlay_in(struct doctor *d, const char *above, const char *what)
{
	VL_FREE char *dir = vl_asprintf("%s/.vial-doctor-XXXXXX", above);
	struct vl_err err = { 0 };

	if (!mkdtemp(dir))
		return;
	VL_CLOSE int fd = open(above, O_PATH | O_DIRECTORY | O_CLOEXEC);
	VL_FREE char *fs = ctr_fs_name(fd);
	int r = ctr_probe(CTR_PROBE_OVERLAY, NULL, dir, &err);
	if (fd >= 0)
		remove_tries(fd, vl_basename(dir));
	VL_FREE char *good = vl_asprintf("%s (%s) takes one", above, fs);
	VL_FREE char *bad = vl_asprintf("%s (%s) takes none: %s", above, fs, err.text);
	cmd_doctor_say(d, r < 0 ? DOCTOR_NOTE : DOCTOR_OK, what, r < 0 ? bad : good,
		       r < 0 ? "vial overlay create FILE.img makes an overlay that works on any file system" : NULL);
}

static void try_overlays(struct doctor *d)
{
	const char *home = getenv("HOME");
	struct vl_err err = { 0 };

	if (!d->namespaces)
		return;
	int r = ctr_probe(CTR_PROBE_OVERLAY, NULL, NULL, &err);
	cmd_doctor_step(d, DOCTOR_NOTE, "overlay in memory", r, &err, "--writable-tmpfs works");
	if (r == 0 && home && *home == '/')
		try_overlay_in(d, home, "overlay in the home directory");
}

void cmd_doctor_kernel(struct doctor *d)
{
	look_at_kernel(d);
	try_namespaces(d);
	try_images(d);
	try_overlays(d);
}
