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

#define MAX_KEYS (16u << 20) /* bytes of one file of public keys */
#define CPU_SECONDS 60       /* a signature takes milliseconds, a keyring of thousands of keys seconds */

struct answer {
	bool done;
	int result;
	enum sif_verdict verdict;
	struct vl_err err;
	char claims[128], id[128], name[256], objection[128]; /* "" = none */
	size_t len;
	char text[SIF_MAX_SIGNATURE];
};

struct question {
	const struct sif_pgp_keys *keys; /* NULL: describe text, else verify it */
	const char *text, *what;
	size_t len;
	const uint8_t *expected;
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
		memcpy(a->text, text, VL_MIN(a->len, sizeof a->text));
	}
	put(a->claims, sizeof a->claims, s.claims);
	a->verdict = s.verdict;
	sif_signature_free(&s);
	return r;
}

static int describe(const struct question *q, struct answer *a)
{
	VL_FREE char *id = NULL, *name = NULL;
	const char *objection = NULL;
	int r = sif_pgp_describe(q->text, q->len, q->what, &id, &name, &objection, &a->err);

	put(a->id, sizeof a->id, id);
	put(a->name, sizeof a->name, name);
	put(a->objection, sizeof a->objection, objection);
	return r;
}

static void run(const struct question *q, struct answer *a, pid_t parent)
{
	struct rlimit cpu = { CPU_SECONDS, CPU_SECONDS }, core = { 0, 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before that */
		_exit(1);
	setrlimit(RLIMIT_CPU, &cpu);
	setrlimit(RLIMIT_CORE, &core);
	vl_close_all_but(NULL, 0);
	a->result = vl_drop_privileges(&a->err);
	if (a->result == 0)
		a->result = q->keys ? verify(q, a) : describe(q, a);
	a->done = true;
	_exit(0);
}

/* ---- in the parent ---- */

/* Returns new memory of the two: to be unmapped. */
static int ask(const struct question *q, struct answer **ret, struct vl_err *err)
{
	struct answer *a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t self = getpid(), pid = a == MAP_FAILED ? -1 : fork();

	if (pid == 0)
		run(q, a, self);
	if (pid < 0) {
		int e = errno;
		if (a != MAP_FAILED)
			munmap(a, sizeof *a);
		return vl_fail_sys(err, e, "cannot start the process that reads OpenPGP");
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	a->claims[sizeof a->claims - 1] = a->id[sizeof a->id - 1] = a->name[sizeof a->name - 1] = 0;
	a->objection[sizeof a->objection - 1] = a->err.text[sizeof a->err.text - 1] = 0;
	*ret = a;
	return 0;
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
	*err = a->err;
	return a->result < 0 ? a->result : -EPROTO;
}

int sif_pgp_keys_load(const char *const *files, size_t n, struct sif_pgp_keys *ret, struct vl_err *err)
{
	struct sif_pgp_keys k = { .v = vl_alloc((n + 1) * sizeof *k.v) };

	for (size_t i = 0; i < n; i++) {
		int r = vl_read_file(AT_FDCWD, files[i], MAX_KEYS, &k.v[i].text, &k.v[i].len, err);
		if (r < 0) {
			sif_pgp_keys_free(&k);
			return r;
		}
		k.v[i].what = files[i];
		k.n++;
	}
	*ret = k;
	return 0;
}

void sif_pgp_keys_free(struct sif_pgp_keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->v[i].text);
	free(k->v);
	*k = (struct sif_pgp_keys){ 0 };
}

int sif_pgp_verify(const struct sif_pgp_keys *keys, const char *text, size_t len, const uint8_t expected[20],
		   struct sif_signature *s, char **ret, size_t *ret_len, struct vl_err *err)
{
	struct question q = { .keys = keys, .text = text, .len = len, .expected = expected };
	struct answer *a;
	int r = ask(&q, &a, err);

	if (r < 0)
		return r;
	r = outcome(a, err);
	if (*a->claims)
		s->claims = vl_printable(a->claims, strlen(a->claims));
	if (a->verdict == SIF_UNKNOWN && r < 0)
		s->verdict = SIF_UNKNOWN;
	if (r == 0) {
		VL_FREE char *name = vl_printable(a->name, strlen(a->name));
		sif_signature_add_signer(s, &(struct sif_signer){ SIF_SIGNER_PGP, a->id, *name ? name : NULL });
		*ret = vl_strndup(a->text, a->len);
		*ret_len = strlen(*ret);
	}
	munmap(a, sizeof *a);
	return r;
}

int sif_pgp_identify(const char *text, size_t len, const char *what, char **ret_id, char **ret_name,
		     char **ret_objection, struct vl_err *err)
{
	struct question q = { .text = text, .len = len, .what = what };
	struct answer *a;
	int r = ask(&q, &a, err);

	if (r < 0)
		return r;
	r = outcome(a, err);
	if (r == 0) {
		*ret_id = vl_printable(a->id, strlen(a->id));
		*ret_name = *a->name ? vl_printable(a->name, strlen(a->name)) : NULL;
		*ret_objection = *a->objection ? vl_printable(a->objection, strlen(a->objection)) : NULL;
	}
	munmap(a, sizeof *a);
	return r;
}

void sif_pgp_fingerprint(const uint8_t bytes[20], char ret[41])
{
	vl_hex(bytes, 20, ret);
	for (char *c = ret; *c; c++)
		if (*c >= 'a')
			*c = (char)(*c - 'a' + 'A');
}
