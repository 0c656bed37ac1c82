/* What the host has: below one directory, which is "/" but for tests. Within the folder. */
#ifndef GPU_HOST_H
#define GPU_HOST_H

#include <vial/gpu.h>

#include <elf.h>

/* ---- host.c ---- */

/* Path of the host with all its links resolved, and the root in front: what a bind takes. Returns new, or NULL. */
char *gpu_real(const struct gpu_host *h, const char *path);
/* The path with the root in front, as it is: links stay links. Returns new. */
char *gpu_under(const struct gpu_host *h, const char *path);
bool gpu_exists(const struct gpu_host *h, const char *path);
/* A small file, also of /proc and /sys; NULL: there is none, or it is longer. Returns new. */
char *gpu_text(const struct gpu_host *h, const char *path, size_t max);
/* Names in a directory, sorted as numbers where they are; none when there is no such directory. */
void gpu_list(const struct gpu_host *h, const char *path, struct vl_strv *ret);
/* The value of a line "KEY: VALUE" or "KEY VALUE"; returns new, or NULL. */
char *gpu_value(const char *text, const char *key);
/* A file of the host as a gpu_read for gpu_elf_load. */
ssize_t gpu_read_fd(void *fd, void *p, size_t n, uint64_t off);

/* ---- elf.c: of a library, what its loader would ask for ---- */

/* Bytes at off; fewer at the end; -errno. */
typedef ssize_t gpu_read(void *arg, void *p, size_t n, uint64_t off);
struct gpu_elf {
	unsigned class, machine; /* ELFCLASS*, EM_* */
	char *soname;            /* NULL = it has none */
	struct vl_strv needs;    /* names of symbol versions that other libraries must have */
	struct vl_strv defines;  /* and that it has itself */
	struct vl_strv libs;     /* the libraries that it asks for */
	char *search;            /* where it has them looked for first: DT_RUNPATH or DT_RPATH; NULL = nowhere */
};
/* -ENOEXEC: no shared object of a byte order of ours, or a damaged one. */
int gpu_elf_load(gpu_read *read, void *arg, struct gpu_elf *ret);
void gpu_elf_free(struct gpu_elf *e);
#define GPU_ELF __attribute__((cleanup(gpu_elf_free)))
extern const unsigned gpu_native_class, gpu_native_machine; /* of this program */

/* Names in a library's table of symbols, those of versions too: sorted, each once. */
struct gpu_names {
	char *text; /* owned: what the others point into */
	const char **v;
	size_t n;
};
/* What others may use of it, and what it must find elsewhere, whose text is the exports'. A library without such a table has
 * none. e: of the same file; it must live as long. -ENOEXEC as above. */
int gpu_elf_names(gpu_read *read, void *arg, const struct gpu_elf *e, struct gpu_names *ret_exports,
		  struct gpu_names *ret_wants);
void gpu_names_free(struct gpu_names *n);
bool gpu_names_has(const struct gpu_names *n, const char *name);

/* ---- ldcache.c: /etc/ld.so.cache ---- */

#define GPU_LDCACHE_MAX (16u << 20) /* real ones have some 100 KB */
typedef void gpu_ldcache_entry(void *arg, const char *name, const char *path);
/* Calls f for each library of the cache. -EBADMSG: not such a file, or a damaged one. */
int gpu_ldcache(const char *data, size_t len, gpu_ldcache_entry *f, void *arg);

/* ---- tree.c: an image's files, in a child ---- */

struct gpu_tree {
	struct vmnt_peek *peek; /* NULL: through fd */
	int fd;
	const char *path; /* of the file being read by gpu_tree_read */
	struct vl_buf out;
};
typedef void gpu_tree_look(struct gpu_tree *t, void *arg);
/* Has a child without privileges look, and hears what it tells, line for line: the image's word. The child has arg as it was
 * here. */
int gpu_tree_ask(enum plan_image kind, const struct vmnt_image *image, gpu_tree_look *look, void *arg,
		 struct vl_strv *ret, struct vl_err *err);
/* In the child. */
void gpu_tree_tell(struct gpu_tree *t, char what, const char *text); /* a line: that letter first */
ssize_t gpu_tree_read(void *t, void *p, size_t n, uint64_t off);     /* a gpu_read, of t->path */
void gpu_tree_list(struct gpu_tree *t, const char *path, struct vl_strv *ret);
char *gpu_tree_text(struct gpu_tree *t, const char *path, size_t max,
		    size_t *ret_len); /* new, NUL-terminated, or NULL */
void gpu_tree_walk(struct gpu_tree *t, vmnt_peek_file *f, void *arg);
int gpu_tree_elf(struct gpu_tree *t, const char *path, struct gpu_elf *ret); /* -ENOEXEC: not for this machine */
bool gpu_tree_glibc(struct gpu_tree *t, struct vl_strv *ret_versions);       /* false: it has none */
extern const char *const gpu_tree_lib_dirs[]; /* where its loader looks; ends with NULL */

/* ---- mpi_host.c: the host's libraries of MPI, and what those need ---- */

enum gpu_lib_kind {
	GPU_LIB_MPI,      /* what programs are linked to */
	GPU_LIB_MPI_PART, /* of the same MPI: for other languages, and what it is made of */
	GPU_LIB_FABRIC,   /* libfabric */
	GPU_LIB_OTHER,
};
struct gpu_lib {
	enum gpu_lib_kind kind;
	char *path;         /* without links, on the host or in the image; NULL = the host has none of that name */
	char *name;         /* that loaders ask for */
	bool given;         /* named by the site or the user, not only needed by another */
	const char *family; /* of GPU_LIB_MPI; NULL = not known */
	struct gpu_elf elf;
	struct gpu_names exports, wants;
};
void gpu_lib_free(struct gpu_lib *l);
struct gpu_libs {
	struct gpu_lib *v;
	size_t n;
};
void gpu_libs_free(struct gpu_libs *l);
#define GPU_LIBS_LIST __attribute__((cleanup(gpu_libs_free)))

enum gpu_lib_kind gpu_lib_kind_of(const char *file);
/* "12.2.2" of libmpi.so.12.2.2; "" = it has none. */
const char *gpu_lib_number(const char *file);
/* Of the C library, which is always the image's. */
bool gpu_lib_is_libc(const char *name);
/* The rest of what is known of a library whose path, name and kind are set. -ENOEXEC. */
int gpu_lib_load(struct gpu_lib *l, gpu_read *read, void *arg);
/* These files, libraries of MPI and libfabric in these directories, and what they need as the host's loader finds it. */
int gpu_libs_find(const struct vl_strv *files, bool fabric_only, struct gpu_libs *ret, struct vl_err *err);
ssize_t gpu_libs_index(const struct gpu_libs *l, const char *name); /* -1: not among them */

/* ---- mpi.c ---- */

/* Why the host's library cannot take the place of the image's: returns new, NULL = it can. */
char *gpu_lib_why_not(const struct gpu_lib *host, const struct gpu_lib *image);

/* ---- families.c ---- */

enum gpu_kind {
	GPU_DRIVER,  /* of the driver: its version is the driver's */
	GPU_OWN,     /* of the driver, with a version of its own */
	GPU_NEUTRAL, /* of nobody: the image's own is better */
	GPU_STACK, /* of a vendor's user space, which belongs into the image: the host's where the image has none of it */
};
struct gpu_family {
	enum gpu_vendor vendor;
	enum gpu_kind kind;
	unsigned caps;     /* GPU_CAP_*: which of them need it */
	const char *name;  /* up to ".so"; "libnvidia-*" is all that begin so and are in no other row */
	const char *group; /* NEUTRAL and STACK: libraries that come from one place or not at all */
	bool bare;         /* programs look for it without a version in its name too */
};
/* Whose is a file of that name? NULL: of no family. */
const struct gpu_family *gpu_family_of(const char *file);
extern const char *const gpu_lib_dirs[]; /* where libraries may be besides the linker's cache; ends with NULL */

/* ---- of vendors ---- */

void gpu_find_nvidia(const struct gpu_host *h, struct gpu_found *f);
void gpu_find_amd(const struct gpu_host *h, struct gpu_found *f);
void gpu_find_intel(const struct gpu_host *h, struct gpu_found *f);
void gpu_find_habana(const struct gpu_host *h, struct gpu_found *f);
struct gpu_device *gpu_new_device(struct gpu_found *f, enum gpu_vendor vendor);
/* Adds the device's node and what stat and access say of it. */
void gpu_device_node(const struct gpu_host *h, struct gpu_device *d, const char *path);
/* The dri nodes of the device at that PCI address: /dev/dri/card* only if cards. */
void gpu_device_dri(const struct gpu_host *h, struct gpu_device *d, bool cards);
/* Nodes that belong to no single device, with * for a number, if they are there. */
void gpu_common_nodes(const struct gpu_host *h, struct vl_strv *ret, const char *const *patterns);

#endif
