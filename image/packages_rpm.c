/* rpm's databases. What they hold for each package is the header of its rpm file: an index of tags, and their values;
 * around it SQLite (since rpm 4.16) or rpm's own "ndb" (SUSE); packages_bdb.c has the kind before. */
#include "packages.h"

#include <sqlite3.h>

#define TAG_NAME 1000
#define TAG_VERSION 1001
#define TAG_RELEASE 1002
#define TAG_EPOCH 1003
#define TAG_LICENSE 1014
#define TAG_ARCH 1022
#define TAG_SOURCE 1044
#define TYPE_INT32 4
#define TYPE_STRING 6
#define TYPE_I18N 9

#define MAX_TAGS 65536u         /* as rpm has it */
#define MAX_HEADER (256u << 20) /* as rpm has it */
#define MAX_STEPS 4000u         /* of 100,000 instructions each: a database of 10,000 packages takes 3 */
#define STEP 100000

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- one package ---- */

struct header {
	const uint8_t *index, *data;
	uint32_t n, size; /* tags; bytes of data */
};

static const uint8_t *find(const struct header *h, uint32_t tag, uint32_t type, uint32_t also, uint32_t *ret_left)
{
	for (uint32_t i = 0; i < h->n; i++) {
		const uint8_t *e = h->index + 16 * (size_t)i;
		uint32_t t = be32(e + 4), off = be32(e + 8);
		if (be32(e) != tag || (t != type && t != also) || off >= h->size || !be32(e + 12))
			continue;
		*ret_left = h->size - off;
		return h->data + off;
	}
	return NULL;
}

static char *text_of(const struct header *h, uint32_t tag)
{
	uint32_t left;
	const uint8_t *p = find(h, tag, TYPE_STRING, TYPE_I18N, &left);

	return p && memchr(p, 0, left) ? vl_strndup((const char *)p, IMG_MAX_PACKAGE_FIELD) : NULL;
}

/* "glibc-2.34-1.el9.src.rpm" -> "glibc" */
static char *source_name(const struct header *h)
{
	VL_FREE char *file = text_of(h, TAG_SOURCE);

	for (int i = 0; file && i < 2; i++) {
		char *dash = strrchr(file, '-');
		if (!dash)
			return NULL;
		*dash = 0;
	}
	return file && *file ? vl_steal(&file) : NULL;
}

int img_packages_rpm_header(const uint8_t *p, size_t n, struct img_packages *l, struct vl_err *err)
{
	struct header h = { .n = n >= 8 ? be32(p) : 0, .size = n >= 8 ? be32(p + 4) : 0 };
	uint32_t left;

	if (!h.n || h.n > MAX_TAGS || h.size > MAX_HEADER || n < 8 || (n - 8) / 16 < h.n ||
	    n - 8 - 16 * (size_t)h.n < h.size)
		return vl_fail(err, EINVAL, "an rpm header is damaged");
	h.index = p + 8;
	h.data = h.index + 16 * (size_t)h.n;
	VL_FREE char *version = text_of(&h, TAG_VERSION), *release = text_of(&h, TAG_RELEASE);
	VL_FREE char *name = text_of(&h, TAG_NAME);
	if (!name || !*name || !version)
		return vl_fail(err, EINVAL, "an rpm header has no name or version");
	if (vl_streq(name, "gpg-pubkey")) /* a key that rpm keeps like a package */
		return 0;
	const uint8_t *epoch = find(&h, TAG_EPOCH, TYPE_INT32, TYPE_INT32, &left);
	struct img_package pkg = { .kind = IMG_PACKAGE_RPM,
				   .version = release ? vl_asprintf("%s-%s", version, release) : vl_strdup(version),
				   .arch = text_of(&h, TAG_ARCH),
				   .license = text_of(&h, TAG_LICENSE),
				   .source = source_name(&h),
				   .epoch = epoch && left >= 4 ? vl_asprintf("%u", be32(epoch)) : NULL };
	pkg.name = vl_steal(&name);
	return img_packages_add(l, &pkg, err);
}

/* A header that is damaged leaves the others to be read. */
static int take(const uint8_t *p, size_t n, struct img_packages *l, size_t *bad, struct vl_err *err)
{
	int r = img_packages_rpm_header(p, n, l, err);

	if (r != -EINVAL)
		return r;
	++*bad;
	return 0;
}

static void say_bad(size_t bad, char **ret_why)
{
	if (bad && !*ret_why)
		*ret_why = vl_asprintf("%zu of its packages are damaged", bad);
}

/* ---- SQLite, from memory. The file may be made to break SQLite: nothing of its schema is run, no value is longer than
 * the file, and the process around us has no rights. ---- */

static int allow(void *arg, int action, const char *a, const char *b, const char *c, const char *d)
{
	(void)arg, (void)b, (void)c, (void)d;
	return action == SQLITE_SELECT || (action == SQLITE_READ && a && sqlite3_stricmp(a, "Packages") == 0)
		       ? SQLITE_OK
		       : SQLITE_DENY;
}

static int enough(void *arg)
{
	return ++*(unsigned *)arg > MAX_STEPS;
}

/* A column that is computed would run what the schema says; the authorizer is not asked for that. */
static bool is_plain_table(sqlite3 *db, char **ret_why)
{
	sqlite3_stmt *s = NULL;
	int q = sqlite3_prepare_v2(db, "PRAGMA main.table_xinfo(Packages)", -1, &s, NULL);

	while (q == SQLITE_OK || q == SQLITE_ROW) {
		q = sqlite3_step(s);
		if (q == SQLITE_ROW && sqlite3_column_int(s, 6) != 0) {
			*ret_why = vl_strdup("its table of packages has columns that are computed");
			break;
		}
	}
	if (!*ret_why && q != SQLITE_DONE)
		*ret_why = vl_strdup(sqlite3_errmsg(db));
	sqlite3_finalize(s);
	return !*ret_why;
}

/* n: bytes of the file */
static int read_rows(sqlite3 *db, size_t n, struct img_packages *l, char **ret_why, struct vl_err *err)
{
	sqlite3_stmt *s = NULL;
	size_t bad = 0, left = n; /* bytes that values may still have: each byte of the file belongs to one */
	int q, r = 0;

	if (sqlite3_prepare_v2(db, "SELECT blob FROM Packages", -1, &s, NULL) != SQLITE_OK) {
		*ret_why = vl_strdup(sqlite3_errmsg(db));
		return 0;
	}
	while (r == 0 && (q = sqlite3_step(s)) == SQLITE_ROW) {
		const uint8_t *blob = sqlite3_column_blob(s, 0);
		size_t len = (size_t)sqlite3_column_bytes(s, 0);
		if (len > left) {
			*ret_why = vl_strdup("its packages are larger than the file");
			break;
		}
		left -= len;
		r = take(blob, len, l, &bad, err);
	}
	if (r == 0 && !*ret_why && q != SQLITE_DONE)
		*ret_why = vl_strdup(sqlite3_errmsg(db));
	sqlite3_finalize(s);
	say_bad(bad, ret_why);
	return r;
}

int img_packages_rpm_sqlite(uint8_t *data, size_t n, struct img_packages *l, char **ret_why, struct vl_err *err)
{
	unsigned steps = 0;
	sqlite3 *db = NULL;
	int r = 0;

	if (n < 100 || memcmp(data, "SQLite format 3", 16) != 0) {
		*ret_why = vl_strdup("it is no SQLite database");
		return 0;
	}
	data[18] = data[19] = 1; /* its write-ahead log is another file: in memory there is none */
	bool ok = sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) == SQLITE_OK &&
		  sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL) == SQLITE_OK &&
		  sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL) == SQLITE_OK &&
		  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL) == SQLITE_OK &&
		  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL) == SQLITE_OK &&
		  sqlite3_exec(db, "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0", NULL, NULL, NULL) == SQLITE_OK &&
		  sqlite3_deserialize(db, "main", data, (sqlite3_int64)n, (sqlite3_int64)n,
				      SQLITE_DESERIALIZE_READONLY) == SQLITE_OK &&
		  sqlite3_drop_modules(db, NULL) == SQLITE_OK; /* tables that are code */
	if (ok) {
		sqlite3_limit(db, SQLITE_LIMIT_LENGTH, (int)VL_MIN(n, (size_t)MAX_HEADER));
		sqlite3_progress_handler(db, STEP, enough, &steps);
		ok = is_plain_table(db, ret_why) && sqlite3_set_authorizer(db, allow, NULL) == SQLITE_OK;
	}
	if (ok)
		r = read_rows(db, n, l, ret_why, err);
	else if (!*ret_why)
		*ret_why = vl_strdup(db ? sqlite3_errmsg(db) : "SQLite does not start");
	sqlite3_close(db);
	return r;
}

/* ---- ndb: a header, slots of 16 bytes in the first pages, and blobs in units of 16 bytes. Little-endian. ---- */

#define NDB_PAGE 4096u
#define NDB_UNIT 16u
#define NDB_MAGIC "RpmP"
#define NDB_SLOT "Slot"
#define NDB_BLOB "BlbS"

/* The blob of a slot; NULL: it is not there. */
static const uint8_t *ndb_blob(const uint8_t *db, size_t n, const uint8_t *slot, uint32_t *ret_len)
{
	uint64_t at = (uint64_t)vl_le32(slot + 8) * NDB_UNIT;

	if (at > n || n - at < NDB_UNIT || memcmp(db + at, NDB_BLOB, 4) != 0 ||
	    vl_le32(db + at + 4) != vl_le32(slot + 4))
		return NULL;
	*ret_len = vl_le32(db + at + 12);
	return *ret_len <= n - at - NDB_UNIT ? db + at + NDB_UNIT : NULL;
}

int img_packages_rpm_ndb(const uint8_t *db, size_t n, struct img_packages *l, char **ret_why, struct vl_err *err)
{
	size_t bad = 0, left = n; /* bytes that blobs may still have: each byte of the file belongs to one */
	int r = 0;

	if (n < NDB_PAGE || memcmp(db, NDB_MAGIC, 4) != 0 || vl_le32(db + 4) != 0) {
		*ret_why = vl_strdup("it is no ndb database of the version that is known");
		return 0;
	}
	uint64_t slots = (uint64_t)vl_le32(db + 12) * NDB_PAGE / NDB_UNIT;
	if (slots > n / NDB_UNIT) {
		*ret_why = vl_strdup("it is cut short");
		return 0;
	}
	for (uint64_t i = 2; r == 0 && i < slots; i++) { /* the header takes the place of two */
		const uint8_t *slot = db + i * NDB_UNIT, *blob;
		uint32_t len;
		if (memcmp(slot, NDB_SLOT, 4) != 0 || !vl_le32(slot + 4))
			continue;
		blob = ndb_blob(db, n, slot, &len);
		if (!blob || len > left) {
			bad++;
			continue;
		}
		left -= len;
		r = take(blob, len, l, &bad, err);
	}
	say_bad(bad, ret_why);
	return r;
}
