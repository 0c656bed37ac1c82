/* OCI and docker seccomp profiles to a filter. libseccomp knows the numbers of the calls on each architecture and
 * writes the program; what stands here is the form of the file. Only the program that builds contains it. */
#include <vial/rootless.h>

#if defined(__has_include)
#if !__has_include(<seccomp.h>)
#error "libseccomp is missing: install libseccomp-dev (Debian) or libseccomp-devel"
#endif
#endif
#include <fcntl.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define FILTER_MAX (4096 * 8) /* kernel: BPF_MAXINSNS instructions of 8 bytes */
#define ARGS 6                /* of a system call */

struct making {
	const char *what;
	uint64_t caps;
	scmp_filter_ctx ctx;
	uint32_t usual; /* the default action */
	struct vl_err *err;
};

static int wrong(const struct making *m, const char *key, const char *value, const char *why)
{
	VL_FREE char *shown = vl_printable(value ? value : "", value ? strlen(value) : 0);

	return vl_fail(m->err, EINVAL, "%s: %s '%s' %s", m->what, key, shown, why);
}

/* ---- words ----------------------------------------------------------------------------------- */

static int parse_errno(const struct making *m, const vl_json *o, const char *number, const char *name, uint32_t *ret)
{
	static const struct {
		const char *name;
		uint32_t value;
	} names[] = { { "EPERM", EPERM },
		      { "ENOSYS", ENOSYS },
		      { "EACCES", EACCES },
		      { "EINVAL", EINVAL },
		      { "ENOENT", ENOENT },
		      { "EAGAIN", EAGAIN },
		      { "EAFNOSUPPORT", EAFNOSUPPORT } };
	const char *word = vl_json_str(o, name);
	int64_t v;

	*ret = EPERM;
	if (!vl_json_is_null_or_absent(o, number)) {
		if (!vl_json_int(o, number, &v) || v < 0 || v > 4095)
			return vl_fail(m->err, EINVAL, "%s: %s is no error number", m->what, number);
		*ret = (uint32_t)v;
		return 0;
	}
	if (!word)
		return 0;
	for (size_t i = 0; i < VL_COUNT(names); i++)
		if (vl_streq(names[i].name, word)) {
			*ret = names[i].value;
			return 0;
		}
	return wrong(m, name, word, "is not known");
}

static int parse_action(const struct making *m, const char *word, uint32_t error, uint32_t *ret)
{
	const struct {
		const char *name;
		uint32_t action;
	} names[] = {
		{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
		{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(error) },
		{ "SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD },
		{ "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD },
		{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
		{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
		{ "SCMP_ACT_LOG", SCMP_ACT_LOG },
		{ "SCMP_ACT_TRACE", SCMP_ACT_TRACE(error) },
	};

	if (!word)
		return vl_fail(m->err, EINVAL, "%s: an action is missing", m->what);
	for (size_t i = 0; i < VL_COUNT(names); i++)
		if (vl_streq(names[i].name, word)) {
			*ret = names[i].action;
			return 0;
		}
	if (vl_streq(word, "SCMP_ACT_NOTIFY"))
		return wrong(m, "action", word, "needs a process that answers, which vial has not");
	return wrong(m, "action", word, "is not known");
}

static int parse_op(const struct making *m, const char *word, enum scmp_compare *ret)
{
	static const struct {
		const char *name;
		enum scmp_compare op;
	} names[] = { { "SCMP_CMP_NE", SCMP_CMP_NE },
		      { "SCMP_CMP_LT", SCMP_CMP_LT },
		      { "SCMP_CMP_LE", SCMP_CMP_LE },
		      { "SCMP_CMP_EQ", SCMP_CMP_EQ },
		      { "SCMP_CMP_GE", SCMP_CMP_GE },
		      { "SCMP_CMP_GT", SCMP_CMP_GT },
		      { "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ } };

	for (size_t i = 0; word && i < VL_COUNT(names); i++)
		if (vl_streq(names[i].name, word)) {
			*ret = names[i].op;
			return 0;
		}
	return wrong(m, "op", word, "is not known");
}

/* "SCMP_ARCH_X86_64" is libseccomp's "x86_64"; 0 = it knows none of that name. */
static uint32_t arch_of(const char *word)
{
	const char *rest = word ? vl_prefix(word, "SCMP_ARCH_") : NULL;
	VL_FREE char *name = vl_strdup(rest ? rest : "");

	for (char *p = name; *p; p++)
		*p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
	return *name ? seccomp_arch_resolve_name(name) : 0;
}

/* ---- conditions ------------------------------------------------------------------------------ */

/* As Go names it, which profiles of docker do. */
static bool is_native(const char *arch)
{
	static const struct {
		const char *name;
		uint32_t token;
	} names[] = { { "amd64", SCMP_ARCH_X86_64 },    { "x86", SCMP_ARCH_X86 },   { "386", SCMP_ARCH_X86 },
		      { "x32", SCMP_ARCH_X32 },         { "arm", SCMP_ARCH_ARM },   { "arm64", SCMP_ARCH_AARCH64 },
		      { "ppc64le", SCMP_ARCH_PPC64LE }, { "s390", SCMP_ARCH_S390 }, { "s390x", SCMP_ARCH_S390X },
		      { "riscv64", SCMP_ARCH_RISCV64 } };

	for (size_t i = 0; i < VL_COUNT(names); i++)
		if (vl_streq(arch, names[i].name))
			return names[i].token == seccomp_arch_native();
	return false;
}

static bool has_cap(const struct making *m, const char *name)
{
	cap_value_t c;

	return cap_from_name(name, &c) == 0 && c < 64 && m->caps >> c & 1;
}

static bool kernel_is_at_least(const char *version)
{
	unsigned want[2] = { 0 }, have[2] = { 0 };
	struct utsname u;

	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &have[0], &have[1]) != 2 ||
	    sscanf(version, "%u.%u", &want[0], &want[1]) < 1)
		return false;
	return have[0] != want[0] ? have[0] > want[0] : have[1] >= want[1];
}

static size_t count(const struct making *m, const vl_json *list, bool (*holds)(const struct making *, const char *))
{
	size_t n = 0;

	for (size_t i = 0; i < vl_json_len(list); i++) {
		const char *word = vl_json_string(vl_json_at(list, i));
		n += word && holds(m, word);
	}
	return n;
}

static bool is_arch(const struct making *m, const char *name)
{
	(void)m;
	return is_native(name);
}

static bool is_for_us(const struct making *m, const vl_json *rule)
{
	const vl_json *in = vl_json_obj(rule, "includes"), *out = vl_json_obj(rule, "excludes");
	const vl_json *caps = in ? vl_json_arr(in, "caps") : NULL, *arches = in ? vl_json_arr(in, "arches") : NULL;
	const char *kernel = in ? vl_json_str(in, "minKernel") : NULL;

	if (in && ((caps && count(m, caps, has_cap) != vl_json_len(caps)) ||
		   (arches && vl_json_len(arches) && !count(m, arches, is_arch)) ||
		   (kernel && *kernel && !kernel_is_at_least(kernel))))
		return false;
	if (!out)
		return true;
	caps = vl_json_arr(out, "caps");
	arches = vl_json_arr(out, "arches");
	kernel = vl_json_str(out, "minKernel");
	return !(caps && count(m, caps, has_cap)) && !(arches && count(m, arches, is_arch)) &&
	       !(kernel && *kernel && kernel_is_at_least(kernel));
}

/* ---- rules ----------------------------------------------------------------------------------- */

static int parse_arg(const struct making *m, const vl_json *arg, struct scmp_arg_cmp *ret)
{
	int64_t index = 0, a = 0, b = 0;
	enum scmp_compare op = SCMP_CMP_EQ;

	if (!vl_json_is_object(arg) || !vl_json_int(arg, "index", &index) || index < 0 || index >= ARGS ||
	    !vl_json_int(arg, "value", &a) ||
	    (!vl_json_is_null_or_absent(arg, "valueTwo") && !vl_json_int(arg, "valueTwo", &b)))
		return vl_fail(m->err, EINVAL, "%s: an entry of args has no index below %d or no number", m->what,
			       ARGS);
	int r = parse_op(m, vl_json_str(arg, "op"), &op);
	if (r == 0) /* masked: value is the mask there, and the first number here */
		*ret = (struct scmp_arg_cmp){ (unsigned)index, op, (scmp_datum_t)a, (scmp_datum_t)b };
	return r;
}

static int add_call(const struct making *m, const char *name, uint32_t action, const struct scmp_arg_cmp *args,
		    size_t n)
{
	unsigned seen = 0;
	bool twice = false;
	int r = 0, nr = seccomp_syscall_resolve_name(name);

	if (nr == __NR_SCMP_ERROR) /* of another kernel or architecture: profiles name them all */
		return 0;
	for (size_t i = 0; i < n; i++) {
		twice |= seen >> args[i].arg & 1;
		seen |= 1u << args[i].arg;
	}
	/* two conditions on one argument cannot both be meant: each is a rule of its own, as elsewhere */
	for (size_t i = 0; twice && i < n && r == 0; i++)
		r = seccomp_rule_add_array(m->ctx, action, nr, 1, &args[i]);
	if (!twice)
		r = seccomp_rule_add_array(m->ctx, action, nr, (unsigned)n, args);
	if (r == -EEXIST) /* said before */
		return 0;
	return r < 0 ? wrong(m, "the rule for", name, strerror(-r)) : 0;
}

static int add_rule(const struct making *m, const vl_json *rule)
{
	struct scmp_arg_cmp args[ARGS * 2] = { 0 };
	const vl_json *names, *conditions;
	uint32_t error = EPERM, action = 0;
	int r;

	if (!vl_json_is_object(rule))
		return vl_fail(m->err, EINVAL, "%s: an entry of syscalls is no object", m->what);
	if ((r = parse_errno(m, rule, "errnoRet", "errno", &error)) < 0 ||
	    (r = parse_action(m, vl_json_str(rule, "action"), error, &action)) < 0)
		return r;
	conditions = vl_json_arr(rule, "args");
	if (!conditions && !vl_json_is_null_or_absent(rule, "args"))
		return vl_fail(m->err, EINVAL, "%s: args is no list", m->what); /* else the rule would hold always */
	size_t n = vl_json_len(conditions);
	if (n > VL_COUNT(args))
		return vl_fail(m->err, E2BIG, "%s: a rule has more than %zu args", m->what, VL_COUNT(args));
	for (size_t i = 0; i < n; i++)
		if ((r = parse_arg(m, vl_json_at(conditions, i), &args[i])) < 0)
			return r;
	names = vl_json_arr(rule, "names");
	const char *name = vl_json_str(rule, "name");
	if (!names && !name)
		return vl_fail(m->err, EINVAL, "%s: an entry of syscalls has no names", m->what);
	if (!is_for_us(m, rule) || action == m->usual)
		return 0;
	if (name && (r = add_call(m, name, action, args, n)) < 0)
		return r;
	for (size_t i = 0; i < vl_json_len(names); i++) {
		if (!(name = vl_json_string(vl_json_at(names, i))))
			return vl_fail(m->err, EINVAL, "%s: a name of a system call is no string", m->what);
		if ((r = add_call(m, name, action, args, n)) < 0)
			return r;
	}
	return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int add_arch(const struct making *m, const char *word)
{
	uint32_t token = arch_of(word);
	int r = token ? seccomp_arch_add(m->ctx, token) : 0; /* one that libseccomp does not know cannot be run here */

	return r < 0 && r != -EEXIST && r != -EINVAL && r != -EDOM ? wrong(m, "architecture", word, strerror(-r)) : 0;
}

static int add_arches(const struct making *m, const vl_json *profile)
{
	const vl_json *list = vl_json_arr(profile, "architectures"), *maps = vl_json_arr(profile, "archMap");
	int r = 0;

	for (size_t i = 0; i < vl_json_len(list) && r == 0; i++)
		r = add_arch(m, vl_json_string(vl_json_at(list, i)));
	for (size_t i = 0; i < vl_json_len(maps) && r == 0; i++) {
		const vl_json *one = vl_json_at(maps, i);
		if (!vl_json_is_object(one) || arch_of(vl_json_str(one, "architecture")) != seccomp_arch_native())
			continue;
		const vl_json *subs = vl_json_arr(one, "subArchitectures");
		for (size_t k = 0; k < vl_json_len(subs) && r == 0; k++)
			r = add_arch(m, vl_json_string(vl_json_at(subs, k)));
	}
	return r;
}

/* What would change the meaning and is not done is an error: a profile that is followed half protects nobody. */
static int check_flags(const struct making *m, const vl_json *profile)
{
	const vl_json *flags = vl_json_arr(profile, "flags");

	for (size_t i = 0; i < vl_json_len(flags); i++) {
		const char *word = vl_json_string(vl_json_at(flags, i));
		if (!word || !vl_streq(word, "SECCOMP_FILTER_FLAG_TSYNC")) /* there is one thread */
			return wrong(m, "flag", word, "is not supported");
	}
	if (!vl_json_is_null_or_absent(profile, "syscalls") && !vl_json_arr(profile, "syscalls"))
		return vl_fail(m->err, EINVAL, "%s: syscalls is no list", m->what);
	return 0;
}

static int export(const struct making *m, bool text, void **ret, size_t *ret_len)
{
	struct stat st;
	VL_CLOSE int fd = memfd_create("seccomp", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : text ? seccomp_export_pfc(m->ctx, fd) : seccomp_export_bpf(m->ctx, fd);

	if (r < 0 || fstat(fd, &st) < 0)
		return vl_fail_sys(m->err, r < 0 ? -r : errno, "%s: libseccomp cannot make a filter", m->what);
	if (!text && st.st_size > FILTER_MAX)
		return vl_fail(m->err, E2BIG, "%s: the filter has more than 4096 instructions, the kernel's limit",
			       m->what);
	VL_FREE char *out = vl_alloc((size_t)st.st_size + 1);
	if ((r = vl_pread_full(fd, out, (size_t)st.st_size, 0, m->what, m->err)) < 0)
		return r;
	*ret = vl_steal(&out);
	*ret_len = (size_t)st.st_size;
	return 0;
}

static int fill(struct making *m, const vl_json *profile)
{
	const vl_json *rules = vl_json_arr(profile, "syscalls");
	int r = add_arches(m, profile);

	for (size_t i = 0; i < vl_json_len(rules) && r == 0; i++)
		r = add_rule(m, vl_json_at(rules, i));
	/* a search tree: 400 calls in 9 comparisons. Older libraries know it not, and compare one by one. */
	if (r == 0)
		(void)seccomp_attr_set(m->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return r;
}

int ctr_seccomp_compile(const char *profile, size_t len, const char *what, uint64_t caps, bool text, void **ret,
			size_t *ret_len, struct vl_err *err)
{
	struct making m = { .what = what, .caps = caps, .err = err };
	VL_JSON vl_json *j = NULL;
	uint32_t error = EPERM;

	int r = vl_json_parse(profile, len, what, &j, err);
	if (r < 0)
		return r;
	if (!vl_json_is_object(j))
		return vl_fail(err, EINVAL, "%s: a seccomp profile is a JSON object", what);
	if ((r = parse_errno(&m, j, "defaultErrnoRet", "defaultErrno", &error)) < 0 ||
	    (r = parse_action(&m, vl_json_str(j, "defaultAction"), error, &m.usual)) < 0 ||
	    (r = check_flags(&m, j)) < 0)
		return r;
	m.ctx = seccomp_init(m.usual);
	if (!m.ctx)
		return vl_fail(err, ENOMEM, "%s: libseccomp takes no such default action", what);
	r = fill(&m, j);
	if (r == 0)
		r = export(&m, text, ret, ret_len);
	seccomp_release(m.ctx);
	return r;
}
