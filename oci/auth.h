/* Inside credentials.c, helper.c and login.c: the credential files and the programs beside them. */
#ifndef OCI_AUTH_H
#define OCI_AUTH_H

#include "client.h"

#define OCI_AUTH_MAX (1u << 20)    /* of one file; real ones have a few KiB */
#define OCI_HELPER_MAX (64u << 10) /* of one answer: tokens of clouds have some KiB */
#define OCI_HELPER_SECONDS 30      /* a helper may ask its server; one that waits longer hangs the job */

/* Forgets and frees a secret. */
void oci_secret_freep(char **s);
#define OCI_SECRET __attribute__((cleanup(oci_secret_freep)))

/* The files in the order they are searched; `authfile` alone when it is given. */
void oci_auth_files(const char *authfile, struct vl_strv *ret);
/* Reads one as JSON; *ret is an object. -ENOENT when it is not there. */
int oci_auth_read(const char *path, vl_json **ret, struct vl_err *err);
/* A key of a file in the one spelling "host[:port][/path]"; returns new. */
char *oci_auth_key(const char *key) VL_NEW;
/* User and password of an entry, into ret. 0 with nothing set: the entry is empty. */
int oci_auth_entry(const vl_json *entry, const char *file, const char *host, struct oci_cred *ret, struct vl_err *err);

/* docker-credential-NAME VERB, `input` on its standard input. *ret_out: what it printed, a secret; returns new.
 * -ENOENT: it has no such credentials. */
int oci_helper_run(const char *name, const char *verb, const char *input, char **ret_out, struct vl_err *err);
/* What Docker calls the registry in its helpers. */
const char *oci_helper_server(const char *host);

#endif
