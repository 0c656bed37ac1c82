#include "tar.h"

#include "tar_pax.h"

#define BLOCK 512

/* offsets in a header block, POSIX.1-2001 "ustar Interchange Format" and the GNU manual */
enum {
	NAME = 0,
	MODE = 100,
	UID = 108,
	GID = 116,
	SIZE = 124,
	MTIME = 136,
	CHKSUM = 148,
	TYPE = 156,
	LINKNAME = 157,
	MAGIC = 257,
	DEVMAJOR = 329,
	DEVMINOR = 337,
	PREFIX = 345,
	GNU_SPARSE = 386,
	GNU_EXTENDED = 482,
	GNU_REALSIZE = 483
};

struct img_tar {
	img_tar_source *source;
	void *arg;
	const uint8_t *p; /* rest of the current piece of the stream */
	size_t n;
	bool ended;
	struct img_tar_entry e;
	uint64_t left;    /* stored content not yet read, and */
	uint32_t padding; /* zeros behind it */
	struct tar_map map;
	size_t seg; /* current segment of the map */
	uint64_t seg_done;
};

struct img_tar *img_tar_new(img_tar_source *source, void *arg)
{
	struct img_tar *t = vl_alloc(sizeof *t);
	t->source = source;
	t->arg = arg;
	return t;
}

static void clear_entry(struct img_tar *t)
{
	free(t->e.path);
	free(t->e.link);
	for (size_t i = 0; i < t->e.n_xattrs; i++) {
		free(t->e.xattrs[i].key);
		free(t->e.xattrs[i].value);
	}
	free(t->e.xattrs);
	t->e = (struct img_tar_entry){ 0 };
	t->map.n = 0;
	t->seg = 0;
	t->seg_done = 0;
}

void img_tar_free(struct img_tar *t)
{
	if (!t)
		return;
	clear_entry(t);
	free(t->map.segs);
	free(t);
}

/* ---- bytes ---- */

/* At most `want` bytes as they lie in the stream; 0 = the stream has ended. */
static int piece(struct img_tar *t, size_t want, const uint8_t **ret, size_t *ret_len, struct vl_err *err)
{
	while (!t->n && !t->ended) {
		const void *p;
		int r = t->source(t->arg, &p, &t->n, err);
		if (r < 0)
			return r;
		t->p = p;
		t->ended = t->n == 0;
	}
	*ret = t->p;
	*ret_len = VL_MIN(want, t->n);
	t->p += *ret_len;
	t->n -= *ret_len;
	return 0;
}

static int cut_short(struct vl_err *err)
{
	return vl_fail(err, EBADMSG, "the tar ends in the middle of an entry");
}

/* Exactly n bytes into buf; *ret_got may be 0 only, at a clean end, when eof_ok. */
static int fill(struct img_tar *t, void *buf, size_t n, bool eof_ok, size_t *ret_got, struct vl_err *err)
{
	size_t got = 0;

	while (got < n) {
		const uint8_t *p;
		size_t k;
		int r = piece(t, n - got, &p, &k, err);
		if (r < 0)
			return r;
		if (!k && !(got == 0 && eof_ok))
			return cut_short(err);
		if (!k)
			break;
		memcpy((uint8_t *)buf + got, p, k);
		got += k;
	}
	if (ret_got)
		*ret_got = got;
	return 0;
}

static int skip(struct img_tar *t, uint64_t n, struct vl_err *err)
{
	while (n) {
		const uint8_t *p;
		size_t k;
		int r = piece(t, n > SIZE_MAX ? SIZE_MAX : (size_t)n, &p, &k, err);
		if (r < 0)
			return r;
		if (!k)
			return cut_short(err);
		n -= k;
	}
	return 0;
}

/* ---- header fields ---- */

/* Octal text, or base-256 when the first bit is set; negative only where allowed (times). */
static int number(const uint8_t *f, size_t width, const char *what, bool negative_ok, int64_t *ret, struct vl_err *err)
{
	size_t i = 0;
	uint64_t v = 0;

	if (f[0] & 0x80) {
		bool neg = f[0] & 0x40;
		v = neg ? ~0ull : 0;
		for (i = 0; i < width; i++) {
			uint8_t byte = i ? f[i] : (uint8_t)(neg ? f[0] | 0x80 : f[0] & 0x7f);
			uint64_t top = v >> 55; /* sign and the bits that the shift loses */
			if (top != (neg ? 0x1ff : 0))
				return vl_fail(err, EBADMSG, "a tar header with a %s of more than 63 bits", what);
			v = v << 8 | byte;
		}
		if (neg && !negative_ok)
			return vl_fail(err, EBADMSG, "a tar header with a negative %s", what);
		*ret = (int64_t)v;
		return 0;
	}
	while (i < width && (f[i] == ' ' || f[i] == 0))
		i++;
	for (; i < width && f[i] >= '0' && f[i] <= '7'; i++) {
		if (v >> 60)
			return vl_fail(err, EBADMSG, "a tar header with a %s of more than 63 bits", what);
		v = v << 3 | (uint64_t)(f[i] - '0');
	}
	for (; i < width; i++)
		if (f[i] != ' ' && f[i] != 0)
			return vl_fail(err, EBADMSG, "a tar header whose %s is not a number", what);
	*ret = (int64_t)v;
	return 0;
}

static int check_sum(const uint8_t *h, struct vl_err *err)
{
	int64_t want, plain = 0, sign = 0;
	int r = number(h + CHKSUM, 8, "checksum", false, &want, err);

	for (int i = 0; i < BLOCK; i++) {
		uint8_t c = i >= CHKSUM && i < CHKSUM + 8 ? ' ' : h[i];
		plain += c;
		sign += (int8_t)c; /* some old writers summed signed bytes */
	}
	if (r < 0)
		return r;
	if (want != plain && want != sign)
		return vl_fail(err, EBADMSG, "a tar header with a wrong checksum; this is no tar, or it is damaged");
	return 0;
}

static bool all_zero(const uint8_t *h)
{
	return !h[0] && !memcmp(h, h + 1, BLOCK - 1);
}

/* A header block. 0: the archive ends here. */
static int read_block(struct img_tar *t, uint8_t *h, struct vl_err *err)
{
	size_t got;
	int r = fill(t, h, BLOCK, true, &got, err);

	if (r < 0 || !got)
		return r;
	if (!all_zero(h)) {
		r = check_sum(h, err);
		return r < 0 ? r : 1;
	}
	/* two zero blocks end an archive; one alone may be followed by nothing only */
	if ((r = fill(t, h, BLOCK, true, &got, err)) < 0 || !got)
		return r;
	return all_zero(h) ? 0 : vl_fail(err, EBADMSG, "a lone block of zeros inside the tar");
}

static char *header_name(const uint8_t *h)
{
	const char *name = (const char *)h + NAME, *prefix = (const char *)h + PREFIX;
	size_t n = strnlen(name, 100), m = 0;

	if (!memcmp(h + MAGIC, "ustar\0", 6)) /* POSIX; GNU ("ustar ") keeps other things in that place */
		m = strnlen(prefix, !memcmp(h + 508, "tar\0", 4) ? 131 : 155);
	return m ? vl_asprintf("%.*s/%.*s", (int)m, prefix, (int)n, name) : vl_strndup(name, n);
}

static int read_meta(struct img_tar *t, uint64_t size, const char *what, char **ret, struct vl_err *err)
{
	if (size > IMG_TAR_MAX_META)
		return vl_fail(err, EFBIG, "a %s of %llu bytes; the limit is %u", what, (unsigned long long)size,
			       IMG_TAR_MAX_META);
	VL_FREE char *text = vl_alloc(size + 1);
	int r = fill(t, text, size, false, NULL, err);
	if (r == 0)
		r = skip(t, -size % BLOCK, err);
	if (r < 0)
		return r;
	*ret = vl_steal(&text);
	return 0;
}

static int read_long(struct img_tar *t, uint64_t size, char **ret, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	int r = read_meta(t, size, "long name", &text, err);

	if (r < 0)
		return r;
	for (size_t i = size; text && i-- > 0 && !text[i];)
		size = i; /* writers end it with a NUL, or fill up with them */
	if (text && strlen(text) != size)
		return vl_fail(err, EBADMSG, "a long name with a NUL inside");
	free(*ret);
	*ret = vl_steal(&text);
	return 0;
}

/* ---- sparse maps ---- */

static int old_sparse(struct img_tar *t, const uint8_t *h, struct vl_err *err)
{
	uint8_t ext[BLOCK];
	const uint8_t *p = h + GNU_SPARSE;
	int64_t real, off, len;
	int count = 4, r = number(h + GNU_REALSIZE, 12, "real size", false, &real, err);
	bool more = h[GNU_EXTENDED];

	while (r == 0) {
		for (int i = 0; i < count && p[24 * i]; i++) {
			if ((r = number(p + 24 * i, 12, "sparse offset", false, &off, err)) < 0 ||
			    (r = number(p + 24 * i + 12, 12, "sparse length", false, &len, err)) < 0 ||
			    (r = img_map_add(&t->map, (uint64_t)off, (uint64_t)len, err)) < 0)
				return r;
		}
		if (!more)
			break;
		r = fill(t, ext, BLOCK, false, NULL, err);
		p = ext;
		count = 21;
		more = ext[504];
	}
	t->e.size = (uint64_t)real;
	return r;
}

/* PAX 1.0: the map stands in front of the content, decimal lines, padded to a block. */
static int line_number(const char **p, const char *end, uint64_t *ret)
{
	VL_FREE char *line = NULL;
	const char *nl = memchr(*p, '\n', (size_t)(end - *p));

	if (!nl)
		return -EINVAL;
	line = vl_strndup(*p, (size_t)(nl - *p));
	*p = nl + 1;
	return vl_parse_u64(line, 0, INT64_MAX, ret);
}

static int parse_map(const struct vl_buf *b, struct tar_map *map, struct vl_err *err)
{
	const char *p = b->data, *end = b->data + b->len;
	uint64_t n, off, len;
	int r = line_number(&p, end, &n);

	map->n = 0;
	if (r == 0 && n > TAR_MAX_SEGMENTS)
		return vl_fail(err, E2BIG, "a sparse file of %llu parts", (unsigned long long)n);
	for (uint64_t i = 0; r == 0 && i < n; i++)
		if ((r = line_number(&p, end, &off)) == 0 && (r = line_number(&p, end, &len)) == 0 &&
		    (r = img_map_add(map, off, len, err)) < 0)
			return r;
	return r < 0 ? vl_fail(err, EBADMSG, "a sparse map that is not a list of numbers") : 0;
}

/* Lines that the list has in all, once its first one is there; SIZE_MAX before. */
static size_t lines_wanted(const struct vl_buf *b)
{
	const char *p = b->data;
	uint64_t n;

	if (line_number(&p, b->data + b->len, &n) < 0)
		return memchr(b->data, '\n', b->len) ? 0 : SIZE_MAX; /* no number: let the parser say so */
	return n > TAR_MAX_SEGMENTS ? 0 : 1 + 2 * (size_t)n;
}

static int new_sparse(struct img_tar *t, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	uint8_t block[BLOCK];
	size_t lines = 0;

	do {
		if (t->left < BLOCK || b.len > 64 * IMG_TAR_MAX_META)
			return vl_fail(err, EBADMSG, "a sparse map that does not end");
		int r = fill(t, block, BLOCK, false, NULL, err);
		if (r < 0)
			return r;
		t->left -= BLOCK;
		vl_buf_add(&b, block, BLOCK);
		for (size_t i = 0; i < BLOCK; i++)
			lines += block[i] == '\n';
	} while (lines < lines_wanted(&b)); /* not a block further: the content begins there */
	return parse_map(&b, &t->map, err);
}

/* ---- entries ---- */

struct pending { /* what earlier headers say of the next entry */
	char *path, *link;
	struct tar_pax pax;
};

static void pending_free(struct pending *p)
{
	free(p->path);
	free(p->link);
	img_pax_free(&p->pax);
}

static int header_numbers(struct img_tar *t, const uint8_t *h, const struct tar_pax *x, struct vl_err *err)
{
	int64_t mode, uid = 0, gid = 0, mtime = 0, major = 0, minor = 0;
	bool device = t->e.type == '3' || t->e.type == '4';
	int r = number(h + MODE, 8, "mode", false, &mode, err);

	if (r == 0 && !x->has_uid)
		r = number(h + UID, 8, "user id", false, &uid, err);
	if (r == 0 && !x->has_gid)
		r = number(h + GID, 8, "group id", false, &gid, err);
	if (r == 0 && !x->has_mtime)
		r = number(h + MTIME, 12, "time", true, &mtime, err);
	if (r == 0 && device && (r = number(h + DEVMAJOR, 8, "device number", false, &major, err)) == 0)
		r = number(h + DEVMINOR, 8, "device number", false, &minor, err);
	if (r < 0)
		return r;
	t->e.mode = (uint32_t)mode & 07777;
	t->e.uid = x->has_uid ? x->uid : (uint64_t)uid;
	t->e.gid = x->has_gid ? x->gid : (uint64_t)gid;
	t->e.mtime = x->has_mtime ? x->mtime : mtime;
	t->e.major = (uint64_t)major;
	t->e.minor = (uint64_t)minor;
	return 0;
}

static bool is_file_flag(uint8_t flag)
{
	return flag == 0 || flag == '0' || flag == '7' || flag == 'S';
}

static int set_type(struct img_tar *t, uint8_t flag, struct vl_err *err)
{
	size_t n = strlen(t->e.path);

	if (is_file_flag(flag))
		flag = '0';
	if (flag == '0' && n && t->e.path[n - 1] == '/')
		flag = '5'; /* pre-POSIX archives know folders by the slash only */
	if (flag == 'D')
		flag = '5'; /* GNU incremental: a folder, its listing is passed over */
	if (flag < '0' || flag > '6')
		return vl_fail(err, ENOTSUP, "a tar entry of the unknown type 0x%02x", flag);
	t->e.type = (char)flag;
	return 0;
}

/* Size and place of the content: plain, or one of the sparse formats. */
static int set_content(struct img_tar *t, const uint8_t *h, uint64_t stored, struct pending *p, struct vl_err *err)
{
	bool data = t->e.type == '0';
	int r = 0;

	/* links, devices, folders: whatever their size says, no content follows, as Go's reader has it;
	 * a file that its slash makes a folder has some, which is passed over */
	t->left = data || is_file_flag(h[TYPE]) || h[TYPE] == 'D' ? stored : 0;
	t->padding = (uint32_t)(-t->left % BLOCK);
	if (!data)
		return 0;
	t->e.size = stored;
	if (h[TYPE] == 'S') {
		r = old_sparse(t, h, err);
	} else if (p->pax.sparse) {
		if (p->pax.sparse_major == 1)
			r = new_sparse(t, err);
		else
			img_map_move(&t->map, &p->pax.map);
		t->e.size = p->pax.sparse_size;
	} else {
		return stored ? img_map_add(&t->map, 0, stored, err) : 0;
	}
	return r < 0 ? r : img_map_check(&t->map, t->e.size, t->left, err);
}

static int real_entry(struct img_tar *t, const uint8_t *h, uint64_t size, struct pending *p, struct vl_err *err)
{
	struct tar_pax *x = &p->pax;
	int r;

	t->e.path = x->sparse_name ? vl_steal(&x->sparse_name)
		    : x->path      ? vl_steal(&x->path)
		    : p->path      ? vl_steal(&p->path)
				   : header_name(h);
	t->e.link = x->link   ? vl_steal(&x->link)
		    : p->link ? vl_steal(&p->link)
			      : vl_strndup((const char *)h + LINKNAME, strnlen((const char *)h + LINKNAME, 100));
	if ((r = set_type(t, h[TYPE], err)) < 0 || (r = header_numbers(t, h, x, err)) < 0)
		return r;
	t->e.xattrs = vl_steal(&x->xattrs);
	t->e.n_xattrs = x->n_xattrs;
	x->n_xattrs = 0;
	return set_content(t, h, x->has_size ? x->size : size, p, err);
}

/* Headers that speak of the next one. 1: h was such a header. */
static int meta_header(struct img_tar *t, const uint8_t *h, uint64_t size, struct pending *p, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	struct tar_pax ignored = { 0 };
	int r;

	switch (h[TYPE]) {
	case 'x':
	case 'X':
		if ((r = read_meta(t, size, "PAX header", &text, err)) == 0)
			r = img_pax_parse(&p->pax, text, size, err);
		break;
	case 'g': /* checked, then ignored, as every image tool does: real ones hold a comment */
		if ((r = read_meta(t, size, "PAX header", &text, err)) == 0)
			r = img_pax_parse(&ignored, text, size, err);
		img_pax_free(&ignored);
		break;
	case 'L':
		r = read_long(t, size, &p->path, err);
		break;
	case 'K':
		r = read_long(t, size, &p->link, err);
		break;
	case 'V': /* a volume's label */
		r = skip(t, size + -size % BLOCK, err);
		break;
	default:
		return 0;
	}
	return r < 0 ? r : 1;
}

int img_tar_next(struct img_tar *t, const struct img_tar_entry **ret, struct vl_err *err)
{
	VL_CLEANUP(pending_free) struct pending p = { 0 };
	uint8_t h[BLOCK];
	bool announced = false;
	int64_t size;
	int r = skip(t, t->left, err);

	if (r == 0 && t->padding && (r = skip(t, t->padding, err)) == -EBADMSG && t->ended)
		return 0; /* some writers leave out the padding of the last file */
	t->left = t->padding = 0;
	clear_entry(t);
	for (;;) {
		if (r < 0 || (r = read_block(t, h, err)) < 0)
			return r;
		if (r == 0)
			return announced ? cut_short(err) : 0;
		if ((r = number(h + SIZE, 12, "size", false, &size, err)) < 0 ||
		    (r = meta_header(t, h, (uint64_t)size, &p, err)) < 0)
			return r;
		if (r == 0)
			break;
		announced |= h[TYPE] != 'g' && h[TYPE] != 'V';
		r = 0;
	}
	r = real_entry(t, h, (uint64_t)size, &p, err);
	if (r < 0)
		return r;
	*ret = &t->e;
	return 1;
}

int img_tar_data(struct img_tar *t, const void **ret, size_t *ret_len, uint64_t *ret_off, struct vl_err *err)
{
	const uint8_t *p;
	size_t n;

	while (t->seg < t->map.n && t->seg_done == t->map.segs[t->seg].len) {
		t->seg++;
		t->seg_done = 0;
	}
	if (t->e.type != '0' || t->seg == t->map.n)
		return 0;
	const struct tar_seg *s = &t->map.segs[t->seg];
	uint64_t want = VL_MIN(s->len - t->seg_done, t->left);
	int r = piece(t, want > SIZE_MAX ? SIZE_MAX : (size_t)want, &p, &n, err);
	if (r < 0)
		return r;
	if (!n)
		return cut_short(err);
	*ret = p;
	*ret_len = n;
	*ret_off = s->off + t->seg_done;
	t->seg_done += n;
	t->left -= n;
	return 1;
}
