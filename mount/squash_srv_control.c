/* What the control thread does to a session that runs. */
#include "squash_srv.h"

int vmnt_session_add_places(struct vmnt_session *s, const struct vmnt_place *places, size_t n, struct vl_err *err)
{
	size_t before = s->virt.n;
	struct squash *sq = vl_alloc(sizeof *sq);

	vmnt_sq_reader(&s->sq, sq);
	int r = vmnt_virtual_plan(sq, places, n, &s->virt, err);
	vmnt_sq_close(sq);
	free(sq);
	/* "Not there" and whole listings may be remembered for ever. The entry first: taking it back waits for
	 * lookups and listings under way in that directory, which began before there was anything to see. A
	 * directory the kernel has not seen is -ENOENT, and fine. */
	for (size_t i = before; i < s->virt.n; i++) {
		const struct sq_virtual *v = &s->virt.v[i];
		fuse_lowlevel_notify_inval_entry(s->fuse, v->parent, v->name, strlen(v->name));
		fuse_lowlevel_notify_inval_inode(s->fuse, v->parent, 0, 0);
	}
	return r;
}

bool vmnt_srv_note_read(struct vmnt_session *s, uint64_t ref, uint64_t off, uint64_t n)
{
	struct srv_file *set = s->file[(ref * 0x9e3779b97f4a7c15ull >> 32) % SRV_SETS], *f = set;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < SRV_SET && f->ref != ref; i++)
		f = set[i].ref == ref || set[i].reads < f->reads ? &set[i] : f;
	if (f->ref != ref)
		*f = (struct srv_file){ .ref = ref };
	bool in_order = f->reads && f->next == off;
	f->reads++;
	f->bytes += n;
	f->next = off + n;
	pthread_mutex_unlock(&s->lock);
	return in_order;
}

bool vmnt_srv_note_end(struct vmnt_session *s, uint64_t ref, uint64_t next)
{
	size_t k = 0;

	pthread_mutex_lock(&s->lock);
	while (k < SRV_EXPECTED && s->expected[k] != ref)
		k++;
	bool came = k < SRV_EXPECTED;
	s->expected[came ? k : s->next_expected++ % SRV_EXPECTED] = next;
	pthread_mutex_unlock(&s->lock);
	return came;
}
