/* Of the devices in a container that several tasks share, those that are another task's. Linked into the Slurm plugin too. */
#include "rootless.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

#define DEVICES_MAX 256

/* KEY:NODES:NODES..., where NODES is /dev/A[+/dev/B...] of one device and KEY the variable that numbers them. */
struct kind {
	char *key;
	char *nodes[DEVICES_MAX];
	bool mine[DEVICES_MAX];
	size_t n;
};

static void read_kind(char *text, struct kind *ret)
{
	char *save;

	*ret = (struct kind){ .key = strtok_r(text, ":", &save) };
	for (char *w; ret->key && ret->n < DEVICES_MAX && (w = strtok_r(NULL, ":", &save));)
		ret->nodes[ret->n++] = w;
}

static char *first_node(const struct kind *k, size_t i)
{
	return vl_strndup(k->nodes[i], strcspn(k->nodes[i], "+"));
}

static bool is_key(const char *kv, const char *key)
{
	size_t n = strlen(key);

	return !strncmp(kv, key, n) && kv[n] == '=';
}

static const char *value_of(char *const *env, const char *key)
{
	for (; *env; env++)
		if (is_key(*env, key))
			return *env + strlen(key) + 1;
	return NULL;
}

/* A device cgroup answers EPERM here, as it would to an open, and no driver is woken. Then the variable counts what the cgroup
 * leaves, from 0; else it has the numbers of the machine, and from now on counts what is left here. */
static bool find_mine(struct kind *k, char *const *env, struct vl_strv *changes)
{
	const char *list = value_of(env, k->key);
	VL_BUF struct vl_buf renumbered = { 0 };
	size_t refused = 0, mine = 0;

	for (size_t i = 0; i < k->n; i++) {
		VL_FREE char *node = first_node(k, i);
		k->mine[i] = !(access(node, R_OK | W_OK) < 0 && errno == EPERM);
		refused += !k->mine[i];
	}
	if (refused || !list || !*list || list[strspn(list, "0123456789,")])
		return refused;
	memset(k->mine, 0, sizeof k->mine);
	vl_buf_addf(&renumbered, "%s=", k->key);
	for (const char *s = list; *s; s += strcspn(s, ","), s += *s == ',') {
		unsigned long i = strtoul(s, NULL, 10);
		if (i >= k->n)
			return false; /* parts of devices, whose numbers are others */
		mine += !k->mine[i];
		k->mine[i] = true;
	}
	for (size_t i = 0; i < mine; i++)
		vl_buf_addf(&renumbered, "%s%zu", i ? "," : "", i);
	if (mine < k->n)
		vl_strv_add(changes, renumbered.data);
	return mine < k->n;
}

/* The node over itself, by a mount on which no device works. */
static int shut(const char *node, struct vl_err *err)
{
	VL_CLOSE int mount = vmnt_clone(AT_FDCWD, node, false, true, err);
	if (mount < 0)
		return err->code == ENOENT ? 0 : mount;
	VL_CLOSE int target = open(node, O_PATH | O_CLOEXEC);
	int r = vmnt_restrict(mount, MOUNT_ATTR_NODEV, false, node, err);
	return r < 0 ? r : vmnt_attach(mount, target, node, err);
}

static int shut_others(const struct kind *k, struct vl_err *err)
{
	int r = 0;

	for (size_t i = 0; i < k->n && r == 0; i++) {
		VL_FREE char *nodes = k->mine[i] ? NULL : vl_strdup(k->nodes[i]);
		char *save;
		for (char *w = nodes ? strtok_r(nodes, "+", &save) : NULL; w && r == 0; w = strtok_r(NULL, "+", &save))
			r = shut(w, err);
	}
	return r;
}

int ctr_narrow_devices(char *const *environment, struct vl_strv *changes, struct vl_err *err)
{
	bool own = false;
	int r = 0;

	for (size_t i = 0; i < changes->n; i++) {
		if (!is_key(changes->v[i], CTR_DEVICES))
			continue;
		VL_FREE char *all = changes->v[i];
		memmove(&changes->v[i], &changes->v[i + 1], (changes->n-- - i) * sizeof *changes->v);
		char *save;
		for (char *w = strtok_r(all + strlen(CTR_DEVICES "="), ";", &save); w && r == 0;
		     w = strtok_r(NULL, ";", &save)) {
			struct kind k;
			read_kind(w, &k);
			if (!k.key || !find_mine(&k, environment, changes))
				continue;
			if (!own && unshare(CLONE_NEWNS) < 0)
				return vl_fail_sys(err, errno, "cannot make a mount namespace for this task's devices");
			own = true;
			r = shut_others(&k, err);
		}
		break;
	}
	return r;
}
