/* OpenPGP in a child: librnp is large, written in C++, and talks to stderr; what it reads comes from strangers. The
 * child has no privileges, no descriptors and a limit on its time. Its answer lies in memory that both see, and the
 * parent believes no length in it. */
#include "crypto.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

struct answer {
	bool done, foreign;
	int result;
	enum sif_verdict verdict;
	struct vl_err err;
	char claims[128], id[128], name[256], skipped[512]; /* "" = none */
	size_t len;
	char text[SIF_MAX_SIGNATURE];
};

struct question {
	const struct sif_pgp_keys *keys;
	const char *text;
	size_t len;
	const uint8_t *expected;
	rlim_t seconds;
};

/* ---- in the child ---- */

static void put(char *to, size_t size, const char *s)
{
	size_t n = s ? VL_MIN(strlen(s), size - 1) : 0;

	memcpy(to, s ? s : "", n);
	to[n] = 0;
}

static int verify(const struct question *q, struct answer *a)
{
	SIF_PGP struct sif_pgp *p = NULL;
	struct sif_signature s = { 0 };
	VL_FREE char *text = NULL;
	int r = sif_pgp_new(q->keys, &p, &a->err);

	s.verdict = r < 0 ? SIF_UNKNOWN : SIF_UNCHECKED;
	if (r == 0)
		r = sif_pgp_check(p, q->text, q->len, q->expected, &s, &text, &a->len, &a->err);
	if (r == 0) {
		put(a->id, sizeof a->id, s.signers[0].id);
		put(a->name, sizeof a->name, s.signers[0].name);
		a->foreign = s.signers[0].foreign;
		memcpy(a->text, text, VL_MIN(a->len, sizeof a->text));
	}
	put(a->claims, sizeof a->claims, s.claims);
	put(a->skipped, sizeof a->skipped, p ? sif_pgp_skipped(p) : NULL);
	a->verdict = s.verdict;
	sif_signature_free(&s);
	return r;
}

static void run(const struct question *q, struct answer *a, pid_t parent)
{
	struct rlimit cpu = { q->seconds, q->seconds }, core = { 0, 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before that */
		_exit(1);
	setrlimit(RLIMIT_CPU, &cpu);
	setrlimit(RLIMIT_CORE, &core);
	vl_close_all_but(NULL, 0);
	a->result = vl_drop_privileges(&a->err);
	if (a->result == 0)
		a->result = verify(q, a);
	a->done = true;
	_exit(0);
}

/* ---- in the parent ---- */

static uint64_t microseconds(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * 1000000 + (uint64_t)t->tv_usec;
}

/* Returns a copy that nothing which the child may have left behind can change; NULL with err. */
static struct answer *ask(const struct question *q, struct sif_pgp_run *so_far, struct vl_err *err)
{
	struct rusage used = { 0 };
	struct answer *a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *copy;
	pid_t self = getpid(), pid = a == MAP_FAILED ? -1 : fork();

	if (pid == 0)
		run(q, a, self);
	if (pid < 0) {
		vl_fail_sys(err, errno, "cannot start the process that reads OpenPGP");
		if (a != MAP_FAILED)
			munmap(a, sizeof *a);
		return NULL;
	}
	while (wait4(pid, NULL, 0, &used) < 0 && errno == EINTR)
		;
	so_far->cpu += microseconds(&used.ru_utime) + microseconds(&used.ru_stime);
	copy = vl_memdup(a, sizeof *a);
	munmap(a, sizeof *a);
	copy->claims[sizeof copy->claims - 1] = copy->id[sizeof copy->id - 1] = copy->name[sizeof copy->name - 1] = 0;
	copy->skipped[sizeof copy->skipped - 1] = 0;
	copy->err.text[sizeof copy->err.text - 1] = 0;
	return copy;
}

static int outcome(const struct answer *a, struct vl_err *err)
{
	if (!a->done)
		return vl_fail(
			err, EPIPE,
			"the process that reads OpenPGP died; the text may be built to break it, or memory ran out");
	if (a->result == 0)
		return a->len <= sizeof a->text ? 0
						: vl_fail(err, EPROTO, "the process that reads OpenPGP went astray");
	return vl_fail(err, a->err.code > 0 ? a->err.code : EPROTO, "%s", a->err.text);
}

void sif_pgp_keys_free(struct sif_pgp_keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->v[i].text);
	free(k->v);
	*k = (struct sif_pgp_keys){ 0 };
}

int sif_pgp_verify(const struct sif_pgp_keys *keys, const char *text, size_t len, const uint8_t expected[20],
		   struct sif_pgp_run *so_far, struct sif_signature *s, char **ret, size_t *ret_len, struct vl_err *err)
{
	struct question q = { .keys = keys, .text = text, .len = len, .expected = expected };

	if (so_far->cpu >= SIF_PGP_CPU)
		return vl_fail(err, E2BIG, "the image's OpenPGP signatures take too long to check, more than %llu s",
			       SIF_PGP_CPU / 1000000);
	q.seconds = (rlim_t)((SIF_PGP_CPU - so_far->cpu) / 1000000 + 1);
	VL_FREE struct answer *a = ask(&q, so_far, err);

	if (!a)
		return -err->code;
	int r = outcome(a, err);
	if (*a->skipped && !so_far->skipped)
		so_far->skipped = vl_printable(a->skipped, strlen(a->skipped));
	if (*a->claims)
		s->claims = vl_printable(a->claims, strlen(a->claims));
	if (r < 0) {
		s->verdict = a->verdict == SIF_UNKNOWN ? SIF_UNKNOWN : SIF_UNCHECKED;
		return r;
	}
	VL_FREE char *name = vl_printable(a->name, strlen(a->name));
	sif_signature_add_signer(
		s, &(struct sif_signer){
			   .kind = SIF_SIGNER_PGP, .id = a->id, .name = *name ? name : NULL, .foreign = a->foreign });
	*ret = vl_strndup(a->text, a->len);
	*ret_len = strlen(*ret);
	return 0;
}

void sif_pgp_fingerprint(const uint8_t bytes[20], char ret[41])
{
	vl_hex(bytes, 20, ret);
	for (char *c = ret; *c; c++)
		if (*c >= 'a')
			*c = (char)(*c - 'a' + 'A');
}
