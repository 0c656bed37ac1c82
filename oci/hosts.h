/* Inside hosts*.c: the endpoint list and the two kinds of configuration directories. */
#ifndef OCI_HOSTS_H
#define OCI_HOSTS_H

#include "client.h"

#define OCI_CONF_MAX (1u << 20) /* of one configuration file; real ones have a few KiB */

struct oci_endpoints {
	struct oci_endpoint *v;
	size_t n;
};
/* Adds a zeroed one; borrowed until the next is added. */
struct oci_endpoint *oci_endpoints_add(struct oci_endpoints *l);
void oci_endpoints_clear(struct oci_endpoints *l);
#define OCI_ENDPOINTS __attribute__((cleanup(oci_endpoints_clear)))

/* host[:port] that may become a part of a path or of a URL. */
bool oci_host_is_good(const char *host);
/* host[:port][/path] of the same kind. */
bool oci_place_is_good(const char *place);
/* A whole TOML file; -ENOENT when it is not there. */
int oci_hosts_read(const char *path, vl_json **ret, struct vl_err *err);

/* hosts_dir.c. CA and client certificate of the first directory that has one called `host`. 1: there is one. */
int oci_hosts_certs(const struct vl_strv *dirs, const char *host, struct oci_endpoint *e, struct vl_err *err);
/* Endpoints of the first hosts.toml for `host`, as containerd reads it. 1: there is one. */
int oci_hosts_toml(const struct vl_strv *dirs, const char *host, const char *repo, bool push, struct oci_endpoints *l,
		   struct vl_err *err);

#endif
