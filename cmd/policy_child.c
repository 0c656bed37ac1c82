/* Signatures are checked by another program, vial-verify: what starts containers loads no libcrypto. It gets the open file,
 * and its answer is outside data: it has read the image. */
#include "policy.h"

#include "run.h"

static int hear(int sock, const struct policy_image *i, struct pol_facts *f, struct vl_err *err)
{
	VL_FREE char *text = vl_alloc(POL_FACTS_MAX + 1);
	enum vl_msg_type type = VL_MSG_ERR;
	size_t n = 0;
	int r = vl_msg_recv(sock, &type, text, POL_FACTS_MAX, &n);

	if (r < 0)
		return vl_fail(err, EPIPE,
			       "%s: the process that checks its signatures died; the image may be built to break it",
			       i->name);
	if (type == VL_MSG_OK)
		return pol_facts_parse(text, n, f, err);
	if (type != VL_MSG_ERR || n != sizeof *err)
		return vl_fail(err, EPROTO, "%s: the process that checks its signatures makes no sense", i->name);
	memcpy(err, text, sizeof *err);
	err->text[sizeof err->text - 1] = 0;
	return err->code > 0 ? -err->code : -EIO;
}

int cmd_policy_look_by_child(const struct policy_image *i, const struct vl_strv *roots, struct pol_facts *f,
			     struct cmd_verified *ret, struct vl_err *err)
{
	struct cmd_verified not_wanted = { 0 };
	VL_STRV struct vl_strv words = { 0 };
	pid_t pid = 0;

	vl_strv_add(&words, "facts");
	vl_strv_take(&words, vl_asprintf("%d", i->use));
	vl_strv_take(&words, vl_asprintf("%llu", (unsigned long long)i->off));
	vl_strv_take(&words, vl_asprintf("%llu", (unsigned long long)i->size));
	vl_strv_add(&words, i->tree ? "1" : "0");
	for (size_t k = 0; k < roots->n; k++)
		vl_strv_add(&words, roots->v[k]);
	VL_CLOSE int sock = cmd_verifier_begin(i->fd, &words, &pid, err);
	if (sock < 0)
		return sock;
	int r = hear(sock, i, f, err);
	if (r == 0 && f->by_tree)
		r = cmd_verifier_end(sock, ret ? ret : &not_wanted, err);
	cmd_verified_free(&not_wanted);
	vl_wait(pid);
	return r;
}
