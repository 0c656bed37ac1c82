/* Starts that come to the same container. Making one takes a dozen mounts and two waits for all processors, one for the
 * host's tree to go and one, at the end, for the container's. So who has made one offers it to the holder of its image, and
 * a later start that would only make the same again enters it. What a process has of its own (environment, directory,
 * capabilities, limits, filters) is made for each start as ever; it is the mounts that are shared. */
#include "hold.h"

#include <fcntl.h>
#include <sys/stat.h>

/* Nothing in it that one program could change and another see. None can mount: who has that power, or a filter, has a user
 * namespace of his own, and no holder. */
static bool may_be_shared(const struct plan *p)
{
	bool stays = p->action == PLAN_KEEP || p->instance;
	bool changes = p->n_overlays || p->writable_tmpfs || p->n_hooks;

	for (size_t i = 0; i < p->n_mounts; i++)
		if (p->mounts[i].kind != PLAN_BIND)
			return false;
	return !stays && !changes && !p->namespaces && !p->limits.any && p->record < 0;
}

/* Which file or directory that is, and in which mount: a name may be another one's by now. */
static bool add_bind(struct vl_buf *b, const struct plan_mount *m)
{
	struct statx sx;

	if (statx(AT_FDCWD, m->src, m->flags & PLAN_LINK ? AT_SYMLINK_NOFOLLOW : 0, STATX_INO | CTR_STATX_MNT_ID, &sx) <
		    0 ||
	    !(sx.stx_mask & CTR_STATX_MNT_ID))
		return false;
	vl_buf_addf(b, "bind %u:%u %llx %llx %u %zu %s\n", sx.stx_dev_major, sx.stx_dev_minor,
		    (unsigned long long)sx.stx_ino, (unsigned long long)sx.stx_mnt_id, m->flags, strlen(m->dst),
		    m->dst);
	return true;
}

/* What is written into passwd and group. */
static void add_user(struct vl_buf *b, const struct plan_user *u)
{
	const char *of[] = { u->name, u->gecos, u->shell, u->home };

	for (size_t i = 0; i < VL_COUNT(of); i++)
		vl_buf_addf(b, "user %zu %s\n", of[i] ? strlen(of[i]) : 0, of[i] ? of[i] : "-");
	for (size_t i = 0; i < u->n_groups; i++)
		vl_buf_addf(b, "group %u %s\n", u->groups[i].gid, u->groups[i].name);
}

char *ctr_alike_key(const struct plan *p)
{
	VL_BUF struct vl_buf b = { 0 };

	if (!may_be_shared(p))
		return NULL;
	add_user(&b, &p->user);
	for (size_t i = 0; i < p->n_mounts; i++)
		if (!add_bind(&b, &p->mounts[i]))
			return NULL;
	return vl_steal(&b.data);
}

void ctr_offer_prepare(struct ctr_offer *o)
{
	if (o->sock >= 0)
		o->mnt = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
}

/* Nobody waits for it: who made the container has it, whether others will or not. */
void ctr_offer_make(const struct ctr_offer *o, int rootfd)
{
	VL_BUF struct vl_buf b = { 0 };
	const int fds[CTR_OFFER_FDS] = {
		[CTR_OFFER_MNT] = o->mnt, [CTR_OFFER_ROOT] = rootfd, [CTR_OFFER_TABLE] = o->table
	};
	const char kind = CTR_OFFER;

	if (o->sock < 0 || o->mnt < 0)
		return;
	vl_buf_add(&b, &kind, 1);
	vl_buf_add(&b, o->key, strlen(o->key) + 1);
	vl_msg_send_fds(o->sock, VL_MSG_FD, fds, VL_COUNT(fds), b.data, b.len);
}
