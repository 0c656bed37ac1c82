/* base: what every folder shares. libc and wrapped libraries below, nothing of vial.
 *
 * Conventions of the whole tree (docs/hacking.md has the reasons):
 *  - int f(in..., T *ret_x, struct vl_err *err): 0 or -errno; ret_* untouched on failure;
 *    err is filled once where the failure happens and wrapped with context on the way up.
 *  - err may never be NULL. Its text says what failed, on which path or id, and why.
 *  - -1 is "no descriptor"; every descriptor is close-on-exec.
 *  - small allocations never fail to the caller (vl_alloc aborts); anything sized by outside
 *    data is checked against a limit constant first.
 */
#ifndef VIAL_BASE_H
#define VIAL_BASE_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define VL_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define VL_UNUSED __attribute__((unused))
#define VL_MUST_CHECK __attribute__((warn_unused_result))
#define VL_NEW __attribute__((returns_nonnull)) /* new memory, never NULL */
#define VL_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define VL_MIN(a, b) ((a) < (b) ? (a) : (b))
#define VL_MAX(a, b) ((a) > (b) ? (a) : (b))

/* ---- err: the error object (base/err.c) ---------------------------------------------- */

struct vl_err {
	int code;        /* errno value, positive; 0 = no error */
	char text[2040]; /* one line, no newline, no trailing dot */
};

/* Fills err with the formatted text and returns -code. */
int vl_fail(struct vl_err *err, int code, const char *fmt, ...) VL_PRINTF(3, 4);
/* As vl_fail, with ": " and the text of errno value `code` added. */
int vl_fail_sys(struct vl_err *err, int code, const char *fmt, ...) VL_PRINTF(3, 4);
/* Puts "context: " before the text that is there; returns -err->code. */
int vl_wrap(struct vl_err *err, const char *fmt, ...) VL_PRINTF(2, 3);
#if defined(__clang_analyzer__) && !defined(VL_ERR_C) /* it cannot see that these never return 0 */
#define vl_fail(...) (vl_fail(__VA_ARGS__), -EIO)
#define vl_fail_sys(...) (vl_fail_sys(__VA_ARGS__), -EIO)
#define vl_wrap(...) (vl_wrap(__VA_ARGS__), -EIO)
#endif

/* ---- memory and cleanup (base/mem.c) ------------------------------------------------- */

void *vl_alloc(size_t size) VL_NEW;                      /* zeroed; aborts when memory is gone */
void *vl_realloc(void *p, size_t n, size_t size) VL_NEW; /* n * size bytes, overflow checked */
char *vl_strdup(const char *s) VL_NEW;
char *vl_strndup(const char *s, size_t n) VL_NEW;
char *vl_asprintf(const char *fmt, ...) VL_NEW VL_PRINTF(1, 2);
char *vl_vasprintf(const char *fmt, va_list ap) VL_PRINTF(1, 0) VL_NEW;
void *vl_memdup(const void *p, size_t n) VL_NEW;

void vl_freep(void *p);  /* cleanup: frees *(void **)p, keeps errno, sets it NULL */
void vl_closep(int *fd); /* cleanup: closes *fd if >= 0, keeps errno, sets it -1 */
#define VL_FREE __attribute__((cleanup(vl_freep)))
#define VL_CLOSE __attribute__((cleanup(vl_closep)))
#define VL_CLEANUP(f) __attribute__((cleanup(f)))

static inline int vl_steal_fd(int *fd)
{
	int f = *fd;
	*fd = -1;
	return f;
}
#define vl_steal(pp)                                                                                                   \
	({                                                                                                             \
		__typeof__(*(pp)) _p = *(pp);                                                                          \
		*(pp) = NULL;                                                                                          \
		_p;                                                                                                    \
	})

/* Hands a whole struct over and leaves zeros behind, for its cleanup to find. */
#define vl_move(p)                                                                                                     \
	({                                                                                                             \
		__typeof__(*(p)) _v = *(p);                                                                            \
		memset((p), 0, sizeof *(p));                                                                           \
		_v;                                                                                                    \
	})

/* ---- str: bounded strings and numbers (base/str.c) ----------------------------------- */

struct vl_buf { /* growing byte buffer; data is always NUL-terminated once non-NULL */
	char *data;
	size_t len, cap;
};
void vl_buf_free(struct vl_buf *b);
void vl_buf_add(struct vl_buf *b, const void *p, size_t n);
void vl_buf_adds(struct vl_buf *b, const char *s);
void vl_buf_addf(struct vl_buf *b, const char *fmt, ...) VL_PRINTF(2, 3);
#define VL_BUF __attribute__((cleanup(vl_buf_free)))

struct vl_strv { /* NULL-terminated list of owned strings */
	char **v;
	size_t n;
};
void vl_strv_add(struct vl_strv *l, const char *s);
void vl_strv_take(struct vl_strv *l, char *s); /* takes ownership */
bool vl_strv_has(const struct vl_strv *l, const char *s);
void vl_strv_free(struct vl_strv *l);
#define VL_STRV __attribute__((cleanup(vl_strv_free)))

static inline bool vl_streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}
const char *vl_prefix(const char *s, const char *prefix); /* rest of s, or NULL */
/* The value of a variable in an environment that may be another process's; NULL: it is not there. Borrowed. */
const char *vl_env_value(char *const *env, const char *name);
/* Whole-string decimal number in min..max. */
int vl_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret);
/* "64M", "1G", plain bytes; whole string. */
int vl_parse_size(const char *s, uint64_t max, uint64_t *ret);
void vl_hex(const void *p, size_t n, char *ret_hex /* 2n+1 */);
int vl_unhex(const char *hex, size_t n, uint8_t *ret); /* 2n lower-case digits; -EINVAL */
/* Bytes of the UTF-8 character at s, of len bytes, that may be shown; 0 = the first byte begins none, or a terminal would
 * obey it: control characters, also those beyond ASCII, and marks that turn the direction of the text. */
size_t vl_shown_bytes(const char *s, size_t len);
/* Escapes all other bytes so that outside text is safe on a terminal; returns new. */
char *vl_printable(const char *s, size_t n) VL_NEW;
/* base64 of RFC 4648, strict: no white space, no stray bits, padding as it must be (base/base64.c). */
char *vl_base64(const void *p, size_t n, bool padded) VL_NEW; /* returns new */
/* Takes the standard alphabet and the URL one; -EINVAL. Returns new, NUL-terminated. */
int vl_unbase64(const char *s, size_t n, uint8_t **ret, size_t *ret_len);
/* Appends one word that any shell reads back byte for byte. */
void vl_buf_shell_word(struct vl_buf *b, const char *s);
/* The first n bytes are a name that a shell can export. */
bool vl_is_identifier(const char *s, size_t n);
void vl_human_size(uint64_t bytes, char ret[16]);

static inline uint16_t vl_le16(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t vl_le32(const void *p)
{
	const uint8_t *b = p;
	return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t vl_le64(const void *p)
{
	const uint8_t *b = p;
	return vl_le32(b) | (uint64_t)vl_le32(b + 4) << 32;
}
static inline void vl_put_le32(void *p, uint32_t v)
{
	uint8_t *b = p;
	for (int i = 0; i < 4; i++)
		b[i] = (uint8_t)(v >> 8 * i);
}
static inline void vl_put_le64(void *p, uint64_t v)
{
	vl_put_le32(p, (uint32_t)v);
	vl_put_le32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

/* ---- fd: descriptors and whole-buffer I/O (base/fd.c) -------------------------------- */

int vl_open(const char *path, int flags, mode_t mode, struct vl_err *err); /* fd or -errno */
/* Read exactly n bytes at off; a short file is an error naming `what`. */
int vl_pread_full(int fd, void *p, size_t n, uint64_t off, const char *what, struct vl_err *err);
int vl_pwrite_full(int fd, const void *p, size_t n, uint64_t off, const char *what, struct vl_err *err);
/* Nanoseconds of the time of modification by which those files and directories can be told that are there only to be mounted
 * on. No squashfs has any. */
#define VL_PLACE_NSEC 734912681
int vl_write_full(int fd, const void *p, size_t n);
/* The same where a limit on the size of files (ulimit -f) may be met: that is -EFBIG, and no signal ends us. */
int vl_write_limited(int fd, const void *p, size_t n);
/* All that a pipe brings until its end, of which about `limit` bytes are kept: who writes is never held up. */
void vl_read_pipe(int fd, size_t limit, struct vl_buf *ret);
/* Whole regular file (not a FIFO or device), at most `limit` bytes. Returns new, NUL-terminated. */
int vl_read_file(int dirfd, const char *path, size_t limit, char **ret_data, size_t *ret_len, struct vl_err *err);
/* The same of an open one, from its begin; path: for messages. */
int vl_read_fd(int fd, const char *path, size_t limit, char **ret_data, size_t *ret_len, struct vl_err *err);
int vl_move_fd_above_stdio(int fd); /* fd or -errno */
/* A file without a name in $TMPDIR, else /var/tmp or /tmp: gone when it is closed. what: for the message. */
int vl_tmpfile(const char *what, struct vl_err *err); /* fd or -errno */
/* The whole of `from` into the empty file `to`: shared blocks where the file system can, else copied by the kernel. */
int vl_copy_file(int from, int to, const char *what, struct vl_err *err);

/* A file that appears under its final name whole or not at all (base/newfile.c): an unnamed or
 * hidden file beside the target, fsync, then link or rename. Killed at any moment it leaves
 * nothing, or a locked hidden file that the next vl_newfile_open of the same name removes. */
struct vl_newfile {
	int fd; /* borrow it; owned here */
	int dirfd;
	char *dir, *name; /* of the target */
	char *tmp;        /* hidden name, NULL while unnamed */
};
/* overwrite: replace an existing file; otherwise an existing one is -EEXIST now and at commit. */
int vl_newfile_open(struct vl_newfile *f, const char *path, mode_t mode, bool overwrite, struct vl_err *err);
int vl_newfile_commit(struct vl_newfile *f, bool overwrite, struct vl_err *err);
void vl_newfile_abort(struct vl_newfile *f); /* idempotent; also the cleanup */
#define VL_NEWFILE __attribute__((cleanup(vl_newfile_abort)))
#define VL_NEWFILE_INIT                                                                                                \
	{                                                                                                              \
		.fd = -1, .dirfd = -1                                                                                  \
	}

/* ---- path: names inside an untrusted root (base/path.c) ------------------------------ */

/* openat2 with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS: symlinks and ".." of the image can
 * never leave rootfd. Falls back to a checked component walk where openat2 is missing.
 * O_CLOEXEC is always added. fd or -errno (err filled). */
int vl_open_in_root(int rootfd, const char *path, int flags, mode_t mode, struct vl_err *err);
/* The fallback alone, for its own test. */
int vl_open_in_root_walk(int rootfd, const char *path, int flags, mode_t mode, struct vl_err *err);
/* Lexical clean-up of an absolute path: no "//", "." or ".."; returns new. */
char *vl_path_clean(const char *path) VL_NEW;
char *vl_path_absolute(const char *path) VL_NEW; /* against cwd; not resolving links; returns new */
/* The kernel's name for an open file, which may lead elsewhere by now; new, or NULL. */
char *vl_fd_path(int fd);
/* fchmod, also of what is open by O_PATH. 0 or -errno. */
int vl_chmod_fd(int fd, mode_t mode);
const char *vl_basename(const char *path);
/* A file, or a folder and all that is in it, by descriptors: no link is followed, also not one that appears meanwhile, and no
 * other file system entered. Folders of the caller's that have no rights for him get them. What can go goes; 0 = nothing
 * is left, or the first -errno. (base/remove.c) */
int vl_remove_tree(int dir, const char *name);
/* A program by name, in the absolute directories of PATH and then of `more` (as PATH is written; NULL = none). An empty or
 * relative part means the current directory, which others may have filled: passed over. Returns new, or NULL. */
char *vl_find_program(const char *name, const char *more);

/* ---- hash (base/hash.c, the only EVP digest user outside sif/sign) -------------------- */

#define VL_HASH_MAX 64
struct vl_hash;
/* algo: sha224 sha256 sha384 sha512 sha512_224 sha512_256; others -ENOTSUP */
int vl_hash_new(const char *algo, struct vl_hash **ret, struct vl_err *err);
void vl_hash_update(struct vl_hash *h, const void *p, size_t n);
size_t vl_hash_final(struct vl_hash *h, uint8_t ret[VL_HASH_MAX]); /* and starts afresh */
void vl_hash_free(struct vl_hash *h);
size_t vl_hash_size(const char *algo); /* bytes; 0 for an algorithm we refuse */
void vl_sha256(const void *p, size_t n, uint8_t ret[32]);
/* The same for a program that uses no other hash (base/sha256.c): nothing of libcrypto is set up or loaded for it. */
void vl_sha256_block(const void *p, size_t n, uint8_t ret[32]);

/* ---- json (base/json.c, the only jansson user): bounded parsing, typed access --------- */

#define VL_JSON_MAX (4u << 20) /* distribution-spec: what a manifest may be */
#define VL_JSON_DEPTH 64       /* real documents stay below 10 */
typedef struct json_t vl_json;
/* strict: trailing bytes are an error. Returns new; free with vl_json_free. */
int vl_json_parse(const char *text, size_t len, const char *what, vl_json **ret, struct vl_err *err);
/* The same, and no key stands twice in its object: of two, readers take different ones. */
int vl_json_parse_unique(const char *text, size_t len, const char *what, vl_json **ret, struct vl_err *err);
/* TOML 1.0 into the same tree, under the same limits (base/toml.c). Dates and floats are strings of their text. */
int vl_toml_parse(const char *text, size_t len, const char *what, vl_json **ret, struct vl_err *err);
/* The same, and where things stand: *ret_lines is new, and good as long as the tree. */
int vl_toml_parse_lines(const char *text, size_t len, const char *what, vl_json **ret, vl_json **ret_lines,
			struct vl_err *err);
/* The line of a key of a table, key NULL: of the table, when it is one of [[NAME]]; 0 = unknown. */
unsigned vl_toml_line(const vl_json *lines, const vl_json *table, const char *key);
void vl_json_free(vl_json *j);
void vl_json_freep(vl_json **j);
#define VL_JSON __attribute__((cleanup(vl_json_freep)))
/* Typed access, all borrow: NULL / default when absent or of another type. */
vl_json *vl_json_get(const vl_json *obj, const char *key);
vl_json *vl_json_obj(const vl_json *obj, const char *key);
vl_json *vl_json_arr(const vl_json *obj, const char *key);
const char *vl_json_str(const vl_json *obj, const char *key);
bool vl_json_int(const vl_json *obj, const char *key, int64_t *ret);
bool vl_json_is_null_or_absent(const vl_json *obj, const char *key);
size_t vl_json_len(const vl_json *arr);
vl_json *vl_json_at(const vl_json *arr, size_t i);
const char *vl_json_string(const vl_json *j); /* value of a string node, else NULL */
bool vl_json_integer(const vl_json *j, int64_t *ret);
bool vl_json_is_object(const vl_json *j);
bool vl_json_is_array(const vl_json *j);
bool vl_json_is_bool(const vl_json *j);
bool vl_json_is_true(const vl_json *j); /* the boolean; false for everything else */
/* Calls f for each member in the document's order. */
typedef void vl_json_member(void *arg, const char *key, const vl_json *value);
void vl_json_each(const vl_json *obj, vl_json_member *f, void *arg);
/* Building; returns new or takes the value. Strings that are not UTF-8 are escaped bytewise. */
vl_json *vl_json_new_obj(void) VL_NEW;
vl_json *vl_json_new_arr(void) VL_NEW;
vl_json *vl_json_new_str(const char *s) VL_NEW;
vl_json *vl_json_new_strn(const char *s, size_t n) VL_NEW;
vl_json *vl_json_new_int(int64_t v) VL_NEW;
vl_json *vl_json_new_bool(bool v) VL_NEW;
vl_json *vl_json_new_null(void) VL_NEW;
vl_json *vl_json_ref(const vl_json *j);                          /* one more owner */
void vl_json_set(vl_json *obj, const char *key, vl_json *value); /* takes value; NULL is ignored */
void vl_json_remove(vl_json *obj, const char *key);              /* absent is fine */
void vl_json_add(vl_json *arr, vl_json *value);                  /* takes value */
char *vl_json_text(const vl_json *j, bool pretty) VL_NEW;        /* returns new, no newline */

/* ---- mpi: whose an MPI library is (base/mpi.c) ----------------------------------------- */

/* Of the library that programs are linked to, not of those for other languages: libmpi.so.40.30.4 is "40.30.4". NULL: none. */
const char *vl_mpi_number(const char *name);
/* What its bytes say of who made it, and of what it speaks with a process manager. Piece by piece, from zero. */
enum { VL_MPI_WIRE = 32, VL_MPI_LIB_PMI = 64, VL_MPI_LIB_PMIX = 128 };
#define VL_MPI_NEEDLE_MAX 16 /* bytes: a longer one would be cut at the seam of two pieces */
struct vl_mpi {
	unsigned means; /* VL_MPI_*, and the makers */
	size_t kept;    /* end of the piece before; 0 at a hole */
	char seam[2 * VL_MPI_NEEDLE_MAX];
};
void vl_mpi_look(struct vl_mpi *m, const void *p, size_t n);
#define VL_MPI_OPEN "Open MPI"
const char *vl_mpi_family(const struct vl_mpi *m); /* NULL = not known */

/* ---- proc: children with typed messages (base/proc.c) -------------------------------- */

/* A message on a socketpair: the way a child's error becomes the parent's. */
enum vl_msg_type { VL_MSG_OK = 1, VL_MSG_ERR, VL_MSG_PROGRESS, VL_MSG_FD, VL_MSG_WARN, VL_MSG_FOUND, VL_MSG_END };
int vl_msg_pair(int ret_fd[2], struct vl_err *err);
int vl_msg_send(int fd, enum vl_msg_type type, const void *p, size_t n);
int vl_msg_send_err(int fd, const struct vl_err *e);
/* One message, data cut to cap; -EPIPE when the peer is gone. */
int vl_msg_recv(int fd, enum vl_msg_type *ret_type, void *p, size_t cap, size_t *ret_len);
/* A descriptor and a few bytes with it, as VL_MSG_FD. fd -1: none goes along. */
int vl_msg_send_fd(int sock, int fd, const void *p, size_t n);
/* As vl_msg_recv; *ret_fd is -1 when none came, else the caller's, close-on-exec. */
int vl_msg_recv_fd(int sock, enum vl_msg_type *ret_type, int *ret_fd, void *p, size_t cap, size_t *ret_len);
/* The same with several, in their order; of the received ones, all are the caller's. */
#define VL_MSG_FDS 8
int vl_msg_send_fds(int sock, enum vl_msg_type type, const int *fds, size_t n_fds, const void *p, size_t n);
int vl_msg_recv_fds(int sock, enum vl_msg_type *ret_type, int ret_fds[VL_MSG_FDS], size_t *ret_n, void *p, size_t cap,
		    size_t *ret_len);
/* Waits for OK; an ERR message or the peer's death becomes err. `who` names the peer. */
int vl_msg_wait_ok(int fd, const char *who, struct vl_err *err);
/* As many descriptors as this process may have: who walks a tree takes one for each level. */
void vl_raise_file_limit(void);
/* waitpid with EINTR loop: exit status, or 128 + signal. */
int vl_wait(pid_t pid);
/* A clock that nobody sets. */
int64_t vl_now_ns(void);
int64_t vl_now_ms(void);
/* CPUs this process may use: affinity and cgroup quota, not the host's count; >= 1. */
unsigned vl_cpu_count(void);
/* Processes that live on beside the program which the caller is about to become (base/apart.c). */
/* run(arg), in a new process and session, which then ends. No wait() of the program ever meets it. *ret_wait
 * is for vl_wait, soon; 0 = there is nothing to wait for. */
int vl_start_apart(void (*run)(void *arg), void *arg, pid_t *ret_wait);
/* The same for a run() that soon becomes a program, from a caller whose memory is much to copy: it is run()'s, too, until
 * then, and the caller stops. 0 or -errno: of starting, run() says itself what then fails. Not for who adopts orphans. */
int vl_exec_apart(void (*run)(void *arg), void *arg);
/* /dev/null, or where there is none, as below a /dev of the user's making, a descriptor that neither reads nor writes.
 * fd or -1. */
int vl_open_null(void);
/* For such a process: somebody waits for the end of file of the caller's stdout, a scheduler for its pipes.
 * Closes every descriptor but these, which lie above 2; standard input, output and errors are vl_open_null's. */
void vl_close_all_but(const int *keep, size_t n);
/* That descriptor and all above it. */
void vl_close_from(int fd);
/* Handlers and the mask of signals as a new program has them. */
void vl_reset_signals(void);
/* All capabilities dropped from every set, no_new_privs on. For processes that parse images. */
int vl_drop_privileges(struct vl_err *err);

/* ---- log (base/log.c): one object owned by main; modules never print ------------------ */

enum vl_level { VL_FATAL = -4, VL_ERROR = -3, VL_WARNING = -2, VL_LOG = -1, VL_INFO = 1, VL_VERBOSE = 4, VL_DEBUG = 5 };
struct vl_log {
	int fd;
	enum vl_level level; /* messages above it are dropped */
	bool json, color;
};
void vl_logf(const struct vl_log *l, enum vl_level level, const char *fmt, ...) VL_PRINTF(3, 4);

/* Progress of long work, handed down to modules. done/total in bytes; total 0 = unknown. */
struct vl_progress {
	void (*step)(void *arg, const char *what, uint64_t done, uint64_t total);
	void (*warn)(void *arg, const char *text);
	void (*note)(void *arg, const char *text); /* for who asks with -v how it went */
	void *arg;
};
void vl_progress_step(const struct vl_progress *p, const char *what, uint64_t done, uint64_t total);
void vl_progress_warn(const struct vl_progress *p, const char *fmt, ...) VL_PRINTF(2, 3);
void vl_progress_note(const struct vl_progress *p, const char *fmt, ...) VL_PRINTF(2, 3);

#endif
