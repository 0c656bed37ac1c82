/* What a name meant when it was asked for: names/HASH.json, HASH: SHA-256 of "NAME\nARCH\n". */
#include "store_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#define RECORD_MAX (16u << 10) /* a name, a digest, a key: below 1 KiB for every name a registry takes */
#define NAME_MAX_LEN 4096      /* a host, a repository of 255 bytes, a digest; or a URL */

static void file_name(const char *name, const char *arch, char ret[70])
{
	VL_FREE char *text = vl_asprintf("%s\n%s\n", name, arch);
	uint8_t raw[32];

	vl_sha256(text, strlen(text), raw);
	vl_hex(raw, sizeof raw, ret);
	memcpy(ret + 64, ".json", 6);
}

void img_store_name_free(struct img_store_name *n)
{
	vl_freep(&n->name);
	vl_freep(&n->arch);
	vl_freep(&n->digest);
	vl_freep(&n->key);
}

/* file NULL: whatever it is called */
static int take_fields(const vl_json *j, const char *file, struct img_store_name *ret)
{
	const char *name = vl_json_str(j, "name"), *arch = vl_json_str(j, "arch"), *digest = vl_json_str(j, "digest"),
		   *key = vl_json_str(j, "key");
	struct oci_digest d;
	struct vl_err err;
	char right[70];
	int64_t t;

	if (!name || !*name || strlen(name) > NAME_MAX_LEN || !arch || strlen(arch) > 64 || !digest || !key ||
	    !vl_json_int(j, "time", &t))
		return -EBADMSG;
	file_name(name, arch, right);
	if ((file && !vl_streq(right, vl_basename(file))) || !img_store_is_key(key, strlen(key)) ||
	    (*digest && oci_digest_parse(digest, &d, &err) < 0))
		return -EBADMSG;
	*ret = (struct img_store_name){ .name = vl_strdup(name),
					.arch = vl_strdup(arch),
					.digest = vl_strdup(digest),
					.key = vl_strdup(key),
					.time = t };
	return 0;
}

int img_store_name_parse(const char *text, size_t n, const char *file, struct img_store_name *ret)
{
	VL_JSON vl_json *j = NULL;
	struct vl_err err;

	if (n == 0 || n > RECORD_MAX || vl_json_parse(text, n, "a record of the image store", &j, &err) < 0)
		return -EBADMSG;
	return take_fields(j, file, ret);
}

int img_store_name_read(int dirfd, const char *file, struct img_store_name *ret)
{
	struct stat st;
	struct vl_err err;
	VL_CLOSE int fd = img_store_open_file(dirfd, file, O_RDONLY, &st);

	if (fd < 0)
		return fd == -ENOENT ? fd : -EBADMSG;
	if (st.st_size <= 0 || st.st_size > RECORD_MAX)
		return -EBADMSG;
	size_t n = (size_t)st.st_size;
	VL_FREE char *text = vl_alloc(n + 1);
	if (vl_pread_full(fd, text, n, 0, file, &err) < 0)
		return -EBADMSG;
	return img_store_name_parse(text, n, file, ret);
}

int img_store_name_find(struct img_store *s, const char *name, const char *arch, char ret_digest[IMG_DIGEST_SIZE])
{
	struct img_store_name n = { 0 };
	char file[70];

	file_name(name, arch, file);
	int r = img_store_name_read(s->names, file, &n);
	VL_FREE char *in_site = vl_asprintf("names/%s", file);
	for (size_t i = 0; i < s->n_sites && r < 0; i++)
		r = img_store_name_read(s->sites[i].fd, in_site, &n);
	if (r < 0)
		return -ENOENT;
	r = *n.digest ? 0 : -ENOENT;
	if (r == 0)
		snprintf(ret_digest, 160, "%s", n.digest);
	img_store_name_free(&n);
	return r;
}

int img_store_name_set(struct img_store *s, const char *name, const char *arch, const char *digest, const char *key,
		       struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	VL_JSON vl_json *j = vl_json_new_obj();
	struct img_store_name n = { 0 };
	char file[70];
	int r;

	file_name(name, arch, file);
	vl_json_set(j, "name", vl_json_new_str(name));
	vl_json_set(j, "arch", vl_json_new_str(arch));
	vl_json_set(j, "digest", vl_json_new_str(digest));
	vl_json_set(j, "key", vl_json_new_str(key));
	vl_json_set(j, "time", vl_json_new_int((int64_t)time(NULL)));
	/* what would not be read back is not written */
	if (take_fields(j, file, &n) < 0)
		return vl_fail(err, EINVAL, "the image store cannot record this name: it is too long, or not UTF-8");
	img_store_name_free(&n);

	VL_FREE char *path = vl_asprintf("%s/names/%s", s->dir, file), *text = vl_json_text(j, true);
	if ((r = vl_newfile_open(&f, path, 0644, true, err)) < 0)
		return r;
	if ((r = vl_pwrite_full(f.fd, text, strlen(text), 0, path, err)) < 0)
		return r;
	return vl_newfile_commit(&f, true, err);
}
