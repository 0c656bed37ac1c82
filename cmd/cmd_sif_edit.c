/* The `sif` commands that write: new, add, del, setprim. */
#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_sif_new_opts, f)
const struct opt cmd_sif_new_opts[] = {
	{ 0, "slots", OPT_U64, O(slots), "N", "room for N objects (default 48); it cannot grow later", NULL, 0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace an existing file", NULL, 0 },
	OPT_END,
};
#undef O

static int make(const struct cmd_sif_new_opts *o, const char *path, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	struct sif_new how = { .time = cmd_now(), .slots = (uint32_t)o->slots };
	struct sif_writer *w = NULL;

	sif_uuid_random(how.uuid);
	int r = vl_newfile_open(&f, path, 0755, o->force, err);
	if (r == 0)
		r = sif_writer_new(f.fd, &how, &w, err);
	if (r == 0)
		r = sif_writer_end(w, err);
	sif_writer_free(w);
	return r == 0 ? vl_newfile_commit(&f, o->force, err) : r;
}

int cmd_sif_new_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_sif_new_opts *o = opts;
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (o->slots > SIF_MAX_DESCRIPTORS)
		return cmd_usage(c, "--slots can be at most %u", SIF_MAX_DESCRIPTORS);
	return make(o, argv[0], &err) < 0 ? cmd_fail(c, &err) : 0;
}

/* ---- changing an image ---- */

typedef int edit_fn(struct sif_edit *e, const void *arg, struct vl_err *err);

static bool is_signed(const struct sif_image *img)
{
	return sif_by_name(img, SIF_SIGNATURE, "") != NULL;
}

static int edit(struct cmd_ctx *c, const char *path, edit_fn *f, const void *arg)
{
	struct vl_err err = { 0 };
	VL_CLOSE int fd = vl_open(path, O_RDWR | O_NONBLOCK, 0, &err);
	SIF_EDIT struct sif_edit *e = NULL;

	if (fd < 0)
		return cmd_fail(c, &err);
	int r = sif_edit_begin(fd, cmd_now(), &e, &err);
	bool was_signed = r == 0 && is_signed(sif_edit_image(e));
	if (r == 0)
		r = f(e, arg, &err);
	if (r < 0) {
		vl_wrap(&err, "%s", path);
		return cmd_fail(c, &err);
	}
	if (was_signed && is_signed(sif_edit_image(e)))
		vl_logf(&c->log, VL_WARNING, "%s is signed; its signatures may not verify after this change", path);
	return 0;
}

static int del(struct sif_edit *e, const void *arg, struct vl_err *err)
{
	return sif_edit_del(e, *(const uint32_t *)arg, err);
}

static int setprim(struct sif_edit *e, const void *arg, struct vl_err *err)
{
	return sif_edit_setprim(e, *(const uint32_t *)arg, err);
}

static int edit_by_id(struct cmd_ctx *c, char **argv, edit_fn *f)
{
	uint64_t n;

	if (vl_parse_u64(argv[0], 1, UINT32_MAX, &n) < 0)
		return cmd_usage(c, "'%s' is not an object id; %s sif list %s shows them", argv[0], c->self, argv[1]);
	uint32_t id = (uint32_t)n;
	return edit(c, argv[1], f, &id);
}

int cmd_sif_del_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self, (void)opts, (void)argc;
	return edit_by_id(c, argv, del);
}

int cmd_sif_setprim_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self, (void)opts, (void)argc;
	return edit_by_id(c, argv, setprim);
}

/* ---- add ---- */

#define O(f) offsetof(struct cmd_sif_add_opts, f)
const struct opt cmd_sif_add_opts[] = {
	{ 0, "datatype", OPT_U64, O(datatype), "N",
	  "needed: 1 deffile, 2 environment, 3 labels, 4 partition, 5 signature, 6 JSON, 7 generic, 8 crypto message, "
	  "9 SBOM, 10 OCI root index, 11 OCI blob",
	  NULL, 0 },
	{ 0, "parttype", OPT_U64, O(parttype), "N", "partition: 1 system, 2 primary system, 3 data, 4 overlay", NULL,
	  0 },
	{ 0, "partfs", OPT_U64, O(partfs), "N", "partition: 1 squashfs, 2 ext3, 3 archive, 4 raw", NULL, 0 },
	{ 0, "partarch", OPT_U64, O(partarch), "N",
	  "partition: 1 386, 2 amd64, 3 arm, 4 arm64, 5 ppc64, 6 ppc64le, 7 mips, 8 mipsle, 9 mips64, 10 mips64le, 11 "
	  "s390x, "
	  "12 riscv64, 13 loong64",
	  NULL, 0 },
	{ 0, "signhash", OPT_U64, O(signhash), "N", "signature: 1 SHA-256, 2 SHA-384, 3 SHA-512, 4 BLAKE2s, 5 BLAKE2b",
	  NULL, 0 },
	{ 0, "signentity", OPT_STR, O(signentity), "HEX", "signature: 40 digits of a fingerprint", NULL, 0 },
	{ 0, "sbomformat", OPT_STR, O(sbomformat), "WORD", "SBOM: cyclonedx-json, spdx-json, syft-json, ...", NULL, 0 },
	{ 0, "groupid", OPT_U64, O(groupid), "N", "put the object in this group (default: none)", NULL, 0 },
	{ 0, "link", OPT_U64, O(link), "ID", "link the object to this one", NULL, 0 },
	{ 0, "alignment", OPT_U64, O(alignment), "BYTES", "default: 4096 for partitions, 1 for others", NULL, 0 },
	{ 0, "filename", OPT_STR, O(filename), "NAME", "name of the object (default: of the file)", NULL, 0 },
	OPT_END,
};
#undef O

struct addition {
	struct sif_object o;
	int src;
};

static int partition_fields(const struct cmd_sif_add_opts *a, struct sif_object *o, struct vl_err *err)
{
	if (!a->parttype || !a->partfs || !a->partarch)
		return vl_fail(err, EINVAL, "a partition needs --parttype, --partfs and --partarch");
	if (a->parttype > SIF_PART_OVERLAY || a->partfs > SIF_FS_GOCRYPTFS || a->partarch > 13)
		return vl_fail(err, EINVAL, "no partition type, file system or architecture has such a number");
	char code[3] = { (char)('0' + a->partarch / 10), (char)('0' + a->partarch % 10), 0 };
	o->part = (uint32_t)a->parttype;
	o->fs = (uint32_t)a->partfs;
	o->arch = sif_arch_name(code);
	return 0;
}

static int signature_fields(const struct cmd_sif_add_opts *a, struct sif_object *o, struct vl_err *err)
{
	const char *hex = a->signentity ? a->signentity : "";
	char lower[41] = "";

	if (a->signhash < SIF_HASH_SHA256 || a->signhash > SIF_HASH_BLAKE2B)
		return vl_fail(err, EINVAL, "a signature needs --signhash 1 to 5");
	for (size_t i = 0; i < 40 && hex[i]; i++)
		lower[i] = hex[i] >= 'A' && hex[i] <= 'F' ? (char)(hex[i] - 'A' + 'a') : hex[i];
	if (strlen(hex) != 40 || vl_unhex(lower, 20, o->extra + 4) < 0)
		return vl_fail(err, EINVAL, "a signature needs --signentity with 40 hexadecimal digits");
	vl_put_le32(o->extra, (uint32_t)a->signhash);
	return 0;
}

static int blob_digest(int src, uint8_t extra[384], struct vl_err *err)
{
	VL_FREE char *buf = vl_alloc(1u << 20);
	uint8_t sha[VL_HASH_MAX];
	char hex[65];
	struct vl_hash *h;
	ssize_t n;
	off_t at = 0;

	int r = vl_hash_new("sha256", &h, err);
	if (r < 0)
		return r;
	for (; (n = pread(src, buf, 1u << 20, at)) > 0; at += n)
		vl_hash_update(h, buf, (size_t)n);
	r = n < 0 ? vl_fail_sys(err, errno, "cannot read the file to add") : 0;
	vl_hash_final(h, sha);
	vl_hash_free(h);
	vl_hex(sha, 32, hex);
	snprintf((char *)extra, 384, "sha256:%s", hex);
	return r;
}

static int type_fields(const struct cmd_sif_add_opts *a, struct addition *add, struct vl_err *err)
{
	struct sif_object *o = &add->o;
	uint32_t sbom;

	switch (o->type) {
	case SIF_PARTITION:
		return partition_fields(a, o, err);
	case SIF_SIGNATURE:
		return signature_fields(a, o, err);
	case SIF_SBOM:
		sbom = a->sbomformat ? sif_sbom_number(a->sbomformat) : 0;
		if (!sbom)
			return vl_fail(err, EINVAL, "an SBOM needs a known --sbomformat, not '%s'",
				       a->sbomformat ? a->sbomformat : "");
		vl_put_le32(o->extra, sbom);
		return 0;
	case SIF_OCI_INDEX:
	case SIF_OCI_BLOB:
		return blob_digest(add->src, o->extra, err);
	default:
		return 0;
	}
}

static int add(struct sif_edit *e, const void *arg, struct vl_err *err)
{
	const struct addition *a = arg;
	int r = sif_edit_add_fd(e, &a->o, a->src, NULL, err);

	return r == 0 ? sif_edit_commit(e, err) : r;
}

int cmd_sif_add_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_sif_add_opts *a = opts;
	struct addition one = { .src = -1 };
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (a->datatype < 1 || a->datatype > 11)
		return cmd_usage(c, "sif add needs --datatype with a number from 1 to 11");
	if (a->groupid > ~SIF_GROUP_MASK || a->link > UINT32_MAX || a->alignment > INT64_MAX)
		return cmd_usage(c, "the number of --groupid, --link or --alignment is too large");
	one.o = (struct sif_object){ .type = SIF_DEFFILE - 1 + (uint32_t)a->datatype,
				     .group = (uint32_t)a->groupid,
				     .link = (uint32_t)a->link,
				     .align = a->alignment,
				     .name = a->filename ? a->filename : vl_basename(argv[1]) };
	VL_CLOSE int src = one.src = vl_open(argv[1], O_RDONLY | O_NONBLOCK, 0, &err);
	if (src < 0 || type_fields(a, &one, &err) < 0)
		return cmd_fail(c, &err);
	return edit(c, argv[0], add, &one);
}
