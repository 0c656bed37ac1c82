/* What else a registry keeps for an image: distribution-spec 1.1, "Listing Referrers", and the tag that stands in for it. */
#include "client.h"

#define MT_INDEX "application/vnd.oci.image.index.v1+json"

/* The "manifests" of an index; -EINVAL: it is none. Returns a new owner. */
static int take_list(const struct oci_http_resp *resp, vl_json **ret, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	int r = vl_json_parse(resp->body.data ? resp->body.data : "", resp->body.len, "the list of referrers", &j, err);

	if (r < 0)
		return r;
	const vl_json *list = vl_json_arr(j, "manifests");
	if (!list)
		return vl_fail(err, EINVAL, "the list of referrers is no index");
	*ret = vl_json_ref(list);
	return 0;
}

/* 1: an answer came that is a list. 0: there is none at that place. */
static int ask(struct oci_client *c, const struct oci_ref *ref, const char *path, vl_json **ret, struct vl_err *err)
{
	static const char *const heads[] = { "Accept: " MT_INDEX, NULL };
	OCI_RESP struct oci_http_resp resp = { 0 };
	struct oci_call call = { .ref = ref, .path = path, .what = "list of referrers" };
	struct vl_err why;

	call.req.method = "GET";
	call.req.heads = heads;
	call.req.body_fd = -1;
	call.req.max_seconds = OCI_HTTP_DOCUMENT_SECONDS;
	int r = oci_client_try(c, &call, &resp, err);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	return resp.status == 200 && take_list(&resp, ret, &why) == 0;
}

int oci_referrers(struct oci_client *c, const struct oci_ref *ref, const struct oci_digest *subject, vl_json **ret,
		  struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("/referrers/%s:%s", subject->algo, subject->hex);
	VL_FREE char *tag = vl_asprintf("/manifests/%s-%.64s", subject->algo, subject->hex); /* a tag ends at 128 */
	vl_json *list = NULL;
	int r = ask(c, ref, path, &list, err);

	if (r == 0)
		r = ask(c, ref, tag, &list, err);
	if (r < 0)
		return r;
	*ret = list ? list : vl_json_new_arr();
	return 0;
}
