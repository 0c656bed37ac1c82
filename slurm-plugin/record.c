/* The record of a step: its facts, as words, for `vial hold --record`, which makes a line of JSON of them. */
#include "step.h"

#include <sys/mman.h>

#define BATCH_STEP 0xfffffffbu
#define INTERACTIVE_STEP 0xfffffffau

/* ---- facts -------------------------------------------------------------------------------------- */

static void add_fact(int fd, const char *key, const char *value)
{
	VL_FREE char *kv = vl_asprintf("%s=%s", key, value ? value : "");

	if (value)
		(void)!write(fd, kv, strlen(kv) + 1);
}

static void add_count(int fd, const char *key, long long value)
{
	VL_FREE char *text = vl_asprintf("%lld", value);

	add_fact(fd, key, text);
}

static void add_list(int fd, const char *key, const char *list)
{
	while (list && *list) {
		size_t n = strcspn(list, ",");
		VL_FREE char *word = vl_strndup(list, n);
		add_fact(fd, key, word);
		list += n + (list[n] == ',');
	}
}

static void add_step(int fd, uint32_t step)
{
	if (step == BATCH_STEP || step == INTERACTIVE_STEP)
		add_fact(fd, "step", step == BATCH_STEP ? "batch" : "interactive");
	else
		add_count(fd, "step", step);
}

static void add_image(int fd, const struct vsp_shared *s, const char *asked_for)
{
	VL_FREE char *image = vl_strndup(s->image, sizeof s->image);

	add_fact(fd, "image", *image ? image : asked_for);
	if (!*image)
		return;
	add_count(fd, "image_size", s->image_size);
	add_count(fd, "image_mtime", s->image_mtime);
}

static void add_claims(int fd, const struct vsp_shared *s)
{
	VL_FREE char *claims = vl_strndup(s->claims, sizeof s->claims);
	char *signers = strchr(claims, ',');

	if (signers)
		*signers++ = 0;
	add_fact(fd, "digest", *claims ? claims : NULL);
	add_list(fd, "claimed_signers", signers);
}

static void write_facts(int fd, const struct vsp_step *s, const struct vsp_site *site, const struct vsp_options *o,
			const struct vsp_user *u, const struct vsp_facts *f)
{
	add_count(fd, "job", f->job);
	add_step(fd, f->step);
	add_fact(fd, "node", f->node);
	add_fact(fd, "nodes", f->nodes);
	add_count(fd, "uid", u->uid);
	add_count(fd, "gid", u->gid);
	add_image(fd, s->shared, o->value[VSP_IMAGE]);
	add_claims(fd, s->shared);
	add_fact(fd, "name", o->value[VSP_NAME]);
	add_fact(fd, "gpus", f->gpus);
	add_count(fd, "tasks", s->ended);
	add_count(fd, "exit", s->shared->state == VSP_THERE ? s->status : 1);
	add_count(fd, "signal", s->signal);
	add_count(fd, "start", s->since);
	add_count(fd, "end", time(NULL));
	/* these can be longer than a record may be: the last words are those that it lacks */
	add_list(fd, "mounts", site->mounts);
	add_list(fd, "mounts", o->value[VSP_MOUNTS]);
	for (int i = 0; i < f->argc; i++)
		add_fact(fd, "command", f->argv[i]);
}

/* ---- files -------------------------------------------------------------------------------------- */

static int add_to(const char *file, const struct vsp_site *site, const struct vsp_user *u, const char *cwd, int facts,
		  struct vl_err *err)
{
	VL_FREE char *word = vl_asprintf("--record=%s", file);
	char *argv[] = { (char *)site->vial, (char *)"--quiet", (char *)"hold", word, (char *)"-", NULL };
	struct vsp_run run = {
		.cwd = cwd, .in = facts, .sock = -1, .seconds = (int)site->record_timeout, .until = { -1, -1 }
	};

	lseek(facts, 0, SEEK_SET);
	int status = vsp_run_as(u, &run, argv);
	if (status == -ETIMEDOUT)
		return vl_fail(err, ETIMEDOUT, "no record is added to %s: it takes longer than %ld seconds", file,
			       site->record_timeout);
	return status ? vl_fail(err, EIO, "no record is added to %s (status %d)", file, status) : 0;
}

void vsp_record(const struct vsp_step *s, const struct vsp_site *site, const struct vsp_options *o,
		const struct vsp_user *u, const struct vsp_facts *f, struct vl_err *err)
{
	const char *wish = f->node_id == 0 ? o->value[VSP_RECORD] : NULL; /* of one node: they share the file */
	VL_CLOSE int facts = site->records || wish ? memfd_create("facts", MFD_CLOEXEC) : -1;

	if (facts < 0)
		return;
	write_facts(facts, s, site, o, u, f);
	if (site->records) { /* a file for each node: appending is safe on one machine only */
		VL_FREE char *file = vl_asprintf("%s/%s.jsonl", site->records, f->node ? f->node : "node");
		add_to(file, site, &(struct vsp_user){ 0 }, "/", facts, err);
	}
	VL_FREE char *cwd = vl_strndup(s->shared->cwd, sizeof s->shared->cwd);
	if (wish)
		add_to(wish, site, u, cwd, facts, err);
}
