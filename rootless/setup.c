/* The one list: from a plan to a running program. */
#include "emulate.h"
#include "hold.h"
#include "instance.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

static int clone_directory(const struct plan *p, struct vl_err *err)
{
	/* image_fd belongs to the old mount namespace and cannot be cloned from here; the cwd was
	 * set to it beforehand, and the kernel moved the cwd over into the new one */
	int fd = vmnt_clone(AT_FDCWD, ".", true, true, err);
	unsigned attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (p->writable ? 0 : MOUNT_ATTR_RDONLY);

	if (fd < 0)
		return fd;
	int e = vmnt_restrict(fd, attrs, true, p->image_path, err);
	if (e < 0)
		close(fd);
	return e < 0 ? e : fd;
}

int ctr_enter_cwd(const struct plan *p, struct ctr_start *s, const struct vl_progress *say, struct vl_err *err)
{
	const char *last[] = { p->user.home ? p->user.home : "/", "/" };
	const char *at = NULL;

	for (size_t i = 0; i < p->cwd.n && !at; i++) {
		if (chdir(p->cwd.v[i]) == 0)
			at = p->cwd.v[i];
		else if (p->cwd_must)
			return vl_fail_sys(err, errno, "cannot enter the working directory %s", p->cwd.v[i]);
	}
	if (!at && p->cwd.n)
		vl_progress_warn(say, "the current directory %s cannot be entered in the container; starting in %s",
				 p->cwd.v[0], access(last[0], X_OK) == 0 ? last[0] : "/");
	for (size_t i = 0; i < VL_COUNT(last) && !at; i++)
		if (chdir(last[i]) == 0)
			at = last[i];
	if (!at)
		return vl_fail_sys(err, errno, "cannot enter any directory of the container");
	ctr_env_put(&s->env, "PWD", at);
	return 0;
}

static bool share(const struct plan *p, const struct vmnt_image *image, struct ctr_joined_to *ret,
		  const struct vl_progress *say)
{
	struct vl_err why = { 0 };

	if (ctr_join(p, image, ret, &why) == 0)
		return true;
	vl_progress_note(say, "%s is mounted for this start alone: %s", p->image_path, why.text);
	return false;
}

static int mount_squash(const struct plan *p, struct vmnt_server *server, const struct vmnt_image *image,
			struct vl_err *err)
{
	VL_CLOSE int control = -1;
	VL_CLOSE int mount = vmnt_server_mount(server, image, p->record >= 0 ? &control : NULL, err);

	if (mount >= 0 && p->record >= 0 &&
	    (vl_msg_send_fd(p->record, control, NULL, 0) < 0 || vl_msg_send_fd(p->record, mount, NULL, 0) < 0))
		return vl_fail(err, EPIPE, "who records the start is gone");
	return vl_steal_fd(&mount);
}

static void reap(pid_t *pid)
{
	if (*pid)
		vl_wait(*pid);
	*pid = 0;
}

struct container {
	struct ctr_joined_to joined; /* what the image's holder gave */
	struct ctr_root root;
	struct ctr_start start;
	struct ctr_first first; /* with a pid namespace: the process that keeps it alive */
	struct ctr_stay stay;   /* with changes that are written back late: the parent that waits for that */
};
#define CONTAINER_INIT                                                                                                 \
	{                                                                                                              \
		.joined = CTR_JOINED_INIT, .root = CTR_ROOT_INIT, .start = CTR_START_INIT, .first = CTR_FIRST_INIT,    \
		.stay = CTR_STAY_INIT                                                                                  \
	}

/* What the start itself reads of an image, and nearly every program: its loader and the C library. */
static const char *const early[] = {
	"/etc/passwd",
	"/etc/group",
	"/.singularity.d/env/90-environment.sh",
#if defined __x86_64__
	"/lib64/ld-linux-x86-64.so.2",
	"/lib/x86_64-linux-gnu/libc.so.6",
#elif defined __aarch64__
	"/lib/ld-linux-aarch64.so.1",
	"/lib/aarch64-linux-gnu/libc.so.6",
#endif
	"/lib64/libc.so.6",
};

static struct vmnt_image image_of(const struct plan *p, const struct vmnt_place *places)
{
	struct vmnt_image image = {
		.fd = p->image_fd,
		.off = p->image_off,
		.size = p->image_size,
		.name = p->image_path,
		.uid = p->user.uid,
		.gid = p->user.gid,
		.memory = p->server_memory,
		.threads = p->server_threads,
		.places = places,
		.n_places = p->n_mounts,
		.report = p->report,
		.front = p->front,
		.n_front = p->n_front,
		.log = p->log,
		.log_mark = p->log_mark,
		.record = p->record >= 0,
		.early = early,
		.n_early = VL_COUNT(early),
	};

	if (p->tree)
		image.tree = *p->tree;
	return image;
}

/* The end of the list below: from a root that is complete to the program's place in it. */
static int move_in(const struct plan *p, struct container *c, const char *bundle, struct ctr_cgroup *cgroup,
		   bool all_ids, const struct vl_progress *say, struct vl_err *err)
{
	struct ctr_root *root = &c->root;
	struct ctr_start *start = &c->start;
	struct ctr_tree tree = { .fd = root->fd };
	VL_STRV struct vl_strv argv = { 0 };
	int r;

	/* What to start and in which environment, read from the image through the root's descriptor. Who keeps a
	 * container for others needs the way in, which is open only while the host's /proc is there. */
	if ((r = ctr_choose_program(&tree, p, &argv, err)) < 0)
		return r;
	ctr_environment(&tree, p, &argv, start);
	if (p->keep_fd >= 0 && (r = ctr_door_open(root->fd, &start->door, err)) < 0)
		return r;
	ctr_offer_prepare(&c->joined.offer);

	/* The host's tree goes; no path of the host works after this. */
	if ((r = vmnt_switch_root(root->fd, root->covers, err)) < 0)
		return r;
	bool chrooted = r > 0;
	if (!chrooted && !root->alone)
		ctr_offer_make(&c->joined.offer, root->fd);
	if ((r = ctr_enter_cwd(p, start, say, err)) < 0 || (r = ctr_hooks_inside(root, p, bundle, err)) < 0)
		return r;
	if (p->umask >= 0)
		umask((mode_t)p->umask);
	ctr_cgroup_join(cgroup, say);

	/* Capabilities last, because every step above needed them. */
	if (p->fakeroot && !all_ids && (r = ctr_emulation_start(&start->emulation, err)) < 0)
		return r;
	return ctr_reduce_caps(p, !chrooted, err);
}

/* The container was made by an earlier start. */
static bool is_there(const struct container *c)
{
	return c->joined.door.fd[CTR_MNT] >= 0;
}

/* Those besides the user namespace, which owns them. */
static int enter_namespaces(const struct plan *p, struct container *c, struct ctr_net *net, pid_t *mapper,
			    struct vl_err *err)
{
	/* The server is not in them: it serves several. */
	int r = ctr_enter_spaces(p, err);

	if (r < 0 || (r = ctr_net_up(net, err)) < 0)
		return r;

	/* A process cannot change its own pid namespace: from here on it is the first process of the new one that
	 * does the work, and the caller passes on signals and the exit status. */
	if (p->namespaces & PLAN_NS_PID) {
		reap(mapper);
		if ((r = ctr_stay_bound(&c->stay, err)) < 0)
			return r;
	}
	if ((r = ctr_enter_pidns(p, &c->first, err)) < 0)
		return r;
	return ctr_enter_mountns(err);
}

/* Everything between the plan and the last step. */
static int set_up(struct plan *p, struct container *c, const struct vl_progress *say, struct vl_err *err)
{
	VMNT_SERVER struct vmnt_server server = VMNT_SERVER_INIT;
	CTR_LAYERS struct ctr_layers layers = CTR_LAYERS_INIT;
	struct ctr_cgroup cgroup = CTR_CGROUP_INIT;
	struct ctr_net net = CTR_NET_INIT;
	struct ctr_root *root = &c->root;
	VL_FREE struct vmnt_place *places = NULL;
	VL_FREE char *bundle = NULL;
	bool squash = p->image == PLAN_SQUASHFS;
	VL_CLOSE int mount = -1;
	pid_t mapper = 0;
	int r;

	/* The caller, in the host's namespaces, with the caller's rights. A bind out of an image file needs a place of
	 * its kind, which only that image knows. */
	if ((r = ctr_find_image_sources(p, err)) < 0)
		return r;
	places = ctr_places(p);
	struct vmnt_image image = image_of(p, places);
	if (!squash && fchdir(p->image_fd) < 0)
		return vl_fail_sys(err, errno, "cannot enter %s", p->image_path);
	if ((r = ctr_hooks_place(p, &bundle, err)) < 0)
		return r;

	/* Limits, which only the program is to be under, and the process that will be its network: both need
	 * what is the host's. */
	ctr_cgroup_make(p, &cgroup, say);
	if ((r = ctr_net_start(p, &net, err)) < 0)
		return r;

	/* One mount for all starts of an image: its holder has one, and a user namespace around it, which is
	 * entered here. Where there can be no holder, or none is wanted, all of it is made for this start. Where there
	 * is more, a container as this one would be, there is nothing to set up. */
	bool all_ids = p->n_overlays && ctr_may_map_all(); /* of its namespace: asked before that is entered */
	bool shared = ctr_shares_mount(p) && share(p, &image, &c->joined, say);
	if (is_there(c))
		return p->before_use ? p->before_use(p->before_use_arg, err) : 0;
	mount = vl_steal_fd(&c->joined.mount);

	/* From here on every capability, but only over what this user namespace owns. First of all,
	 * because nothing that follows is allowed to a plain user outside of one. */
	if (!shared && (r = p->fakeroot ? ctr_enter_fakeroot(p, &image.all_ids, &mapper, say, err)
					: ctr_enter_userns(p, &image.all_ids, &mapper, err)) < 0)
		return r;

	/* The image's server is forked between the namespaces: inside the user namespace, as FUSE
	 * demands, outside the mount namespace, so that the mount ends with its users. */
	if ((squash && !shared && (r = vmnt_server_start(&image, &server, err)) < 0) ||
	    (r = ctr_serve_images(root, p, err)) < 0)
		return r;

	/* The same for overlays: servers of squashfs and ext3 files, and who keeps the locks of directories, must not
	 * hold the mounts that they wait for the end of, nor end with a pid namespace. */
	if ((r = ctr_layers_start(p, shared ? all_ids : image.all_ids, c->stay.done, &layers, err)) < 0)
		return r;

	/* The other namespaces. With one for pids, what returns is the first process in it. */
	if ((r = enter_namespaces(p, c, &net, &mapper, err)) < 0)
		return r;

	/* What is to be bound, before anything covers it. The server opens the image meanwhile. */
	if ((r = ctr_open_sources(root, p, say, err)) < 0)
		return r;

	/* The image, answering. */
	if (!shared)
		mount = squash ? mount_squash(p, &server, &image, err) : clone_directory(p, err);
	reap(&mapper); /* it ended meanwhile; the program shall find no child that it never started */
	if (mount < 0)
		return mount;
	if (p->before_use && (r = p->before_use(p->before_use_arg, err)) < 0)
		return r;
	if (squash && !shared)
		ctr_look_at_top(mount);

	/* The image over the host's root, overlays over that, then everything onto it, parents first. */
	if ((r = ctr_attach_root(root, p, places, &layers, vl_steal_fd(&mount), err)) < 0 ||
	    (r = ctr_mount_images(root, p, err)) < 0 || (r = ctr_place_mounts(root, p, say, err)) < 0)
		return r;
	if (layers.unlocked)
		vl_progress_warn(say, "overlays are read without a lock: this user has as many inotify instances as "
				      "allowed; as root: sysctl -w fs.inotify.max_user_instances=1024");

	/* passwd and group: after the mounts, which may have replaced them. */
	if ((r = ctr_write_ids(root, p, err)) < 0)
		return r;

	/* Programs of the host that devices ask for: they may change the container's files and mount more. */
	if ((r = ctr_hooks_outside(root, p, bundle, err)) < 0)
		return r;

	return move_in(p, c, bundle, &cgroup, image.all_ids, say, err);
}

/* Filters at the very end, and on the program alone: what they forbid is its concern and not ours. Of two that refuse,
 * the later one is heard. */
int ctr_enter_filters(const struct plan *p, struct ctr_start *start, struct vl_err *err)
{
	int r = start->emulation.sock >= 0 ? ctr_emulation_enter(&start->emulation, err) : 0;

	return r < 0 ? r : ctr_enter_seccomp(p, err);
}

static int keep(const struct plan *p, const struct ctr_start *s, uid_t user, const struct vl_progress *say,
		struct vl_err *err)
{
	VL_BUF struct vl_buf changes = { 0 };
	VL_CLOSE int guard = -1;

	ctr_warn_of_lone_ranks(p, say);
	int r = ctr_keep_changes(p, s, &changes, &guard, err);

	return r < 0 ? r
		     : ctr_keep(&s->door, &changes, &(struct ctr_lines){ p->keep_fd, p->keep_door, guard }, user, err);
}

int ctr_run(struct plan *p, const struct vl_progress *say, int *ret_status, struct vl_err *err)
{
	struct container c = CONTAINER_INIT;

	*ret_status = 0;
	ctr_plan_sort(p, say);
	/* First of all, outside of everything: who waits until changes are written back. */
	int r = ctr_stay(p, &c.stay, err);
	if (r == 0)
		r = set_up(p, &c, say, err);
	if (r == 0 && is_there(&c))
		r = ctr_run_inside(p, &c.joined.door, NULL, say, ret_status, err);
	if (r == 0 && !(p->namespaces & PLAN_NS_PID))
		r = ctr_stay_bound(&c.stay, err);
	if (r == 0)
		r = ctr_leave_init(p, &c.first, err);
	if (r == 0 && p->instance) /* its programs are under filters, what keeps it is not */
		r = ctr_instance_keep(p, &c.start, err);
	uid_t user = geteuid(); /* before a filter that answers in the kernel's place */
	if (r == 0)
		r = ctr_enter_filters(p, &c.start, err);
	if (r == 0 && p->action == PLAN_KEEP)
		r = keep(p, &c.start, user, say, err);
	else if (r == 0)
		r = ctr_exec(p, &c.start, ret_status, err); /* descriptors of ours are close-on-exec */
	ctr_start_free(&c.start);
	ctr_root_free(&c.root, p->n_mounts);
	ctr_joined_free(&c.joined);
	return r;
}
