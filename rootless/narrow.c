/* Of the devices in a container that several tasks share, those that are another task's. Linked into the Slurm plugin too. */
#include "rootless.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

#define DEVICES_MAX 256
#define KEYS_MAX 4

/* KEY,KEY:DEVICE:DEVICE...; see CTR_DEVICES. */
struct kind {
	char *keys[KEYS_MAX]; /* the first that a task has says which devices are its */
	struct {
		char *names, *nodes;
		unsigned index;
		bool mine;
	} v[DEVICES_MAX];
	size_t n_keys, n;
};

/* -E2BIG, -EINVAL: not as our own side writes it. */
static int read_kind(char *text, struct kind *ret)
{
	char *save, *keys = strtok_r(text, ":", &save), *more;

	*ret = (struct kind){ 0 };
	for (char *w; (w = strtok_r(NULL, ":", &save)); ret->n++) {
		char *nodes = strchr(w, '=');
		if (ret->n == DEVICES_MAX)
			return -E2BIG;
		if (!nodes || *w < '0' || *w > '9')
			return -EINVAL;
		*nodes++ = 0;
		ret->v[ret->n].names = w;
		ret->v[ret->n].nodes = nodes;
		ret->v[ret->n].index = (unsigned)strtoul(w, NULL, 10);
	}
	for (char *w = keys ? strtok_r(keys, ",", &more) : NULL; w && ret->n_keys < KEYS_MAX;
	     w = strtok_r(NULL, ",", &more))
		ret->keys[ret->n_keys++] = w;
	return ret->n_keys ? 0 : -EINVAL;
}

static bool is_key(const char *kv, const char *key)
{
	size_t n = strlen(key);

	return !strncmp(kv, key, n) && kv[n] == '=';
}

/* ---- numbers ------------------------------------------------------------------------------------ */

/* A device, or with a dot a part of one: 1, 1.0. *ret_rest: what follows the number. */
static bool read_number(const char *word, unsigned *ret, const char **ret_rest)
{
	size_t digits = strspn(word, "0123456789");

	if (!digits || digits > 9 || (word[digits] && word[digits] != '.'))
		return false;
	*ret = (unsigned)strtoul(word, NULL, 10);
	*ret_rest = word + digits;
	return true;
}

char *ctr_renumber(const char *list, const unsigned *left, size_t n)
{
	VL_FREE char *words = vl_strdup(list);
	VL_BUF struct vl_buf b = { 0 };
	const char *rest;
	unsigned index;

	vl_buf_adds(&b, "");
	for (char *save, *w = strtok_r(words, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		size_t place = 0;
		bool number = read_number(w, &index, &rest);
		while (number && place < n && left[place] != index)
			place++;
		if (!number)
			vl_buf_addf(&b, "%s%s", b.len ? "," : "", w);
		else if (place < n)
			vl_buf_addf(&b, "%s%zu%s", b.len ? "," : "", place, rest);
	}
	return b.len || !*list ? vl_steal(&b.data) : vl_strdup("-1");
}

/* ---- which are this task's ------------------------------------------------------------------------ */

/* Is it meant by a word of such a variable: its number, its UUID or a beginning of that, or a slice of it? */
static bool is_meant(const struct kind *k, size_t i, const char *word)
{
	const char *uuid = k->v[i].names + strcspn(k->v[i].names, ","), *mig = vl_prefix(word, "MIG-"), *rest;
	size_t n = *uuid ? strcspn(++uuid, ",") : 0;
	unsigned index;

	if (vl_streq(word, "all"))
		return true;
	if (read_number(word, &index, &rest))
		return index == k->v[i].index;
	if (mig && !vl_prefix(mig, "GPU-")) /* a slice's own: whose, only the driver knows */
		return vl_streq(uuid + n, ",MIG");
	if (mig)
		return n && !strncasecmp(mig, uuid, n) && mig[n] == '/';
	return strlen(word) > strlen("GPU-") && strlen(word) <= n && !strncasecmp(uuid, word, strlen(word));
}

static bool is_none(const char *list)
{
	return !*list || vl_streq(list, "-1") || vl_streq(list, "none") || vl_streq(list, "void") ||
	       vl_streq(list, "NoDevFiles");
}

/* By the variable. What it means and is not here is another's; who means nothing that is here would have all of them if this
 * went on. */
static int find_named(struct kind *k, const char *key, const char *list, struct vl_err *err)
{
	VL_FREE char *words = vl_strdup(list);
	bool any = is_none(list);

	for (char *save, *w = strtok_r(words, ",", &save); w; w = strtok_r(NULL, ",", &save))
		for (size_t i = 0; i < k->n; i++)
			if (is_meant(k, i, w))
				k->v[i].mine = any = true;
	if (any)
		return 0;
	VL_FREE char *shown = vl_printable(list, strnlen(list, 256));
	return vl_fail(err, ENODEV,
		       "%s=%s: none of these is a device of this container that can be told from the others; a device "
		       "cgroup (ConstrainDevices=yes in cgroup.conf) gives each task its own whatever they are called",
		       key, shown);
}

/* The variables count what is left here from now on. One of several that says something else than the first counts what that
 * one leaves, and goes on doing so. */
static void renumber(const struct kind *k, char *const *env, const char *list, struct vl_strv *changes)
{
	unsigned left[DEVICES_MAX];
	size_t n = 0;

	for (size_t i = 0; i < k->n; i++)
		if (k->v[i].mine)
			left[n++] = k->v[i].index;
	for (size_t i = 0; i < k->n_keys; i++) {
		const char *value = vl_env_value(env, k->keys[i]);
		VL_FREE char *now =
			value && vl_streq(value, list) && !is_none(list) ? ctr_renumber(list, left, n) : NULL;
		if (now && !vl_streq(now, value))
			vl_strv_take(changes, vl_asprintf("%s=%s", k->keys[i], now));
	}
}

static bool says(char *const *env, const char *name)
{
	const char *value = vl_env_value(env, name);

	return value && *value;
}

bool ctr_given_no_devices(char *const *env)
{
	return says(env, "SLURM_STEP_ID") && says(env, "SLURM_JOB_GPUS") && !says(env, "SLURM_STEP_GPUS") &&
	       !says(env, "SLURM_GPUS_ON_NODE");
}

/* A device cgroup answers EPERM here, as it would to an open, and no driver is woken. Then the variables count what the cgroup
 * leaves, from 0; else they have the numbers of the machine. *ret_part: are any another's? */
static int find_mine(struct kind *k, char *const *env, struct vl_strv *changes, bool *ret_part, struct vl_err *err)
{
	const char *list = NULL, *key = NULL;
	bool refused = false;

	*ret_part = false;
	for (size_t i = 0; i < k->n; i++) {
		VL_FREE char *node = vl_strndup(k->v[i].nodes, strcspn(k->v[i].nodes, "+"));
		k->v[i].mine = !(access(node, R_OK | W_OK) < 0 && errno == EPERM);
		refused |= !k->v[i].mine;
	}
	for (size_t i = 0; i < k->n_keys && !list; i++)
		list = vl_env_value(env, key = k->keys[i]);
	if (ctr_given_no_devices(env))
		list = "none";
	*ret_part = refused;
	if (refused || !list)
		return 0;
	for (size_t i = 0; i < k->n; i++)
		k->v[i].mine = false;
	int r = find_named(k, key, list, err);
	for (size_t i = 0; i < k->n; i++)
		*ret_part |= !k->v[i].mine;
	if (r == 0) /* also where all are its: the container may have a part of the machine's */
		renumber(k, env, list, changes);
	return r;
}

/* ---- the others ------------------------------------------------------------------------------------ */

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
		VL_FREE char *nodes = k->v[i].mine ? NULL : vl_strdup(k->v[i].nodes);
		char *save;
		for (char *w = nodes ? strtok_r(nodes, "+", &save) : NULL; w && r == 0; w = strtok_r(NULL, "+", &save))
			r = shut(w, err);
	}
	return r;
}

static int narrow(char *text, char *const *environment, struct vl_strv *changes, bool *own, struct vl_err *err)
{
	struct kind k;
	bool part;
	int r = read_kind(text, &k);

	if (r < 0)
		return vl_fail_sys(err, -r, "the list of this container's devices");
	if ((r = find_mine(&k, environment, changes, &part, err)) < 0 || !part)
		return r;
	if (!*own && unshare(CLONE_NEWNS) < 0)
		return vl_fail_sys(err, errno, "cannot make a mount namespace for this task's devices");
	*own = true;
	return shut_others(&k, err);
}

int ctr_narrow_devices(char *const *environment, struct vl_strv *changes, bool *ret_own, struct vl_err *err)
{
	int r = 0;

	*ret_own = false;
	for (size_t i = 0; i < changes->n; i++) {
		if (!is_key(changes->v[i], CTR_DEVICES))
			continue;
		VL_FREE char *all = changes->v[i];
		memmove(&changes->v[i], &changes->v[i + 1], (changes->n-- - i) * sizeof *changes->v);
		char *save;
		for (char *w = strtok_r(all + strlen(CTR_DEVICES "="), ";", &save); w && r == 0;
		     w = strtok_r(NULL, ";", &save))
			r = narrow(w, environment, changes, ret_own, err);
		break;
	}
	return r;
}
