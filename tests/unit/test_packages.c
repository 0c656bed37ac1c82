/* Package databases: what is in them, and what is not believed of them. */
#include "sif_check.h"

#include <image/packages.h>
#include <sqlite3.h>

static void free_list(struct img_packages *l)
{
	img_packages_free(l);
	*l = (struct img_packages){ 0 };
}

static void check_package(const struct img_packages *l, size_t i, const char *name, const char *version,
			  const char *source)
{
	CHECK(i < l->n);
	CHECK_STR(l->v[i].name, name);
	CHECK_STR(l->v[i].version, version);
	CHECK_STR(l->v[i].source ? l->v[i].source : "-", source);
}

TEST(dpkg_lists_what_is_installed)
{
	static const char text[] =
		"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.36-9)\n"
		"Version: 2.36-9+deb12u1\nDescription: GNU C Library\n Version: 9 in a continued line\n\n"
		"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\n"
		"Package: half\nStatus: install ok half-installed\nVersion: 1\n\n"
		"Package: no-version\nStatus: install ok installed\n\n"
		"Package: last\r\nStatus: hold ok installed\r\nVersion:\t1:2 ";
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };

	CHECK_OK(img_packages_dpkg(text, sizeof text - 1, &l, &err), err);
	CHECK_EQ(l.n, 2);
	check_package(&l, 0, "libc6", "2.36-9+deb12u1", "glibc");
	CHECK_STR(l.v[0].arch, "amd64");
	check_package(&l, 1, "last", "1:2", "-");
	free_list(&l);
}

TEST(a_file_of_one_package_has_no_status)
{
	static const char text[] = "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n";
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };

	CHECK_OK(img_packages_dpkg(text, sizeof text - 1, &l, &err), err);
	CHECK_EQ(l.n, 1);
	free_list(&l);
}

TEST(apk_and_its_letters)
{
	static const char text[] = "C:Q1abc\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld.so\n\n"
				   "P:libcrypto3\nV:3.3.0-r2\nA:x86_64\nL:Apache-2.0\no:openssl\n\nP:broken\n\n";
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };

	CHECK_OK(img_packages_apk(text, sizeof text - 1, &l, &err), err);
	CHECK_EQ(l.n, 2);
	check_package(&l, 0, "musl", "1.2.5-r0", "musl");
	check_package(&l, 1, "libcrypto3", "3.3.0-r2", "openssl");
	CHECK_STR(l.v[1].license, "Apache-2.0");
	free_list(&l);
}

TEST(python_metadata_ends_at_the_description)
{
	static const char text[] =
		"Metadata-Version: 2.1\nName: Zope_Page\nVersion: 3.4\nLicense: BSD\n\nName: not this\n";
	static const char none[] = "Metadata-Version: 2.1\n\nName: in the description\nVersion: 1\n";
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };

	CHECK_OK(img_packages_python(text, sizeof text - 1, "a/b", &l, &err), err);
	CHECK_OK(img_packages_python(none, sizeof none - 1, "a/c", &l, &err), err);
	CHECK_EQ(l.n, 1);
	check_package(&l, 0, "Zope_Page", "3.4", "-");
	CHECK_STR(l.v[0].path, "a/b");
	free_list(&l);
}

TEST(os_release_is_read_and_never_run)
{
	static const char text[] = "# c\nID=\"rocky\"\nVERSION_ID='9.4'\nID=later\nXID=no\nPRETTY_NAME=\"$(reboot)\"\n";
	struct img_packages l = { 0 };

	img_packages_os_release(text, sizeof text - 1, &l);
	CHECK_STR(l.os_id, "rocky");
	CHECK_STR(l.os_version, "9.4");
	CHECK_STR(l.os_name, "$(reboot)");
	free_list(&l);
}

TEST(long_values_are_cut_and_many_packages_refused)
{
	VL_BUF struct vl_buf b = { 0 };
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };

	vl_buf_adds(&b, "P:");
	for (int i = 0; i < 10000; i++)
		vl_buf_adds(&b, "x");
	vl_buf_adds(&b, "\nV:1\n\n");
	CHECK_OK(img_packages_apk(b.data, b.len, &l, &err), err);
	CHECK_EQ(strlen(l.v[0].name), IMG_MAX_PACKAGE_FIELD);
	vl_buf_free(&b);
	for (unsigned i = 0; i < IMG_MAX_PACKAGES; i++)
		vl_buf_adds(&b, "P:x\nV:1\n\n");
	CHECK_EQ(img_packages_apk(b.data, b.len, &l, &err), -EFBIG);
	CHECK_EQ(l.n, IMG_MAX_PACKAGES);
	free_list(&l);
}

TEST(the_strings_of_all_packages_are_bounded)
{
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };
	size_t bytes = 0;
	int r;

	do {
		struct img_package p = { .name = vl_strdup("x"),
					 .version = vl_strdup("1"),
					 .license = vl_alloc(1u << 20) };
		memset(p.license, 'x', (1u << 20) - 1);
		r = img_packages_add(&l, &p, &err);
	} while (r == 0 && (bytes += 1u << 20) < 2 * IMG_MAX_PACKAGE_LIST);
	CHECK_EQ(r, -EFBIG);
	CHECK(bytes <= IMG_MAX_PACKAGE_LIST);
	free_list(&l);
}

/* ---- rpm ---- */

static void add_be32(struct vl_buf *b, uint32_t v)
{
	uint8_t be[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };
	vl_buf_add(b, be, 4);
}

struct tag {
	uint32_t tag, type;
	const char *text; /* NULL = number */
	uint32_t number;
};

static void make_header(const struct tag *t, size_t n, struct vl_buf *ret)
{
	VL_BUF struct vl_buf index = { 0 }, data = { 0 };

	for (size_t i = 0; i < n; i++) {
		add_be32(&index, t[i].tag);
		add_be32(&index, t[i].type);
		add_be32(&index, (uint32_t)data.len);
		add_be32(&index, 1);
		if (t[i].text)
			vl_buf_add(&data, t[i].text, strlen(t[i].text) + 1);
		else
			add_be32(&data, t[i].number);
	}
	add_be32(ret, (uint32_t)n);
	add_be32(ret, (uint32_t)data.len);
	vl_buf_add(ret, index.data, index.len);
	vl_buf_add(ret, data.data, data.len);
}

static const struct tag glibc[] = {
	{ 1003, 4, NULL, 2 },
	{ 1000, 6, "glibc-common", 0 },
	{ 1001, 6, "2.34", 0 },
	{ 1002, 6, "100.el9", 0 },
	{ 1014, 6, "LGPLv2+", 0 },
	{ 1022, 6, "x86_64", 0 },
	{ 1044, 6, "glibc-2.34-100.el9.src.rpm", 0 },
};
static const struct tag key[] = { { 1000, 6, "gpg-pubkey", 0 }, { 1001, 6, "1", 0 }, { 1002, 6, "2", 0 } };

static void check_glibc(const struct img_packages *l)
{
	CHECK_EQ(l->n, 1);
	check_package(l, 0, "glibc-common", "2.34-100.el9", "glibc");
	CHECK_STR(l->v[0].epoch, "2");
	CHECK_STR(l->v[0].license, "LGPLv2+");
	CHECK_STR(l->v[0].arch, "x86_64");
}

TEST(rpm_header)
{
	VL_BUF struct vl_buf b = { 0 }, k = { 0 };
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };

	make_header(glibc, VL_COUNT(glibc), &b);
	make_header(key, VL_COUNT(key), &k);
	CHECK_OK(img_packages_rpm_header((uint8_t *)b.data, b.len, &l, &err), err);
	CHECK_OK(img_packages_rpm_header((uint8_t *)k.data, k.len, &l, &err), err);
	check_glibc(&l);
	for (size_t n = 0; n < b.len; n++) { /* an exact copy, for a sanitizer to see a read past the end */
		VL_FREE uint8_t *cut = vl_memdup(b.data, n ? n : 1);
		CHECK_EQ(img_packages_rpm_header(cut, n, &l, &err), -EINVAL);
	}
	CHECK_EQ(l.n, 1);
	for (size_t i = 0; i < b.len; i++) { /* any byte may be anything */
		VL_FREE uint8_t *bad = vl_memdup(b.data, b.len);
		bad[i] ^= 0xff;
		(void)!img_packages_rpm_header(bad, b.len, &l, &err);
	}
	free_list(&l);
}

static void make_ndb(const struct vl_buf *header, struct vl_buf *ret)
{
	VL_FREE uint8_t *page = vl_alloc(4096);

	memcpy(page, "RpmP", 4);
	vl_put_le32(page + 12, 1);
	memcpy(page + 48, "Slot", 4); /* a free one comes before */
	vl_put_le32(page + 52, 7);
	vl_put_le32(page + 56, 4096 / 16);
	vl_buf_add(ret, page, 4096);
	memcpy(page, "BlbS", 4);
	vl_put_le32(page + 4, 7);
	vl_put_le32(page + 8, 1);
	vl_put_le32(page + 12, (uint32_t)header->len);
	vl_buf_add(ret, page, 16);
	vl_buf_add(ret, header->data, header->len);
}

TEST(rpm_ndb)
{
	VL_BUF struct vl_buf h = { 0 }, db = { 0 };
	VL_FREE char *why = NULL;
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };

	make_header(glibc, VL_COUNT(glibc), &h);
	make_ndb(&h, &db);
	CHECK_OK(img_packages_rpm_ndb((uint8_t *)db.data, db.len, &l, &why, &err), err);
	CHECK(!why);
	check_glibc(&l);
	for (size_t i = 0; i < 64; i++) {
		VL_FREE uint8_t *bad = vl_memdup(db.data, db.len);
		VL_FREE char *w = NULL;
		bad[i] ^= 0xff;
		CHECK_OK(img_packages_rpm_ndb(bad, db.len, &l, &w, &err), err);
	}
	for (size_t n = 4096; n < db.len; n++) {
		VL_FREE uint8_t *cut = vl_memdup(db.data, n);
		VL_FREE char *w = NULL;
		size_t before = l.n;
		CHECK_OK(img_packages_rpm_ndb(cut, n, &l, &w, &err), err);
		CHECK(w && l.n == before);
	}
	free_list(&l);
}

/* Every slot of a page points to the same blob. */
TEST(rpm_ndb_a_blob_belongs_to_one_package)
{
	VL_BUF struct vl_buf h = { 0 }, db = { 0 };
	VL_FREE char *why = NULL;
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };

	make_header(glibc, VL_COUNT(glibc), &h);
	make_ndb(&h, &db);
	for (size_t i = 4; i < 256; i++)
		memcpy(db.data + 16 * i, db.data + 48, 16);
	CHECK_OK(img_packages_rpm_ndb((uint8_t *)db.data, db.len, &l, &why, &err), err);
	CHECK(l.n * h.len <= db.len);
	CHECK(strstr(why, "of its packages are damaged"));
	free_list(&l);
}

#define PAGE 512

static void put_le16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/* A first page, a hash page with one value in it and one on pages of its own, and those. Returns new, *ret_n bytes. */
static uint8_t *make_bdb(const struct vl_buf *inside, const struct vl_buf *outside, size_t *ret_n)
{
	size_t pages = 2 + (outside->len + PAGE - 26 - 1) / (PAGE - 26);
	uint8_t *db = vl_alloc(pages * PAGE), *page = db + PAGE;
	size_t end = PAGE;

	vl_put_le32(db + 12, 0x061561);
	vl_put_le32(db + 20, PAGE);
	put_le16(page + 20, 4);
	page[25] = 13;
	for (unsigned i = 0; i < 4; i++) {
		size_t n = i % 2 == 0 ? 5 : i == 1 ? inside->len + 1 : 12;
		put_le16(page + 26 + 2 * i, end -= n);
		page[end] = 1;
		if (i == 1)
			memcpy(page + end + 1, inside->data, inside->len);
	}
	page[end] = 3;
	vl_put_le32(page + end + 4, 2);
	vl_put_le32(page + end + 8, (uint32_t)outside->len);
	for (size_t i = 2, at = 0; i < pages; i++) {
		size_t n = VL_MIN(outside->len - at, (size_t)PAGE - 26);
		page = db + i * PAGE;
		vl_put_le32(page + 16, i + 1 < pages ? (uint32_t)i + 1 : 0);
		put_le16(page + 22, n);
		page[25] = 7;
		memcpy(page + 26, outside->data + at, n);
		at += n;
	}
	*ret_n = pages * PAGE;
	return db;
}

TEST(rpm_berkeley_db)
{
	static const struct tag small[] = { { 1000, 6, "small", 0 }, { 1001, 6, "1", 0 }, { 1002, 6, "2", 0 } };
	VL_BUF struct vl_buf inside = { 0 }, outside = { 0 };
	VL_FREE char *why = NULL, *text = vl_alloc(1200);
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };
	size_t n;

	memset(text, 'x', 1199);
	const struct tag large[] = { { 1004, 6, text, 0 }, { 1000, 6, "large", 0 }, { 1001, 6, "3", 0 } };
	make_header(small, VL_COUNT(small), &inside);
	make_header(large, VL_COUNT(large), &outside);
	VL_FREE uint8_t *db = make_bdb(&inside, &outside, &n);
	CHECK_OK(img_packages_rpm_bdb(db, n, &l, &why, &err), err);
	CHECK(!why);
	CHECK_EQ(l.n, 2);
	check_package(&l, 0, "small", "1-2", "-");
	check_package(&l, 1, "large", "3", "-");
	for (size_t i = 0; i < n; i++) {
		VL_FREE uint8_t *bad = vl_memdup(db, n);
		VL_FREE char *w = NULL;
		bad[i] ^= 0xff;
		CHECK_OK(img_packages_rpm_bdb(bad, n, &l, &w, &err), err);
		free_list(&l);
	}
	for (size_t cut = 1; cut < n; cut += 13) {
		VL_FREE uint8_t *part = vl_memdup(db, cut);
		VL_FREE char *w = NULL;
		CHECK_OK(img_packages_rpm_bdb(part, cut, &l, &w, &err), err);
		CHECK(l.n < 2);
		free_list(&l);
	}
	vl_put_le32(db + 2 * PAGE + 16, 2); /* a chain that is a ring */
	VL_FREE char *ring = NULL;
	CHECK_OK(img_packages_rpm_bdb(db, n, &l, &ring, &err), err);
	CHECK(l.n == 1 && ring);
	free_list(&l);
}

/* Every value of a page lies at the same place. */
TEST(rpm_berkeley_db_a_value_belongs_to_one_package)
{
	VL_BUF struct vl_buf h = { 0 };
	VL_FREE uint8_t *db = vl_alloc(2 * PAGE);
	VL_FREE char *why = NULL;
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };
	uint8_t *page = db + PAGE;

	make_header(key, VL_COUNT(key), &h);
	h.data[8 + 16 * VL_COUNT(key)] = 'G'; /* no key of rpm's any more */
	vl_put_le32(db + 12, 0x061561);
	vl_put_le32(db + 20, PAGE);
	put_le16(page + 20, 160);
	page[25] = 13;
	size_t at = PAGE - h.len - 1;
	page[at] = 1;
	memcpy(page + at + 1, h.data, h.len);
	for (unsigned i = 0; i < 160; i++)
		put_le16(page + 26 + 2 * i, i % 2 ? at : PAGE);
	CHECK_OK(img_packages_rpm_bdb(db, 2 * PAGE, &l, &why, &err), err);
	CHECK(l.n && l.n * h.len <= 2 * PAGE);
	CHECK(strstr(why, "of its packages are damaged"));
	free_list(&l);
}

/* The file of a database that these words make; *ret_n bytes, new. */
static uint8_t *make_sqlite(const char *sql, const struct vl_buf *blob, size_t *ret_n)
{
	sqlite3 *db;
	sqlite3_stmt *s;
	sqlite3_int64 n;

	CHECK_EQ(sqlite3_open(":memory:", &db), SQLITE_OK);
	CHECK_EQ(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	if (blob) {
		CHECK_EQ(sqlite3_prepare_v2(db, "INSERT INTO Packages (blob) VALUES (?)", -1, &s, NULL), SQLITE_OK);
		CHECK_EQ(sqlite3_bind_blob(s, 1, blob->data, (int)blob->len, SQLITE_STATIC), SQLITE_OK);
		CHECK_EQ(sqlite3_step(s), SQLITE_DONE);
		sqlite3_finalize(s);
	}
	uint8_t *p = sqlite3_serialize(db, "main", &n, 0), *copy = vl_memdup(p, (size_t)n);
	sqlite3_free(p);
	sqlite3_close(db);
	*ret_n = (size_t)n;
	return copy;
}

#define TABLE "CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);"

TEST(rpm_sqlite)
{
	VL_BUF struct vl_buf h = { 0 };
	VL_FREE char *why = NULL;
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };
	size_t n;

	make_header(glibc, VL_COUNT(glibc), &h);
	VL_FREE uint8_t *db = make_sqlite(TABLE, &h, &n);
	db[18] = db[19] = 2; /* as rpm leaves it: with a write-ahead log */
	CHECK_OK(img_packages_rpm_sqlite(db, n, &l, &why, &err), err);
	CHECK(!why);
	check_glibc(&l);
	for (size_t i = 0; i < n; i += 37) { /* damaged anywhere: read or refused, never worse */
		VL_FREE uint8_t *bad = vl_memdup(db, n);
		VL_FREE char *w = NULL;
		bad[i] ^= 0xff;
		CHECK_OK(img_packages_rpm_sqlite(bad, n, &l, &w, &err), err);
	}
	free_list(&l);
}

TEST(rpm_sqlite_runs_nothing_of_the_schema)
{
	static const char *const bad[] = {
		"CREATE VIEW Packages AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x AS "
		"blob FROM c;",
		"CREATE TABLE t(blob); CREATE VIEW Packages AS SELECT zeroblob(1000000000) AS blob;",
		"CREATE TABLE Packages(hnum INTEGER, blob GENERATED ALWAYS AS (hex(hnum)) VIRTUAL);"
		"INSERT INTO Packages VALUES (1);",
		"CREATE TABLE Packages(hnum INTEGER, blob AS (zeroblob(999999999)));"
		"INSERT INTO Packages VALUES (1), (2), (3), (4), (5);",
		"CREATE TABLE Packages(blob, x AS (hex(blob)) STORED); INSERT INTO Packages VALUES (1);",
		"CREATE TABLE other(x);",
	};
	struct vl_err err = { 0 };

	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		struct img_packages l = { 0 };
		VL_FREE char *why = NULL;
		size_t n;
		VL_FREE uint8_t *db = make_sqlite(bad[i], NULL, &n);
		CHECK_OK(img_packages_rpm_sqlite(db, n, &l, &why, &err), err);
		CHECK(why && !l.n);
		CHECK(!strstr(why, "of its packages are damaged")); /* no row was read */
	}
}

/* A default stands in the schema once and in every row. */
TEST(rpm_sqlite_rows_are_no_larger_than_the_file)
{
	VL_BUF struct vl_buf sql = { 0 };
	VL_FREE char *why = NULL;
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };
	size_t n;

	vl_buf_adds(&sql,
		    "CREATE TABLE Packages(hnum); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT "
		    "1000) INSERT INTO Packages SELECT x FROM c; ALTER TABLE Packages ADD COLUMN blob DEFAULT x'");
	for (int i = 0; i < 2000; i++)
		vl_buf_adds(&sql, "ff");
	vl_buf_adds(&sql, "';");
	VL_FREE uint8_t *db = make_sqlite(sql.data, NULL, &n);
	CHECK_OK(img_packages_rpm_sqlite(db, n, &l, &why, &err), err);
	CHECK(!l.n && strstr(why, "larger than the file"));
}

TEST(rpm_sqlite_damaged_packages_leave_the_others)
{
	VL_BUF struct vl_buf h = { 0 };
	VL_FREE char *why = NULL;
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };
	size_t n;

	make_header(glibc, VL_COUNT(glibc), &h);
	VL_FREE uint8_t *db =
		make_sqlite(TABLE "INSERT INTO Packages (blob) VALUES (x'00000001'), ('text'), (5);", &h, &n);
	CHECK_OK(img_packages_rpm_sqlite(db, n, &l, &why, &err), err);
	check_glibc(&l);
	CHECK(strstr(why, "3 of its packages"));
	free_list(&l);
}

/* ---- documents ---- */

TEST(sboms_are_the_same_for_the_same_packages)
{
	static const char text[] = "P:a+b~c\nV:1:2\nA:x\nL:A & \"B\"\no:src\n\n";
	static const enum img_sbom_format formats[] = { IMG_SBOM_SPDX_JSON, IMG_SBOM_CYCLONEDX_JSON };
	struct img_packages l = { 0 };
	struct vl_err err = { 0 };

	CHECK_OK(img_packages_apk(text, sizeof text - 1, &l, &err), err);
	vl_strv_add(&l.unread, "var/lib/rpm/Packages: why");
	for (size_t i = 0; i < VL_COUNT(formats); i++) {
		const struct img_sbom s = { "image", "sha256:1", "0", 86400, &l };
		VL_FREE char *a = img_sbom_text(&s, formats[i]), *b = img_sbom_text(&s, formats[i]);
		VL_JSON vl_json *j = NULL;
		CHECK_STR(a, b);
		CHECK_OK(vl_json_parse(a, strlen(a), "sbom", &j, &err), err);
		CHECK(strstr(a, "\"pkg:apk/alpine/a%2Bb~c@1:2?arch=x&upstream=src\""));
		CHECK(strstr(a, "1970-01-02T00:00:00Z"));
		CHECK(strstr(a, "var/lib/rpm/Packages: why"));
	}
	free_list(&l);
}
