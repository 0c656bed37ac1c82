/* Of a shared object: its SONAME, the libraries and the symbol versions that it needs, the versions and symbols that it has. All
 * of it is somebody else's, of the image even a stranger's: every number is checked against the file and against a limit. */
#include "host.h"

#define PHDRS_MAX 128          /* real files have about ten */
#define DYNAMIC_MAX 1024       /* entries; real files have thirty */
#define VERSIONS_MAX 2048      /* glibc itself has some fifty */
#define SYMBOLS_MAX (1u << 20) /* libraries of MPI have some ten thousand */
#define SYMBOL_LEN 2048        /* longer ones, of templates, are nobody's interface; comparing costs their length */
#define STRINGS_MAX (64u << 20)
#define NAME_LEN 256
#define SEARCH_LEN 16384 /* a list of directories */
#define WINDOW 4096

#if defined(__x86_64__)
const unsigned gpu_native_machine = EM_X86_64;
#elif defined(__aarch64__)
const unsigned gpu_native_machine = EM_AARCH64;
#elif defined(__powerpc64__)
const unsigned gpu_native_machine = EM_PPC64;
#elif defined(__riscv)
const unsigned gpu_native_machine = EM_RISCV;
#else
const unsigned gpu_native_machine = EM_NONE;
#endif
const unsigned gpu_native_class = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;

struct segment {
	uint64_t off, addr, size;
};
struct file {
	gpu_read *read;
	void *arg;
	bool wide; /* 64 bits */
	struct segment seg[PHDRS_MAX];
	size_t n_seg;
	uint64_t at; /* of the window */
	size_t have;
	uint8_t window[WINDOW];
};

void gpu_elf_free(struct gpu_elf *e)
{
	vl_freep(&e->soname);
	vl_strv_free(&e->needs);
	vl_strv_free(&e->defines);
	vl_strv_free(&e->libs);
	vl_freep(&e->search);
}

/* n bytes at off, NULL: the file is shorter. Good until the next call. */
static const uint8_t *get(struct file *f, uint64_t off, size_t n)
{
	if (off > INT64_MAX - WINDOW || n > WINDOW / 2)
		return NULL;
	if (off < f->at || off + n > f->at + f->have) {
		f->at = off & ~(uint64_t)(WINDOW / 2 - 1);
		f->have = 0;
		while (f->have < WINDOW) {
			ssize_t r = f->read(f->arg, f->window + f->have, WINDOW - f->have, f->at + f->have);
			if (r <= 0)
				break;
			f->have += (size_t)r;
		}
	}
	return off >= f->at && off + n <= f->at + f->have ? f->window + (off - f->at) : NULL;
}

/* Where in the file is what the loader has at that address? */
static bool find_address(const struct file *f, uint64_t addr, uint64_t *ret)
{
	for (size_t i = 0; i < f->n_seg; i++)
		if (addr >= f->seg[i].addr && addr - f->seg[i].addr < f->seg[i].size) {
			*ret = f->seg[i].off + (addr - f->seg[i].addr);
			return true;
		}
	return false;
}

/* A text of the string table; returns new or NULL. */
static char *get_text(struct file *f, uint64_t table, uint64_t size, uint64_t at, size_t max)
{
	uint64_t off;

	if (at >= size || table > UINT64_MAX - at || !find_address(f, table + at, &off))
		return NULL;
	for (size_t n = 0; n < max; n++) {
		const uint8_t *c = get(f, off + n, 1);
		if (!c || (*c && (*c < 0x20 || *c > 0x7e)))
			return NULL;
		if (*c)
			continue;
		char *s = vl_alloc(n + 1);
		for (size_t i = 0; i < n; i++)
			s[i] = (c = get(f, off + i, 1)) ? (char)*c : 0;
		return s;
	}
	return NULL;
}

static char *get_string(struct file *f, uint64_t table, uint64_t size, uint64_t at)
{
	return get_text(f, table, size, at, NAME_LEN);
}

static bool read_header(struct file *f, struct gpu_elf *e, uint64_t *ret_phoff, size_t *ret_size, size_t *ret_n)
{
	const uint8_t *h = get(f, 0, 52);

	if (!h || memcmp(h, ELFMAG, SELFMAG) || h[EI_DATA] != ELFDATA2LSB ||
	    (h[EI_CLASS] != ELFCLASS64 && h[EI_CLASS] != ELFCLASS32))
		return false;
	e->class = h[EI_CLASS];
	e->machine = vl_le16(h + 18);
	f->wide = e->class == ELFCLASS64;
	if (!(h = get(f, 0, f->wide ? 64 : 52)))
		return false;
	*ret_phoff = f->wide ? vl_le64(h + 32) : vl_le32(h + 28);
	*ret_size = vl_le16(h + (f->wide ? 54 : 42));
	*ret_n = vl_le16(h + (f->wide ? 56 : 44));
	return *ret_size == (f->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) && *ret_n <= PHDRS_MAX &&
	       *ret_phoff < INT64_MAX / 2;
}

static bool read_segments(struct file *f, struct gpu_elf *e, struct segment *ret_dynamic)
{
	uint64_t phoff;
	size_t size, n;
	bool dynamic = false;

	if (!read_header(f, e, &phoff, &size, &n))
		return false;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = get(f, phoff + i * size, size);
		if (!p)
			return false;
		struct segment s = f->wide ? (struct segment){ vl_le64(p + 8), vl_le64(p + 16), vl_le64(p + 32) }
					   : (struct segment){ vl_le32(p + 4), vl_le32(p + 8), vl_le32(p + 16) };
		if (s.off > INT64_MAX / 2)
			return false;
		if (vl_le32(p) == PT_LOAD)
			f->seg[f->n_seg++] = s;
		if (vl_le32(p) == PT_DYNAMIC) {
			*ret_dynamic = s;
			dynamic = true;
		}
	}
	return dynamic;
}

struct dynamic {
	uint64_t strings, strings_size, soname, need, define, search, symbols, hash, gnu_hash;
	bool has_soname, has_search;
	uint64_t libs[DYNAMIC_MAX]; /* places of their names */
	size_t n_libs;
};

static void take_tag(struct dynamic *d, uint64_t tag, uint64_t value)
{
	if (tag == DT_STRTAB)
		d->strings = value;
	else if (tag == DT_STRSZ)
		d->strings_size = value;
	else if (tag == DT_VERNEED)
		d->need = value;
	else if (tag == DT_VERDEF)
		d->define = value;
	else if (tag == DT_SYMTAB)
		d->symbols = value;
	else if (tag == DT_HASH)
		d->hash = value;
	else if (tag == DT_GNU_HASH)
		d->gnu_hash = value;
	else if (tag == DT_NEEDED)
		d->libs[d->n_libs++] = value;
	else if (tag == DT_SONAME) {
		d->soname = value;
		d->has_soname = true;
	} else if (tag == DT_RUNPATH || (tag == DT_RPATH && !d->has_search)) {
		d->search = value;
		d->has_search = true;
	}
}

static bool read_dynamic(struct file *f, const struct segment *at, struct dynamic *ret)
{
	size_t size = f->wide ? 16 : 8;
	uint64_t n = VL_MIN(at->size / size, (uint64_t)DYNAMIC_MAX);

	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *p = get(f, at->off + i * size, size);
		if (!p)
			return false;
		uint64_t tag = f->wide ? vl_le64(p) : vl_le32(p);
		if (tag == DT_NULL)
			break;
		take_tag(ret, tag, f->wide ? vl_le64(p + 8) : vl_le32(p + 4));
	}
	return true;
}

/* Both tables are lists of lists with the same offsets in either class. Of definitions the first name counts, the others are
 * what it inherits from. */
static bool read_versions(struct file *f, const struct dynamic *d, bool needs, struct vl_strv *ret)
{
	uint64_t addr = needs ? d->need : d->define, off;
	unsigned steps = 0;

	while (addr) {
		if (!find_address(f, addr, &off))
			return false;
		const uint8_t *p = get(f, off, needs ? 16 : 20);
		if (!p)
			return false;
		uint64_t aux = addr + vl_le32(p + (needs ? 8 : 12)), next = vl_le32(p + (needs ? 12 : 16));
		for (unsigned n = needs ? vl_le16(p + 2) : 1; n; n--) {
			const uint8_t *a = find_address(f, aux, &off) ? get(f, off, needs ? 16 : 8) : NULL;
			if (!a || ++steps > VERSIONS_MAX)
				return false;
			uint64_t more = vl_le32(a + (needs ? 12 : 4));
			char *name = get_string(f, d->strings, d->strings_size, vl_le32(a + (needs ? 8 : 0)));
			if (!name)
				return false;
			vl_strv_take(ret, name);
			if (!more)
				break;
			aux += more;
		}
		if (!next || ++steps > VERSIONS_MAX)
			return !next;
		addr += next;
	}
	return true;
}

static bool read_libs(struct file *f, const struct dynamic *d, struct gpu_elf *e)
{
	for (size_t i = 0; i < d->n_libs; i++) {
		char *name = get_string(f, d->strings, d->strings_size, d->libs[i]);
		if (!name)
			return false;
		vl_strv_take(&e->libs, name);
	}
	if (d->has_search)
		e->search = get_text(f, d->strings, d->strings_size, d->search, SEARCH_LEN);
	return true;
}

int gpu_elf_load(gpu_read *read, void *arg, struct gpu_elf *ret)
{
	VL_FREE struct file *f = vl_alloc(sizeof *f);
	VL_FREE struct dynamic *d = vl_alloc(sizeof *d);
	GPU_ELF struct gpu_elf e = { 0 };
	struct segment at = { 0 };

	f->read = read;
	f->arg = arg;
	if (!read_segments(f, &e, &at) || !read_dynamic(f, &at, d) || !read_versions(f, d, true, &e.needs) ||
	    !read_versions(f, d, false, &e.defines) || !read_libs(f, d, &e))
		return -ENOEXEC;
	if (d->has_soname && !(e.soname = get_string(f, d->strings, d->strings_size, d->soname)))
		return -ENOEXEC;
	*ret = vl_move(&e);
	return 0;
}

/* ---- symbols ------------------------------------------------------------------------------------ */

void gpu_names_free(struct gpu_names *n)
{
	vl_freep(&n->text);
	free(n->v);
	*n = (struct gpu_names){ 0 };
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool gpu_names_has(const struct gpu_names *n, const char *name)
{
	return n->n && bsearch(&name, n->v, n->n, sizeof *n->v, by_name);
}

static bool get_word(struct file *f, uint64_t addr, uint32_t *ret)
{
	uint64_t off;
	const uint8_t *p = find_address(f, addr, &off) ? get(f, off, 4) : NULL;

	if (p)
		*ret = vl_le32(p);
	return p != NULL;
}

/* How many symbols there are is not said; those that can be looked up are in a hash table behind the others, in chains that end
 * with an odd hash. */
static bool count_by_gnu_hash(struct file *f, const struct dynamic *d, uint64_t *ret)
{
	uint32_t buckets, first, bloom, last = 0, one;

	if (!get_word(f, d->gnu_hash, &buckets) || !get_word(f, d->gnu_hash + 4, &first) ||
	    !get_word(f, d->gnu_hash + 8, &bloom) || buckets > SYMBOLS_MAX || bloom > SYMBOLS_MAX)
		return false;
	uint64_t at = d->gnu_hash + 16 + (uint64_t)bloom * (f->wide ? 8 : 4), chains = at + (uint64_t)buckets * 4;
	for (uint32_t i = 0; i < buckets; i++, last = VL_MAX(last, one))
		if (!get_word(f, at + (uint64_t)i * 4, &one))
			return false;
	*ret = first;
	if (!last)
		return true;
	for (uint64_t i = last; i >= first && i < SYMBOLS_MAX; i++) {
		if (!get_word(f, chains + (i - first) * 4, &one))
			return false;
		*ret = i + 1;
		if (one & 1)
			return true;
	}
	return false;
}

static bool count_symbols(struct file *f, const struct dynamic *d, uint64_t *ret)
{
	uint32_t chains;

	if (d->gnu_hash)
		return count_by_gnu_hash(f, d, ret) && *ret <= SYMBOLS_MAX;
	*ret = 0;
	if (!d->hash)
		return true;
	if (!get_word(f, d->hash + 4, &chains) || chains > SYMBOLS_MAX)
		return false;
	*ret = chains;
	return true;
}

/* What the loader has there, with a NUL behind it. Returns new, or NULL. */
static char *get_all(struct file *f, uint64_t addr, uint64_t size)
{
	uint64_t off;

	if (size > STRINGS_MAX || !find_address(f, addr, &off))
		return NULL;
	/* as much as is there: it need not be what the header says */
	VL_BUF struct vl_buf b = { 0 };
	char some[65536];
	while (b.len < size) {
		ssize_t r = f->read(f->arg, some, VL_MIN(sizeof some, (size_t)(size - b.len)), off + b.len);
		if (r <= 0)
			return NULL;
		vl_buf_add(&b, some, (size_t)r);
	}
	vl_buf_adds(&b, "");
	return vl_steal(&b.data);
}

static void add_name(struct gpu_names *n, const char *name)
{
	if (!(n->n & (n->n - 1))) /* full, at each power of two */
		n->v = vl_realloc(n->v, n->n ? 2 * n->n : 1, sizeof *n->v);
	n->v[n->n++] = name;
}

static void sort_names(struct gpu_names *n)
{
	size_t kept = 0;

	if (n->n)
		qsort(n->v, n->n, sizeof *n->v, by_name);
	for (size_t i = 0; i < n->n; i++)
		if (!kept || strcmp(n->v[kept - 1], n->v[i]))
			n->v[kept++] = n->v[i];
	n->n = kept;
}

/* Weak ones that are not there are nothing: a program asks whether they are. */
static bool take_symbols(struct file *f, const struct dynamic *d, struct gpu_names *exports, struct gpu_names *wants)
{
	size_t size = f->wide ? 24 : 16;
	uint64_t n;

	if (!count_symbols(f, d, &n))
		return false;
	if (!n)
		return true;
	VL_FREE char *table = get_all(f, d->symbols, n * size);
	exports->text = get_all(f, d->strings, d->strings_size);
	if (!table || !exports->text)
		return false;
	for (uint64_t i = 1; i < n; i++) {
		const char *s = table + i * size;
		unsigned bind = (uint8_t)s[f->wide ? 4 : 12] >> 4, section = vl_le16(s + (f->wide ? 6 : 14));
		uint32_t name = vl_le32(s);
		if (name >= d->strings_size || !exports->text[name] ||
		    strnlen(exports->text + name, SYMBOL_LEN) == SYMBOL_LEN)
			continue;
		if (section && (bind == STB_GLOBAL || bind == STB_WEAK || bind == STB_GNU_UNIQUE))
			add_name(exports, exports->text + name);
		else if (!section && bind == STB_GLOBAL)
			add_name(wants, exports->text + name);
	}
	return true;
}

int gpu_elf_names(gpu_read *read, void *arg, const struct gpu_elf *e, struct gpu_names *ret_exports,
		  struct gpu_names *ret_wants)
{
	VL_FREE struct file *f = vl_alloc(sizeof *f);
	VL_FREE struct dynamic *d = vl_alloc(sizeof *d);
	struct gpu_names exports = { 0 }, wants = { 0 };
	struct gpu_elf head = { 0 };
	struct segment at = { 0 };

	f->read = read;
	f->arg = arg;
	if (!read_segments(f, &head, &at) || !read_dynamic(f, &at, d) || !take_symbols(f, d, &exports, &wants)) {
		gpu_names_free(&exports);
		gpu_names_free(&wants);
		return -ENOEXEC;
	}
	for (size_t i = 0; i < e->defines.n; i++)
		add_name(&exports, e->defines.v[i]);
	for (size_t i = 0; i < e->needs.n; i++)
		add_name(&wants, e->needs.v[i]);
	sort_names(&exports);
	sort_names(&wants);
	*ret_exports = exports;
	*ret_wants = wants;
	return 0;
}
