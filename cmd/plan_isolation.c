/* Namespaces and network: from options to the plan. */
#include "run.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>

#define RESOLV_MAX 65536

static bool has_network(const struct plan *p)
{
	return p->network && vl_streq(p->network, "pasta");
}

static void choose_spaces(const struct isolation_opts *o, struct plan *p)
{
	if (o->pid)
		p->namespaces |= PLAN_NS_PID;
	if (o->ipc)
		p->namespaces |= PLAN_NS_IPC;
	if (o->uts || o->hostname)
		p->namespaces |= PLAN_NS_UTS;
	if (o->no_pid)
		p->namespaces &= ~(unsigned)PLAN_NS_PID;
	p->no_init |= o->no_init;
}

/* What the kernel shows of a namespace, in place of the host's. */
static void add_mounts(struct plan *p)
{
	for (size_t i = 0; i < p->n_mounts; i++) {
		struct plan_mount *m = &p->mounts[i];
		if (!(p->namespaces & PLAN_NS_PID) || !(m->flags & PLAN_DEFAULT) || !vl_streq(m->dst, "/proc"))
			continue;
		m->kind = PLAN_PROC;
		m->why = "--pid";
		vl_freep(&m->src);
	}
	if (!(p->namespaces & PLAN_NS_IPC) || !ctr_plan_mount_over(p, "/dev"))
		return;
	ctr_plan_add(p, PLAN_TMPFS, NULL, "/dev/shm", PLAN_DEFAULT | PLAN_OPTIONAL | PLAN_STICKY);
	p->mounts[p->n_mounts - 1].why = "--ipc";
	ctr_plan_add(p, PLAN_MQUEUE, NULL, "/dev/mqueue", PLAN_DEFAULT | PLAN_OPTIONAL);
	p->mounts[p->n_mounts - 1].why = "--ipc";
}

static int set_hostname(const char *name, struct plan *p, struct vl_err *err)
{
	if (!name)
		return 0;
	size_t n = strlen(name);
	bool ok = n > 0 && n <= HOST_NAME_MAX && *name != '-' && *name != '.';
	for (const char *c = name; *c; c++)
		ok = ok && (isalnum((unsigned char)*c) || strchr("-._", *c));
	if (!ok)
		return vl_fail(
			err, EINVAL,
			"--hostname %s: a host name has 1 to %d letters, digits, '-', '.' and '_', and begins with a "
			"letter or digit",
			name, HOST_NAME_MAX);
	VL_FREE char *line = vl_asprintf("%s\n", name);
	p->hostname = vl_strdup(name);
	ctr_plan_add_text(p, line, "/etc/hostname", "--hostname");
	return 0;
}

/* ---- network -------------------------------------------------------------------------------- */

/* Words that others give to networks of their own making. A rootless container has one kind. */
static int choose_network(const struct isolation_opts *o, const struct vl_progress *say, struct plan *p,
			  struct vl_err *err)
{
	static const char *const usual[] = { "pasta", "slirp", "slirp4netns", "bridge", "fakeroot", "ptp" };
	bool known = !o->network;

	if (o->network && vl_streq(o->network, "host")) {
		if (o->net)
			return vl_fail(err, EINVAL, "--net asks for a network namespace, --network host for none");
		return 0;
	}
	if (!o->net && !o->network)
		return 0;
	if (o->network && !*o->network)
		return vl_fail(err, EINVAL, "--network takes none, host, or the name of a network");
	p->namespaces |= PLAN_NS_NET;
	p->network = vl_strdup(o->network && vl_streq(o->network, "none") ? "none" : "pasta");
	if (vl_streq(p->network, "none"))
		return 0;
	for (size_t i = 0; i < VL_COUNT(usual) && !known; i++)
		known = vl_streq(o->network, usual[i]);
	if (!known)
		vl_progress_warn(say,
				 "--network %s: a container without root cannot have that; it gets a user-mode network "
				 "(pasta) with the host's addresses",
				 o->network);
	return 0;
}

/* HOST:CONTAINER[/tcp|/udp] */
static int add_port(const char *spec, struct plan *p, struct vl_err *err)
{
	const char *colon = strchr(spec, ':'), *slash = strchr(spec, '/');
	VL_FREE char *host = colon ? vl_strndup(spec, (size_t)(colon - spec)) : NULL;
	VL_FREE char *inside = colon ? vl_strndup(colon + 1, strcspn(colon + 1, "/")) : NULL;
	const char *proto = slash ? slash + 1 : "tcp";
	uint64_t h, c;

	if (!colon || vl_parse_u64(host, 1, 65535, &h) < 0 || vl_parse_u64(inside, 1, 65535, &c) < 0 ||
	    (!vl_streq(proto, "tcp") && !vl_streq(proto, "udp")))
		return vl_fail(err, EINVAL,
			       "--network-args portmap=%s: not of the form HOST:CONTAINER/tcp or /udp, with ports "
			       "from 1 to 65535",
			       spec);
	vl_strv_take(&p->ports, vl_asprintf("%s:%u:%u", proto, (unsigned)h, (unsigned)c));
	return 0;
}

static int add_ports(const struct isolation_opts *o, struct plan *p, struct vl_err *err)
{
	int r;

	for (size_t i = 0; i < o->network_args.n; i++) {
		VL_FREE char *words = vl_strdup(o->network_args.v[i]);
		char *rest = words;
		for (char *w; (w = strsep(&rest, ";"));) {
			const char *spec = vl_prefix(w, "portmap=");
			if (!*w)
				continue;
			if (!spec)
				return vl_fail(
					err, EINVAL,
					"--network-args %s: a user-mode network knows portmap=HOST:CONTAINER/tcp only",
					w);
			if ((r = add_port(spec, p, err)) < 0)
				return r;
		}
	}
	if (p->ports.n && !has_network(p))
		return vl_fail(err, EINVAL, "--network-args needs --net, with a network other than none");
	return 0;
}

/* ---- names ---------------------------------------------------------------------------------- */

static bool is_users(const struct plan *p, const char *path)
{
	for (size_t i = 0; i < p->n_mounts; i++)
		if (!(p->mounts[i].flags & PLAN_DEFAULT) && vl_streq(p->mounts[i].dst, path))
			return true;
	return false;
}

/* Of the host's: what is no server. */
static void add_host_lines(struct vl_buf *b)
{
	struct vl_err none;
	VL_FREE char *text = NULL;
	size_t len;

	if (vl_read_file(AT_FDCWD, "/etc/resolv.conf", RESOLV_MAX, &text, &len, &none) < 0)
		return;
	for (char *line = text; *line;) {
		size_t n = strcspn(line, "\n");
		if (vl_prefix(line, "search") || vl_prefix(line, "domain") || vl_prefix(line, "options")) {
			vl_buf_add(b, line, n);
			vl_buf_adds(b, "\n");
		}
		line += n + (line[n] == '\n');
	}
}

/* --dns says all; a network of its own has a server of its own, since the host's may listen on its loopback. */
static int add_resolv_conf(const struct isolation_opts *o, struct plan *p, struct vl_err *err)
{
	static const char *const own[] = { CTR_NET_DNS, NULL };
	VL_BUF struct vl_buf b = { 0 };
	struct in6_addr a;
	const char *const *servers = o->dns.n ? (const char *const *)o->dns.v : own;

	if (!o->dns.n && (!has_network(p) || is_users(p, "/etc/resolv.conf")))
		return 0;
	for (; *servers; servers++) {
		if (inet_pton(AF_INET, *servers, &a) != 1 && inet_pton(AF_INET6, *servers, &a) != 1)
			return vl_fail(err, EINVAL, "--dns %s is no address of a name server", *servers);
		vl_buf_addf(&b, "nameserver %s\n", *servers);
		vl_strv_add(&p->dns, *servers);
	}
	if (!o->dns.n)
		add_host_lines(&b);
	ctr_plan_add_text(p, b.data, "/etc/resolv.conf", o->dns.n ? "--dns" : "--net");
	return 0;
}

int cmd_plan_isolation(const struct isolation_opts *o, const struct vl_progress *say, struct plan *p,
		       struct vl_err *err)
{
	int r;

	choose_spaces(o, p);
	add_mounts(p);
	if ((r = set_hostname(o->hostname, p, err)) < 0 || (r = choose_network(o, say, p, err)) < 0 ||
	    (r = add_ports(o, p, err)) < 0 || (r = add_resolv_conf(o, p, err)) < 0)
		return r;
	return cmd_plan_limits(o, say, &p->limits, err);
}
