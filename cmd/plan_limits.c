/* Limits: from options and from a file of --apply-cgroups to the plan. The file's keys are those of OCI's resources,
 * made for cgroups of version 1; what they mean is said here in the files of version 2. */
#include "run.h"

#include <ctype.h>
#include <fcntl.h>

#define TOML_MAX (1u << 20) /* some dozen lines */
#define MEMORY_MAX (UINT64_MAX >> 1)

/* ---- options -------------------------------------------------------------------------------- */

static int take_size(const char *option, const char *v, bool may_be_none, uint64_t *ret, struct vl_err *err)
{
	if (!v)
		return 0;
	size_t n = strlen(v);
	VL_FREE char *bytes = vl_strndup(v, n > 1 && (v[n - 1] == 'b' || v[n - 1] == 'B') ? n - 1 : n); /* "512b" */
	if (may_be_none && vl_streq(v, "-1"))
		*ret = UINT64_MAX;
	else if (vl_parse_size(bytes, MEMORY_MAX, ret) < 0 || !*ret)
		return vl_fail(err, EINVAL, "--%s %s: not a size, as in 512m or 4g", option, v);
	return 0;
}

static int take_number(const char *option, const char *v, uint64_t min, uint64_t max, uint64_t *ret, struct vl_err *err)
{
	if (!v)
		return 0;
	if (vl_parse_u64(v, min, max, ret) < 0)
		return vl_fail(err, EINVAL, "--%s %s: not a number from %llu to %llu", option, v,
			       (unsigned long long)min, (unsigned long long)max);
	return 0;
}

/* A decimal number above 0, of any use to a quota. */
static bool is_cpus(const char *v)
{
	size_t whole = strspn(v, "0123456789"), part = v[whole] == '.' ? strspn(v + whole + 1, "0123456789") : 0;

	return whole + part > 0 && whole <= 5 && part <= 9 && !v[whole + (v[whole] == '.') + part] &&
	       strtod(v, NULL) >= 0.01;
}

static bool is_cpu_list(const char *v)
{
	return *v && strspn(v, "0123456789,-") == strlen(v) && strlen(v) < 4000;
}

static void replace(char **s, const char *with)
{
	if (!with)
		return;
	free(*s);
	*s = vl_strdup(with);
}

static int take_cpus(const struct isolation_opts *o, struct plan_limits *l, struct vl_err *err)
{
	if (o->cpus && !is_cpus(o->cpus))
		return vl_fail(err, EINVAL, "--cpus %s: not a number of processors, as in 1.5", o->cpus);
	if (o->cpuset_cpus && !is_cpu_list(o->cpuset_cpus))
		return vl_fail(err, EINVAL, "--cpuset-cpus %s: not a list, as in 0-3,8", o->cpuset_cpus);
	if (o->cpuset_mems && !is_cpu_list(o->cpuset_mems))
		return vl_fail(err, EINVAL, "--cpuset-mems %s: not a list, as in 0-1", o->cpuset_mems);
	replace(&l->cpus, o->cpus);
	replace(&l->cpuset_cpus, o->cpuset_cpus);
	replace(&l->cpuset_mems, o->cpuset_mems);
	return 0;
}

static int take_weights(const struct isolation_opts *o, struct plan_limits *l, struct vl_err *err)
{
	uint64_t v;

	for (size_t i = 0; i < o->blkio_weight_device.n; i++) {
		const char *w = o->blkio_weight_device.v[i], *colon = strrchr(w, ':');
		if (*w != '/' || !colon || vl_parse_u64(colon + 1, 10, 1000, &v) < 0)
			return vl_fail(err, EINVAL,
				       "--blkio-weight-device %s: not of the form /dev/NAME:WEIGHT, 10 to 1000", w);
		vl_strv_add(&l->weights, w);
	}
	return 0;
}

/* ---- file ----------------------------------------------------------------------------------- */

struct reading {
	const char *name, *section;
	struct plan_limits *l;
	int64_t quota, period;
	struct vl_err *err;
	bool failed;
};

static void refuse(struct reading *r, const char *key, const char *why)
{
	if (!r->failed)
		vl_fail(r->err, EINVAL, "%s: %s%s%s %s", r->name, r->section ? r->section : "", r->section ? "." : "",
			key, why);
	r->failed = true;
}

/* Reads a limit; -1 is "none", and so 0 here. */
static bool number(struct reading *r, const char *key, const vl_json *v, uint64_t max, uint64_t *ret)
{
	int64_t n;

	if (!vl_json_integer(v, &n) || n < -1 || (n > 0 && (uint64_t)n > max)) {
		refuse(r, key, "is not a number that can be a limit");
		return false;
	}
	*ret = n < 0 ? 0 : (uint64_t)n;
	return true;
}

static bool word(struct reading *r, const char *key, const vl_json *v, char **ret)
{
	const char *s = vl_json_string(v);

	if (!s || !is_cpu_list(s)) {
		refuse(r, key, "is not a list, as in \"0-3\"");
		return false;
	}
	free(*ret);
	*ret = vl_strdup(s);
	return true;
}

static void add_raw(struct reading *r, const char *file, const char *value)
{
	vl_strv_take(&r->l->raw, vl_asprintf("%s=%s", file, value));
}

static void read_memory(void *arg, const char *key, const vl_json *v)
{
	struct reading *r = arg;
	int64_t n;

	if (vl_streq(key, "limit"))
		number(r, key, v, MEMORY_MAX, &r->l->memory);
	else if (vl_streq(key, "reservation"))
		number(r, key, v, MEMORY_MAX, &r->l->memory_reservation);
	else if (vl_streq(key, "swap") && vl_json_integer(v, &n) && n == -1)
		r->l->memory_swap = UINT64_MAX;
	else if (vl_streq(key, "swap"))
		number(r, key, v, MEMORY_MAX, &r->l->memory_swap);
	else
		refuse(r, key, "has no counterpart in cgroups of version 2");
}

static void read_cpu(void *arg, const char *key, const vl_json *v)
{
	struct reading *r = arg;
	uint64_t n = 0;

	if (vl_streq(key, "shares"))
		number(r, key, v, 262144, &r->l->cpu_shares);
	else if (vl_streq(key, "quota") && number(r, key, v, INT64_MAX / 2, &n))
		r->quota = (int64_t)n;
	else if (vl_streq(key, "period") && number(r, key, v, 1000000, &n))
		r->period = (int64_t)n;
	else if (vl_streq(key, "cpus"))
		word(r, key, v, &r->l->cpuset_cpus);
	else if (vl_streq(key, "mems"))
		word(r, key, v, &r->l->cpuset_mems);
	else
		refuse(r, key, "has no counterpart in cgroups of version 2");
}

static void read_pids(void *arg, const char *key, const vl_json *v)
{
	struct reading *r = arg;

	if (vl_streq(key, "limit"))
		number(r, key, v, INT64_MAX / 2, &r->l->pids);
	else
		refuse(r, key, "is unknown");
}

/* [[blockIO.throttleReadBpsDevice]] major minor rate */
static void read_devices(struct reading *r, const char *key, const vl_json *list, const char *file, const char *what)
{
	if (!vl_json_len(list))
		refuse(r, key, "is not a list of devices");
	for (size_t i = 0; i < vl_json_len(list); i++) {
		int64_t major = -1, minor = -1, v = -1;
		const vl_json *d = vl_json_at(list, i);
		vl_json_int(d, "major", &major);
		vl_json_int(d, "minor", &minor);
		vl_json_int(d, vl_streq(what, "weight") ? "weight" : "rate", &v);
		if (major < 0 || minor < 0 || v <= 0 || (vl_streq(what, "weight") && (v < 10 || v > 1000))) {
			refuse(r, key, "has an entry without major, minor or value");
			return;
		}
		VL_FREE char *value = vl_streq(what, "weight")
					      ? vl_asprintf("%lld:%lld %lld", (long long)major, (long long)minor,
							    (long long)(1 + (v - 10) * 9999 / 990))
					      : vl_asprintf("%lld:%lld %s=%lld", (long long)major, (long long)minor,
							    what, (long long)v);
		add_raw(r, file, value);
	}
}

static void read_block_io(void *arg, const char *key, const vl_json *v)
{
	static const struct {
		const char *key, *file, *what;
	} lists[] = {
		{ "weightDevice", "io.weight", "weight" },        { "throttleReadBpsDevice", "io.max", "rbps" },
		{ "throttleWriteBpsDevice", "io.max", "wbps" },   { "throttleReadIOPSDevice", "io.max", "riops" },
		{ "throttleWriteIOPSDevice", "io.max", "wiops" },
	};
	struct reading *r = arg;

	if (vl_streq(key, "weight")) {
		number(r, key, v, 1000, &r->l->blkio_weight);
		return;
	}
	for (size_t i = 0; i < VL_COUNT(lists); i++)
		if (vl_streq(key, lists[i].key)) {
			read_devices(r, key, v, lists[i].file, lists[i].what);
			return;
		}
	refuse(r, key, "has no counterpart in cgroups of version 2");
}

/* Files of the cgroup as they are. A name must not lead elsewhere. */
static void read_unified(void *arg, const char *key, const vl_json *v)
{
	struct reading *r = arg;
	const char *s = vl_json_string(v);
	bool ok = isalpha((unsigned char)*key) && strchr(key, '.') && !vl_prefix(key, "cgroup.");

	for (const char *c = key; *c; c++)
		ok = ok && (isalnum((unsigned char)*c) || strchr("._", *c));
	if (!ok)
		refuse(r, key, "is not the name of a limit's file");
	else if (!s)
		refuse(r, key, "is not a string");
	else
		add_raw(r, key, s);
}

static void read_huge_pages(struct reading *r, const vl_json *list)
{
	for (size_t i = 0; i < vl_json_len(list); i++) {
		const char *size = vl_json_str(vl_json_at(list, i), "pageSize");
		int64_t limit;
		if (!size || !*size || strspn(size, "0123456789KMGTB") != strlen(size) ||
		    !vl_json_int(vl_json_at(list, i), "limit", &limit) || limit < 0) {
			refuse(r, "hugepageLimits", "has an entry without pageSize or limit");
			return;
		}
		VL_FREE char *file = vl_asprintf("hugetlb.%s.max", size),
			     *value = vl_asprintf("%lld", (long long)limit);
		add_raw(r, file, value);
	}
}

static void read_section(void *arg, const char *key, const vl_json *v)
{
	static const struct {
		const char *name;
		vl_json_member *read;
	} sections[] = {
		{ "memory", read_memory },    { "cpu", read_cpu },         { "pids", read_pids },
		{ "blockIO", read_block_io }, { "unified", read_unified },
	};
	struct reading *r = arg;

	r->section = NULL;
	if (vl_streq(key, "hugepageLimits")) {
		read_huge_pages(r, v);
		return;
	}
	for (size_t i = 0; i < VL_COUNT(sections); i++)
		if (vl_streq(key, sections[i].name) && vl_json_is_object(v)) {
			r->section = key;
			vl_json_each(v, sections[i].read, r);
			return;
		}
	refuse(r, key, "cannot be limited in a container without root");
}

int cmd_limits_from_toml(const char *text, size_t len, const char *name, struct plan_limits *l, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	struct reading r = { .name = name, .l = l, .err = err, .period = 100000 };

	int e = vl_toml_parse(text, len, name, &j, err);
	if (e < 0)
		return e;
	vl_json_each(j, read_section, &r);
	if (r.failed)
		return -err->code;
	if (r.quota > 0 && r.period > 0)
		vl_strv_take(&l->raw, vl_asprintf("cpu.max=%lld %lld", (long long)r.quota, (long long)r.period));
	return 0;
}

static int read_file(const char *path, struct plan_limits *l, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	size_t len;

	if (!path)
		return 0;
	int r = vl_read_file(AT_FDCWD, path, TOML_MAX, &text, &len, err);
	return r < 0 ? r : cmd_limits_from_toml(text, len, path, l, err);
}

/* The command line after the file: what is said in both is the command line's. */
int cmd_plan_limits(const struct isolation_opts *o, const struct vl_progress *say, struct plan_limits *l,
		    struct vl_err *err)
{
	const char *pids = o->pids_limit && vl_streq(o->pids_limit, "-1") ? NULL : o->pids_limit;
	int r;

	if (o->oom_kill_disable)
		vl_progress_warn(say, "--oom-kill-disable has no effect: cgroups of version 2 cannot do that");
	if ((r = read_file(o->apply_cgroups, l, err)) < 0 ||
	    (r = take_size("memory", o->memory, false, &l->memory, err)) < 0 ||
	    (r = take_size("memory-reservation", o->memory_reservation, false, &l->memory_reservation, err)) < 0 ||
	    (r = take_size("memory-swap", o->memory_swap, true, &l->memory_swap, err)) < 0 ||
	    (r = take_number("cpu-shares", o->cpu_shares, 2, 262144, &l->cpu_shares, err)) < 0 ||
	    (r = take_number("pids-limit", pids, 1, INT64_MAX / 2, &l->pids, err)) < 0 ||
	    (r = take_number("blkio-weight", o->blkio_weight, 10, 1000, &l->blkio_weight, err)) < 0 ||
	    (r = take_cpus(o, l, err)) < 0 || (r = take_weights(o, l, err)) < 0)
		return r;
	if (l->memory_swap && l->memory_swap < l->memory)
		return vl_fail(err, EINVAL,
			       "--memory-swap is memory and swap together: it cannot be less than --memory");
	return 0;
}
