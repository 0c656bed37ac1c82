/* policy: may this image be started? Rules of the site and of the user, and a decision over plain facts. Knows nothing of
 * SIF, mounts, keys or how facts are found.
 *
 * docs/policy.md is the text of the rules. Of a list the first rule whose conditions all hold decides; of the site's list
 * and the user's the stricter decision counts, so that a user can add strictness and nothing else.
 */
#ifndef VIAL_POLICY_H
#define VIAL_POLICY_H

#include <vial/base.h>

enum pol_action { POL_ALLOW, POL_WARN, POL_DENY };                                /* the later the stricter */
enum pol_kind { POL_SIF = 1, POL_SQUASHFS = 2, POL_EXT3 = 4, POL_DIRECTORY = 8 }; /* what is mounted */
enum pol_use { POL_IMAGE = 1, POL_BIND = 2, POL_OVERLAY = 4 };                    /* and as what */
enum pol_object { POL_SBOM = 1, POL_PROVENANCE = 2, POL_TREE = 4 };               /* what an image brings along */

/* ---- facts.c: what is known of an image ------------------------------------------------------- */

enum pol_by { POL_BY_KEY = 1, POL_BY_CERTIFICATE, POL_BY_PGP };
struct pol_signature { /* a valid one, once for each of its signers */
	enum pol_by by;
	char *id;         /* "SHA256:...", or a fingerprint in upper-case hex */
	char *name;       /* NULL; subject of a certificate, user id */
	char *roots;      /* POL_BY_CERTIFICATE: the file where its chain ends */
	bool image;       /* it covers all of the image that a start uses */
	bool source;      /* it covers what `source` was read from */
	unsigned objects; /* POL_*: those it covers */
};
struct pol_facts {
	enum pol_kind kind;
	enum pol_use use;
	char *path; /* the open file's own, links resolved; NULL = it has no name */
	/* of a look into the image; before it, nothing is known */
	bool looked;
	bool by_tree; /* signatures were checked by way of the hash tree: what is mounted must be checked by it */
	char *source; /* "docker://docker.io/library/python"; NULL = none. What the image says: proved by no more than a
			   * signature that covers it */
	unsigned objects; /* POL_*: those it has */
	struct pol_signature *sigs;
	size_t n_sigs;
	char *why; /* NULL, or why signatures do not hold: one line */
};
void pol_facts_free(struct pol_facts *f);
#define POL_FACTS __attribute__((cleanup(pol_facts_free)))
struct pol_signature *pol_facts_add(struct pol_facts *f, enum pol_by by, const char *id, const char *name);

#define POL_FACTS_MAX (128u << 10) /* bytes of them on their way from the process that looks; one is 200 or so */
#define POL_SIGNATURES_MAX 256     /* of an image; more are left out */
/* The result of a look as text, and back: bounded, and checked as outside data, since who looks reads the image. */
char *pol_facts_text(const struct pol_facts *f) VL_NEW;
int pol_facts_parse(const char *text, size_t len, struct pol_facts *f, struct vl_err *err);
vl_json *pol_facts_json(const struct pol_facts *f) VL_NEW; /* all of them */

/* ---- read.c: files to rules ------------------------------------------------------------------- */

struct pol_certificate {
	char *subject, *roots; /* a pattern, and a file of the certificates where the chain must end */
};
/* In the order in which they are asked for and told. */
enum pol_condition { POL_ON_PATH, POL_ON_KIND, POL_ON_USE, POL_ON_SIGNER, POL_ON_SOURCE, POL_ON_OBJECTS, POL_ON_TREE };
#define POL_CONDITIONS (POL_ON_TREE + 1)
struct pol_rule {
	char *file; /* as it is named to people */
	unsigned line;
	enum pol_action action;
	char *name, *message;                /* printable; NULL = none */
	unsigned kinds, uses, objects;       /* POL_*; 0 = any */
	struct vl_strv path, source, signer; /* patterns, patterns, ids; none = any */
	struct pol_certificate *certs;       /* signers too */
	size_t n_certs;
	bool tree;
	unsigned lines[POL_CONDITIONS]; /* 0 = not a condition of this rule */
};
struct pol_list { /* of the site, or of the user */
	struct pol_rule *v;
	size_t n;
	struct pol_rule *fallback; /* when no rule holds: the strictest `default`; NULL = allow */
	struct vl_strv files;      /* that were read */
};
struct pol {
	struct pol_list site, user;
};
void pol_free(struct pol *p);
#define POL __attribute__((cleanup(pol_free)))

enum pol_whose { POL_SITE, POL_USER };
/* Files NAME.toml of dir, in the order of their names. A directory that does not exist has none. One that cannot be read,
 * or that others could have written to, is an error that names file and line: a policy is never half used. */
int pol_read_dir(const char *dir, enum pol_whose whose, struct pol_list *l, struct vl_err *err);
/* The rules of one text, behind those that are there. */
int pol_read_text(const char *text, size_t len, const char *file, struct pol_list *l, struct vl_err *err);
/* `*` and `?` within a part between slashes, `**` across them. */
bool pol_matches(const char *pattern, const char *text);
const char *pol_action_word(enum pol_action a); /* "allow"; the others likewise */
const char *pol_kind_word(unsigned kind);
const char *pol_use_word(unsigned use);
const char *pol_object_word(unsigned object);
const char *pol_condition_word(enum pol_condition c);

/* ---- decide.c --------------------------------------------------------------------------------- */

struct pol_decision {
	enum pol_action action;
	const struct pol_rule *rule; /* that decided; NULL = there was none, which allows */
	bool look;                   /* nothing is decided: it takes a look into the image (facts.looked) */
	bool tree;                   /* what is mounted must be checked by its hash tree */
};
struct pol_decision pol_decide(const struct pol *p, const struct pol_facts *f);
/* How it came about: {"decision", "verified", "facts", "site", "user"}; the last two have decision, files and rules; a rule has
 * file, line, action, name, message, default, decides and conditions, each with line, condition, text, holds and why. f NULL: the
 * rules alone. */
vl_json *pol_explain(const struct pol *p, const struct pol_facts *f) VL_NEW;
/* Files of root certificates that rules name, each once. */
void pol_roots(const struct pol *p, struct vl_strv *ret);

#endif
