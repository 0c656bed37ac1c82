/* What a name meant when it was asked for: names/HASH.json, HASH: SHA-256 of "NAME\nARCH\n". */
#include "store_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>

#define RECORD_MAX (16u << 10) /* a name, a digest, a key: below 1 KiB for every name a registry takes */
#define OTHERS_MAX 32          /* of 67 bytes each; more sets of options than anybody uses at a time */
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
	vl_strv_free(&n->others);
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
	const vl_json *others = vl_json_arr(j, "others");
	for (size_t i = 0; i < vl_json_len(others); i++) {
		const char *k = vl_json_string(vl_json_at(others, i));
		if (i == OTHERS_MAX || !k || !img_store_is_key(k, strlen(k)))
			return -EBADMSG;
	}
	*ret = (struct img_store_name){ .name = vl_strdup(name),
					.arch = vl_strdup(arch),
					.digest = vl_strdup(digest),
					.key = vl_strdup(key),
					.time = t };
	for (size_t i = 0; i < vl_json_len(others); i++)
		vl_strv_add(&ret->others, vl_json_string(vl_json_at(others, i)));
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

int img_store_name_read(int dirfd, const char *file, const uid_t *owner, struct img_store_name *ret)
{
	struct stat st;
	struct vl_err err;
	VL_CLOSE int fd = img_store_open_file(dirfd, file, O_RDONLY, &st);

	if (fd < 0)
		return fd == -ENOENT ? fd : -EBADMSG;
	if ((owner && st.st_uid != 0 && st.st_uid != *owner) || st.st_size <= 0 || st.st_size > RECORD_MAX)
		return -EBADMSG;
	size_t n = (size_t)st.st_size;
	VL_FREE char *text = vl_alloc(n + 1);
	if (vl_pread_full(fd, text, n, 0, file, &err) < 0)
		return -EBADMSG;
	return img_store_name_parse(text, n, file, ret);
}

/* The user's own, else a site's. */
static int find_record(struct img_store *s, const char *name, const char *arch, struct img_store_name *ret)
{
	char file[70];

	file_name(name, arch, file);
	int r = s->names < 0 ? -ENOENT : img_store_name_read(s->names, file, NULL, ret);
	VL_FREE char *in_site = vl_asprintf("names/%s", file);
	for (size_t i = 0; i < s->n_sites && r < 0; i++)
		r = img_store_name_read(s->sites[i].fd, in_site, &s->sites[i].uid, ret);
	return r < 0 ? -ENOENT : 0;
}

int img_store_name_find(struct img_store *s, const char *name, const char *arch, char ret_digest[IMG_DIGEST_SIZE])
{
	struct img_store_name n = { 0 };
	int r = find_record(s, name, arch, &n);

	if (r < 0)
		return r;
	r = *n.digest ? 0 : -ENOENT;
	if (r == 0)
		snprintf(ret_digest, IMG_DIGEST_SIZE, "%s", n.digest);
	img_store_name_free(&n);
	return r;
}

static bool has_key(const struct img_store_name *n, const char *key)
{
	bool has = vl_streq(n->key, key);

	for (size_t i = 0; i < n->others.n && !has; i++)
		has = vl_streq(n->others.v[i], key);
	return has;
}

bool img_store_name_has(struct img_store *s, const char *name, const char *arch, const char *digest, const char *key)
{
	struct img_store_name n = { 0 };

	if (find_record(s, name, arch, &n) < 0)
		return false;
	bool has = vl_streq(n.digest, digest) && has_key(&n, key);
	img_store_name_free(&n);
	return has;
}

/* What the record that is there has for the same digest; the oldest go when there are too many. */
static vl_json *other_keys(struct img_store *s, const char *file, const char *digest, const char *key)
{
	vl_json *ret = vl_json_new_arr();
	struct img_store_name n = { 0 };

	if (img_store_name_read(s->names, file, NULL, &n) < 0)
		return ret;
	if (vl_streq(n.digest, digest) && *digest) {
		if (!vl_streq(n.key, key))
			vl_json_add(ret, vl_json_new_str(n.key));
		for (size_t i = 0; i < n.others.n && vl_json_len(ret) < OTHERS_MAX; i++) {
			if (!vl_streq(n.others.v[i], key))
				vl_json_add(ret, vl_json_new_str(n.others.v[i]));
		}
	}
	img_store_name_free(&n);
	return ret;
}

int img_store_name_set(struct img_store *s, const char *name, const char *arch, const char *digest, const char *key,
		       struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	VL_JSON vl_json *j = vl_json_new_obj();
	struct img_store_name n = { 0 };
	char file[70];
	int r;

	if ((r = img_store_need_own(s, err)) < 0)
		return r;
	file_name(name, arch, file);
	vl_json_set(j, "name", vl_json_new_str(name));
	vl_json_set(j, "arch", vl_json_new_str(arch));
	vl_json_set(j, "digest", vl_json_new_str(digest));
	vl_json_set(j, "key", vl_json_new_str(key));
	vl_json_set(j, "others", other_keys(s, file, digest, key));
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
