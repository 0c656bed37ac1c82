/* What some options need and a plain start does not: nothing here keeps containers from running. */
#include "doctor.h"

#include <fcntl.h>
#include <glob.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define CONNECT_MS 10000
#define SRUN_S 10 /* it may look for its configuration on the network */

static void try_cgroup(struct doctor *d)
{
	struct vl_err err = { 0 };
	int r = ctr_probe_cgroup(&err);
	char *way = r < 0 ? strstr(err.text, "; a way to one that is: ") : NULL;

	if (way)
		*way = 0;
	cmd_doctor_say(d, r < 0 ? DOCTOR_NOTE : DOCTOR_OK, "limits (--memory, --cpus)",
		       r < 0 ? err.text : "a cgroup can be made",
		       way ? way + strlen("; a way to one that is: ") : NULL);
}

static void try_subids(struct doctor *d)
{
	struct vl_err err = { 0 };
	int r = ctr_probe(CTR_PROBE_FAKEROOT, NULL, NULL, &err);

	cmd_doctor_say(d, r < 0 ? DOCTOR_NOTE : DOCTOR_OK, "subordinate ids (--fakeroot)",
		       r < 0 ? err.text : "root inside has users beside him",
		       r < 0 ? "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, and "
			       "install the package uidmap"
			     : NULL);
}

static void find_helpers(struct doctor *d)
{
	static const struct {
		const char *name, *for_what, *package;
	} helpers[] = {
		{ "fuse2fs", "overlays in ext3 images", "fuse2fs" },
		{ "fuse-overlayfs", "overlays in ext3 images", "fuse-overlayfs" },
		{ "pasta", "--net", "passt" },
		{ "fusermount3", "vial mount", "fuse3" },
	};

	for (size_t i = 0; i < VL_COUNT(helpers); i++) {
		VL_FREE char *path = cmd_doctor_program(helpers[i].name);
		VL_FREE char *why = vl_asprintf("it is not installed; for %s", helpers[i].for_what);
		VL_FREE char *mend = vl_asprintf("as root: install the package %s", helpers[i].package);
		cmd_doctor_say(d, path ? DOCTOR_OK : DOCTOR_NOTE, helpers[i].name, path ? path : why,
			       path ? NULL : mend);
	}
}

/* ---- devices -------------------------------------------------------------------------------- */

static size_t look_at_devices(struct doctor *d, const char *pattern)
{
	size_t n = 0;
	glob_t g;

	if (glob(pattern, 0, NULL, &g) != 0)
		return 0;
	for (size_t i = 0; i < g.gl_pathc; i++, n++) {
		bool ok = access(g.gl_pathv[i], R_OK | W_OK) == 0;
		VL_FREE char *why = vl_asprintf("%s", ok ? "can be used" : strerror(errno));
		cmd_doctor_say(d, ok ? DOCTOR_OK : DOCTOR_NOTE, g.gl_pathv[i], why,
			       ok ? NULL : "as root: add this user to the device's group (ls -l shows it)");
	}
	globfree(&g);
	return n;
}

static void find_gpus(struct doctor *d)
{
	static const char *const patterns[] = { "/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/kfd",
						"/dev/dri/renderD*" };
	size_t n = 0;

	for (size_t i = 0; i < VL_COUNT(patterns); i++)
		n += look_at_devices(d, patterns[i]);
	if (!n)
		cmd_doctor_say(d, DOCTOR_OK, "GPUs", "none seen", NULL);
}

/* ---- Slurm ---------------------------------------------------------------------------------- */

/* What `srun --help` says, which loads the plugins as every srun does, or says why not; new. */
static char *srun_help(const char *srun)
{
	VL_CLOSE int out = memfd_create("help", MFD_CLOEXEC);
	VL_FREE char *text = NULL;
	struct vl_err none;
	size_t len;
	pid_t pid = out < 0 ? -1 : fork();

	if (pid == 0) {
		dup2(out, STDOUT_FILENO); /* not close-on-exec: srun's output */
		dup2(out, STDERR_FILENO); /* not close-on-exec: its errors */
		alarm(SRUN_S);
		execl(srun, "srun", "--help", (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		vl_wait(pid);
	return pid > 0 && vl_read_fd(out, srun, 1u << 20, &text, &len, &none) == 0 ? vl_steal(&text) : vl_strdup("");
}

/* The first line with an error; new, or NULL. */
static char *first_error(const char *text)
{
	const char *at = strstr(text, "error: ");

	return at ? vl_strndup(at + 7, strcspn(at + 7, "\n")) : NULL;
}

/* "optional /usr/lib/slurm/spank_vial.so WORD..." */
static bool is_optional_in_line(char *line)
{
	static const char *const blank = " \t\r";
	char *save, *word, *path;

	line[strcspn(line, "#")] = 0;
	return (word = strtok_r(line, blank, &save)) && (path = strtok_r(NULL, blank, &save)) &&
	       vl_streq(word, "optional") && vl_streq(vl_basename(path), "spank_vial.so");
}

static bool is_optional_in_file(const char *path)
{
	VL_FREE char *text = NULL;
	struct vl_err none;
	bool found = false;
	size_t len;

	if (vl_read_file(AT_FDCWD, path, 1u << 20, &text, &len, &none) < 0)
		return false;
	for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		found |= is_optional_in_line(line);
	return found;
}

/* In plugstack.conf, where a site usually has it. */
static bool plugin_is_optional(void)
{
	const char *conf = getenv("SLURM_CONF"), *slash = conf ? strrchr(conf, '/') : NULL;
	VL_FREE char *dir = slash ? vl_strndup(conf, (size_t)(slash - conf)) : vl_strdup("/etc/slurm");
	VL_FREE char *main = vl_asprintf("%s/plugstack.conf", dir), *more = vl_asprintf("%s/plugstack.conf.d/*", dir);
	const char *const patterns[] = { main, more };
	bool found = false;

	for (size_t i = 0; i < VL_COUNT(patterns); i++) {
		glob_t g;
		if (glob(patterns[i], 0, NULL, &g) != 0)
			continue;
		for (size_t k = 0; k < g.gl_pathc; k++)
			found |= is_optional_in_file(g.gl_pathv[k]);
		globfree(&g);
	}
	return found;
}

static void find_slurm(struct doctor *d)
{
	VL_FREE char *srun = cmd_doctor_program("srun"), *help = srun ? srun_help(srun) : NULL;

	if (!srun) {
		cmd_doctor_say(d, DOCTOR_OK, "Slurm", "no srun here", NULL);
		return;
	}
	bool there = strstr(help, "-image=IMAGE ");
	if (there && plugin_is_optional()) {
		cmd_doctor_say(d, DOCTOR_NOTE, "Slurm",
			       "its plugstack.conf has the plugin of vial as optional: where it cannot be loaded, jobs "
			       "that ask for a container run on the host",
			       "as root: write `required` in the place of `optional` in plugstack.conf");
		return;
	}
	if (there) {
		cmd_doctor_say(d, DOCTOR_OK, "Slurm", "srun has the options of vial's plugin", NULL);
		return;
	}
	VL_FREE char *error = first_error(help);
	VL_FREE char *why = vl_asprintf("srun does not have the options of vial's plugin%s%s", error ? ": " : "",
					error ? error : "");
	cmd_doctor_say(
		d, DOCTOR_NOTE, "Slurm", why,
		error ? "see spank_vial(8); a plugin is made for one release of Slurm, and named in plugstack.conf"
		      : "as root: add the line `required /DIR/spank_vial.so` to plugstack.conf, see spank_vial(8)");
}

/* ---- network -------------------------------------------------------------------------------- */

static int connect_one(const struct addrinfo *a)
{
	VL_CLOSE int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int e = 0;
	socklen_t n = sizeof e;

	if (fd < 0 || (connect(fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS))
		return -errno;
	if (poll(&p, 1, CONNECT_MS) <= 0)
		return -ETIMEDOUT;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n);
	return -e;
}

static void try_registry(struct doctor *d, const char *word)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	const char *colon = strrchr(word, ':');
	VL_FREE char *host = vl_strndup(word, colon ? (size_t)(colon - word) : strlen(word));
	VL_FREE char *what = vl_asprintf("registry %s", word);
	const char *proxy = getenv("https_proxy") ? getenv("https_proxy") : getenv("HTTPS_PROXY");
	int g = getaddrinfo(host, colon ? colon + 1 : "443", &hints, &list), r = -ENOENT;

	for (const struct addrinfo *a = list; g == 0 && a && r < 0; a = a->ai_next)
		r = connect_one(a);
	if (list)
		freeaddrinfo(list);
	VL_FREE char *why = vl_asprintf("%s%s", g ? gai_strerror(g) : strerror(-r),
					proxy ? "; downloads go through the proxy of https_proxy" : "");
	bool ok = g == 0 && r == 0;
	cmd_doctor_say(d, ok ? DOCTOR_OK : DOCTOR_NOTE, what, ok ? "it takes connections" : why,
		       ok || proxy ? NULL : "export https_proxy=http://PROXY:PORT, or pull where there is a network");
}

void cmd_doctor_host(struct doctor *d)
{
	try_cgroup(d);
	try_subids(d);
	find_helpers(d);
	find_gpus(d);
	find_slurm(d);
	if (d->o->registry)
		try_registry(d, d->o->registry);
}
