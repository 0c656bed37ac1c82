/* The `sif` commands: reading, listing and changing SIF files by their objects. Layout and words
 * of the text output are those that scripts cut columns from. */
#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <vial/sif.h>

const struct opt cmd_sif_show_opts[] = {
	{ 'j', "json", OPT_FLAG, offsetof(struct cmd_sif_show_opts, json), NULL, "print JSON", NULL, 0 },
	OPT_END,
};

int cmd_image_open(const char *path, int flags, int *ret_fd, struct sif_image *ret, struct vl_err *err)
{
	VL_CLOSE int fd = vl_open(path, flags | O_NONBLOCK, 0, err); /* a FIFO must not hang us */

	if (fd < 0)
		return fd;
	int r = sif_load(fd, ret, err);
	if (r < 0)
		return vl_wrap(err, "%s", path);
	*ret_fd = vl_steal_fd(&fd);
	return 0;
}

int64_t cmd_now(void)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	uint64_t t;

	return epoch && vl_parse_u64(epoch, 0, INT64_MAX, &t) == 0 ? (int64_t)t : (int64_t)time(NULL);
}

static void time_text(int64_t t, char ret[64])
{
	time_t when = (time_t)t;
	struct tm tm;

	if (!gmtime_r(&when, &tm) || !strftime(ret, 64, "%Y-%m-%d %H:%M:%S +0000 UTC", &tm))
		snprintf(ret, 64, "%lld", (long long)t);
}

/* ---- a table of "Key: value" lines, values aligned ---- */

struct fields {
	struct vl_strv keys, values;
};

static void fields_free(struct fields *f)
{
	vl_strv_free(&f->keys);
	vl_strv_free(&f->values);
}

static void field(struct fields *f, const char *key, const char *fmt, ...) VL_PRINTF(3, 4);
static void field(struct fields *f, const char *key, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	char *value = vl_vasprintf(fmt, ap);
	va_end(ap);
	vl_strv_add(&f->keys, key);
	vl_strv_take(&f->values, value);
}

static void field_time(struct fields *f, const char *key, int64_t t)
{
	char text[64];

	if (t == SIF_YEAR_ONE) /* the mark of "no time" */
		return;
	time_text(t, text);
	field(f, key, "%s", text);
}

static void print_fields(const struct fields *f, const char *indent, int gap)
{
	size_t width = 0;

	for (size_t i = 0; i < f->keys.n; i++)
		width = VL_MAX(width, strlen(f->keys.v[i]) + 1);
	for (size_t i = 0; i < f->keys.n; i++)
		printf("%s%s:%*s%s\n", indent, f->keys.v[i], (int)(width - strlen(f->keys.v[i])) - 1 + gap, "",
		       f->values.v[i]);
}

static void size_text(int64_t n, char ret[32])
{
	static const char units[] = "KMGTPE";
	double v = (double)n / 1024;
	size_t u = 0;

	if (n > -1024 && n < 1024) {
		snprintf(ret, 32, "%lld B", (long long)n);
		return;
	}
	for (; (v >= 1024 || v <= -1024) && u < 5; u++)
		v /= 1024;
	snprintf(ret, 32, "%.0f %ciB", v, units[u]);
}

/* ---- header ---- */

static void print_header(const struct sif_image *img)
{
	static const uint8_t nil[16];
	VL_CLEANUP(fields_free) struct fields f = { 0 };
	VL_FREE char *launch = sif_launch(&img->h);
	const char *arch = sif_arch_name((const char *)img->h.arch);
	char uuid[37], size[32];

	if (*launch)
		field(&f, "Launch Script", "%s", launch);
	field(&f, "Version", "%.2s", (const char *)img->h.version);
	if (!vl_streq(arch, "unknown"))
		field(&f, "Primary Architecture", "%s", arch);
	sif_uuid_text(img->h.uuid, uuid);
	if (memcmp(img->h.uuid, nil, 16))
		field(&f, "ID", "%s", uuid);
	field_time(&f, "Created At", img->h.created);
	field_time(&f, "Modified At", img->h.modified);
	field(&f, "Descriptors Free", "%lld", (long long)img->h.free);
	field(&f, "Descriptors Total", "%lld", (long long)img->h.total);
	field(&f, "Descriptors Offset", "%lld", (long long)img->h.table_off);
	size_text(img->h.table_size, size);
	field(&f, "Descriptors Size", "%s", size);
	field(&f, "Data Offset", "%lld", (long long)img->h.data_off);
	size_text(img->h.data_size, size);
	field(&f, "Data Size", "%s", size);
	print_fields(&f, "", 1);
}

static vl_json *header_json(const struct sif_image *img)
{
	VL_FREE char *launch = sif_launch(&img->h);
	vl_json *j = vl_json_new_obj();
	char uuid[37];

	sif_uuid_text(img->h.uuid, uuid);
	vl_json_set(j, "launchScript", vl_json_new_str(launch));
	vl_json_set(j, "version", vl_json_new_strn((const char *)img->h.version, 2));
	vl_json_set(j, "architecture", vl_json_new_str(sif_arch_name((const char *)img->h.arch)));
	vl_json_set(j, "id", vl_json_new_str(uuid));
	vl_json_set(j, "created", vl_json_new_int(img->h.created));
	vl_json_set(j, "modified", vl_json_new_int(img->h.modified));
	vl_json_set(j, "descriptorsFree", vl_json_new_int(img->h.free));
	vl_json_set(j, "descriptorsTotal", vl_json_new_int(img->h.total));
	vl_json_set(j, "descriptorsOffset", vl_json_new_int(img->h.table_off));
	vl_json_set(j, "descriptorsSize", vl_json_new_int(img->h.table_size));
	vl_json_set(j, "dataOffset", vl_json_new_int(img->h.data_off));
	vl_json_set(j, "dataSize", vl_json_new_int(img->h.data_size));
	return j;
}

static void put_json(vl_json *j)
{
	VL_FREE char *text = vl_json_text(j, true);

	puts(text);
	vl_json_free(j);
}

typedef void image_fn(const struct sif_image *img, bool json);

static int show_image(struct cmd_ctx *c, const char *path, bool json, image_fn *f)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	VL_CLOSE int fd = -1;
	struct vl_err err = { 0 };

	if (cmd_image_open(path, O_RDONLY, &fd, &img, &err) < 0)
		return cmd_fail(c, &err);
	f(&img, json);
	return 0;
}

typedef int object_fn(int fd, const struct sif_descr *d, bool json, struct vl_err *err);

static int show_object(struct cmd_ctx *c, const char *path, const char *id, bool json, object_fn *f)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	VL_CLOSE int fd = -1;
	const struct sif_descr *d = NULL;
	struct vl_err err = { 0 };
	uint64_t n;

	if (vl_parse_u64(id, 1, UINT32_MAX, &n) < 0)
		return cmd_usage(c, "'%s' is not an object id; %s sif list %s shows them", id, c->self, path);
	int r = cmd_image_open(path, O_RDONLY, &fd, &img, &err);
	if (r < 0)
		return cmd_fail(c, &err);
	d = sif_by_id(&img, (uint32_t)n);
	r = d ? f(fd, d, json, &err)
	      : vl_fail(&err, ENOENT, "%s has no object %s; %s sif list %s shows them", path, id, c->self, path);
	return r < 0 ? cmd_fail(c, &err) : 0;
}

static void show_header(const struct sif_image *img, bool json)
{
	if (json)
		put_json(header_json(img));
	else
		print_header(img);
}

int cmd_sif_header_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self, (void)argc;
	return show_image(c, argv[0], ((struct cmd_sif_show_opts *)opts)->json, show_header);
}

/* ---- list and info ---- */

static bool is_group_link(uint32_t link)
{
	return (link & SIF_GROUP_MASK) == SIF_GROUP_MASK;
}

void cmd_print_group(uint32_t group)
{
	if (group == SIF_NO_GROUP)
		printf("%-8s", "NONE");
	else
		printf("%-8u", group);
}

void cmd_print_link(uint32_t link)
{
	if ((link & ~SIF_GROUP_MASK) == 0)
		printf("%-8s", "NONE");
	else if (is_group_link(link))
		printf("%-3u (G) ", link & ~SIF_GROUP_MASK);
	else
		printf("%-8u", link);
}

static vl_json *object_json(const struct sif_descr *d)
{
	VL_FREE char *name = sif_name(d), *words = sif_descr_words(d);
	vl_json *j = vl_json_new_obj();
	char arch[4];

	vl_json_set(j, "id", vl_json_new_int(d->id));
	vl_json_set(j, "group", d->group ? vl_json_new_int(d->group) : NULL);
	if (d->link)
		vl_json_set(j, is_group_link(d->link) ? "linkedGroup" : "linkedObject",
			    vl_json_new_int(is_group_link(d->link) ? d->link & ~SIF_GROUP_MASK : d->link));
	vl_json_set(j, "offset", vl_json_new_int((int64_t)d->off));
	vl_json_set(j, "size", vl_json_new_int((int64_t)d->size));
	vl_json_set(j, "created", vl_json_new_int(d->created));
	vl_json_set(j, "modified", vl_json_new_int(d->modified));
	vl_json_set(j, "type", vl_json_new_str(sif_type_name(d->type)));
	vl_json_set(j, "description", vl_json_new_str(words));
	vl_json_set(j, "name", *name ? vl_json_new_str(name) : NULL);
	if (d->type == SIF_PARTITION) {
		sif_part_arch(d, arch);
		vl_json_set(j, "filesystem", vl_json_new_str(sif_fs_name(sif_part_fs(d))));
		vl_json_set(j, "partition", vl_json_new_str(sif_part_name(sif_part_type(d))));
		vl_json_set(j, "architecture", vl_json_new_str(sif_arch_name(arch)));
	}
	return j;
}

static void print_rule(void)
{
	puts("------------------------------------------------------------------------------");
}

static void list_text(const struct sif_image *img)
{
	print_rule();
	printf("%-4s %-8s %-8s %-26s %s\n", "ID", "|GROUP", "|LINK", "|SIF POSITION (start-end)", "|TYPE");
	print_rule();
	for (const struct sif_descr *d = img->d; d < img->d + img->n; d++) {
		VL_FREE char *words = sif_descr_words(d);
		uint64_t end = d->off + d->size;
		VL_FREE char *place = vl_asprintf("|%llu-%llu ", (unsigned long long)d->off, (unsigned long long)end);
		printf("%-4u |", d->id);
		cmd_print_group(d->group);
		putchar('|');
		cmd_print_link(d->link);
		printf("%-26s |%s\n", place, words);
	}
}

static void show_list(const struct sif_image *img, bool json)
{
	vl_json *list;

	if (!json) {
		list_text(img);
		return;
	}
	list = vl_json_new_arr();
	for (const struct sif_descr *d = img->d; d < img->d + img->n; d++)
		vl_json_add(list, object_json(d));
	put_json(list);
}

int cmd_sif_list_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self, (void)argc;
	return show_image(c, argv[0], ((struct cmd_sif_show_opts *)opts)->json, show_list);
}

static void add_type_fields(struct fields *f, const struct sif_descr *d)
{
	char arch[4], hex[41];

	switch (d->type) {
	case SIF_PARTITION:
		sif_part_arch(d, arch);
		field(f, "Filesystem Type", "%s", sif_fs_name(sif_part_fs(d)));
		field(f, "Partition Type", "%s", sif_part_name(sif_part_type(d)));
		field(f, "Architecture", "%s", sif_arch_name(arch));
		break;
	case SIF_SIGNATURE:
		field(f, "Hash Type", "%s", sif_hash_name(vl_le32(d->extra)));
		vl_hex(d->extra + 4, 20, hex); /* an OpenPGP fingerprint, or zero for key files */
		if (strspn(hex, "0") < 40) {
			for (char *p = hex; *p; p++)
				*p = *p >= 'a' ? (char)(*p - 'a' + 'A') : *p;
			field(f, "Entity", "%s", hex);
		}
		break;
	case SIF_SBOM:
		field(f, "Format", "%s", sif_sbom_name(vl_le32(d->extra)));
		break;
	case SIF_OCI_BLOB:
	case SIF_OCI_INDEX: {
		VL_FREE char *digest =
			vl_printable((const char *)d->extra, strnlen((const char *)d->extra, sizeof d->extra));
		field(f, "Digest", "%s", digest);
		break;
	}
	default:
		break;
	}
}

static int show_info(int fd, const struct sif_descr *d, bool json, struct vl_err *err)
{
	VL_CLEANUP(fields_free) struct fields f = { 0 };
	VL_FREE char *name = sif_name(d);

	(void)fd, (void)err;
	if (json) {
		put_json(object_json(d));
		return 0;
	}
	field(&f, "Data Type", "%s", sif_type_name(d->type));
	field(&f, "ID", "%u", d->id);
	if (d->group)
		field(&f, "Group ID", "%u", d->group);
	else
		field(&f, "Group ID", "NONE");
	if (d->link & ~SIF_GROUP_MASK)
		field(&f, "Linked ID", is_group_link(d->link) ? "%u (G)" : "%u",
		      is_group_link(d->link) ? d->link & ~SIF_GROUP_MASK : d->link);
	else
		field(&f, "Linked ID", "NONE");
	field(&f, "Offset", "%llu", (unsigned long long)d->off);
	field(&f, "Size", "%llu", (unsigned long long)d->size);
	field_time(&f, "Created At", d->created);
	field_time(&f, "Modified At", d->modified);
	if (*name)
		field(&f, "Name", "%s", name);
	add_type_fields(&f, d);
	print_fields(&f, "  ", 2);
	return 0;
}

int cmd_sif_info_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self, (void)argc;
	return show_object(c, argv[1], argv[0], ((struct cmd_sif_show_opts *)opts)->json, show_info);
}

int cmd_sif_print(int fd, const struct sif_descr *d, struct vl_err *err)
{
	VL_FREE char *buf = vl_alloc(1u << 20);

	fflush(stdout);
	for (uint64_t at = 0; at < d->size;) {
		size_t n = (size_t)VL_MIN(d->size - at, (uint64_t)1 << 20);
		int r = vl_pread_full(fd, buf, n, d->off + at, "the object", err);
		if (r < 0)
			return r;
		r = vl_write_full(STDOUT_FILENO, buf, n);
		if (r < 0)
			return vl_fail_sys(err, -r, "cannot write to standard output");
		at += n;
	}
	return 0;
}

static int dump(int fd, const struct sif_descr *d, bool json, struct vl_err *err)
{
	(void)json;
	return cmd_sif_print(fd, d, err);
}

int cmd_sif_dump_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self, (void)opts, (void)argc;
	return show_object(c, argv[1], argv[0], false, dump);
}
