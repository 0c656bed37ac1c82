/* CDI: YAML as the format's readers take it, the rules of specifications, what their producers write, and what names of
 * devices come to. */
#include "check.h"

#include "gpu/cdi.h"

#include <sys/stat.h>

static struct vl_err err;

/* ---- YAML ------------------------------------------------------------------------------------- */

static const struct {
	const char *yaml, *json;
} yaml_good[] = {
	{ "a: 1", "{\"a\":1}" },
	{ "\xef\xbb\xbf---\na: b # c\n...\n", "{\"a\":\"b\"}" },
	{ "%YAML 1.2\n---\n- a\n-  'it''s'\n- \"\\x41\\u00e9\\n\"", "[\"a\",\"it's\",\"A\xc3\xa9\\n\"]" },
	{ "a: |\n  x\n   y\nb: >\n  x\n  y\n", "{\"a\":\"x\\n y\\n\",\"b\":\"x y\\n\"}" },
	{ "{a: [1, -2, +3], b: {}}", "{\"a\":[1,-2,3],\"b\":{}}" },
	/* modes: octal to every reader of these files */
	{ "[0666, 0o666, 0x1b6, 438, 0, 00, 0b101]", "[438,438,438,438,0,0,5]" },
	{ "['0666', \"438\", !!str 438, ! 1]", "[\"0666\",\"438\",\"438\",\"1\"]" },
	/* truth values of YAML 1.1, which 1.2 takes for text: whoever wants text is told */
	{ "[true, False, yes, NO, on, Off, y, N, 'yes', Yess]",
	  "[true,false,true,false,true,false,true,false,\"yes\",\"Yess\"]" },
	{ "[~, null, '', Null, ]", "[null,null,\"\",null]" },
	{ "a:\nb: ~", "{\"a\":null,\"b\":null}" },
	/* text, though it begins like a number */
	{ "[1.5, 1e3, 0:1, 0000:03:00.0, 1_000, 0xfg, 12a, -, 9223372036854775808, 2026-01-01]",
	  "[\"1.5\",\"1e3\",\"0:1\",\"0000:03:00.0\",\"1_000\",\"0xfg\",\"12a\",\"-\",\"9223372036854775808\",\"2026-"
	  "01-"
	  "01\"]" },
	{ "1: a\ntrue: b\n", "{\"1\":\"a\",\"true\":\"b\"}" },
	{ "a: &x {b: [1]}\nc: *x\nd: &x 2\ne: *x", "{\"a\":{\"b\":[1]},\"c\":{\"b\":[1]},\"d\":2,\"e\":2}" },
	{ "a: !!map {b: !!seq [1]}", "{\"a\":{\"b\":[1]}}" },
};

TEST(yaml_is_read)
{
	for (size_t i = 0; i < VL_COUNT(yaml_good); i++) {
		VL_JSON vl_json *j = NULL;
		if (gpu_yaml_parse(yaml_good[i].yaml, strlen(yaml_good[i].yaml), "x", &j, &err) < 0)
			CHECK_FAIL("%s: %s", yaml_good[i].yaml, err.text);
		VL_FREE char *text = vl_json_text(j, false);
		CHECK_STR(text, yaml_good[i].json);
	}
}

static const struct {
	const char *yaml, *why;
} yaml_wrong[] = {
	{ "", "the file is empty" },
	{ "# nothing\n", "the file is empty" },
	{ "a: 1\n---\nb: 2", "more than one document" },
	{ "a: 1\nb: 2\na: 3", "line 3: 'a' is there twice" },
	{ "a: {b: 1, \"b\": 2}", "'b' is there twice" },
	{ "a: *x", "line 1: 'x' is an alias of nothing that stands before it" },
	{ "a: &x [1, *x]", "is an alias of nothing" },
	{ "a: &x {b: *x}", "is an alias of nothing" },
	{ "a: !!binary aGk=", "'tag:yaml.org,2002:binary' is a tag that is not known" },
	{ "a: !!int 5", "is a tag that is not known" },
	{ "a: !mine [b]", "'!mine' is a tag that is not known" },
	{ "<<: {a: 1}", "merge keys" },
	{ "? [a]\n: b", "a key is no text" },
	{ "\"a\\0b\": 1", "a key holds a NUL character" },
	{ "a: 0888", "'0888' is a number to some readers and text to others" },
	{ "- 09", "'09' is a number to some" },
	{ "a: [", "bad YAML: did not find" },
	{ "a: b: c", "line 1: bad YAML: mapping values are not allowed" },
	{ "\ta: 1", "bad YAML" },
	{ "a: \"\\ud800\"", "bad YAML" },
	{ "a: \xff", "bad YAML: invalid leading UTF-8 octet" },
	{ "a: \x01", "bad YAML: control characters are not allowed" },
};

TEST(what_yaml_is_refused_says_why)
{
	for (size_t i = 0; i < VL_COUNT(yaml_wrong); i++) {
		VL_JSON vl_json *j = NULL;
		if (gpu_yaml_parse(yaml_wrong[i].yaml, strlen(yaml_wrong[i].yaml), "x", &j, &err) == 0)
			CHECK_FAIL("%s is taken", yaml_wrong[i].yaml);
		CHECK_HAS(err.text, yaml_wrong[i].why);
		CHECK_HAS(err.text, "x: ");
	}
	VL_JSON vl_json *j = NULL;
	CHECK_EQ(gpu_yaml_parse("a: 1\0b", 6, "x", &j, &err), -EINVAL);
}

static void add_times(struct vl_buf *b, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		vl_buf_adds(b, s);
}

static void check_bomb(const struct vl_buf *b, int code, const char *why)
{
	VL_JSON vl_json *j = NULL;

	CHECK_EQ(gpu_yaml_parse(b->data, b->len, "x", &j, &err), -code);
	CHECK_HAS(err.text, why);
}

TEST(bombs_do_not_go_off)
{
	VL_BUF struct vl_buf laughs = { 0 }, tower = { 0 }, deep = { 0 }, anchors = { 0 }, huge = { 0 }, wide = { 0 };

	vl_buf_adds(&laughs, "l0: &l0 [x]\n"); /* eight to the power of twenty */
	for (int i = 1; i < 20; i++)
		vl_buf_addf(&laughs, "l%d: &l%d [*l%d,*l%d,*l%d,*l%d,*l%d,*l%d,*l%d,*l%d]\n", i, i, i - 1, i - 1, i - 1,
			    i - 1, i - 1, i - 1, i - 1, i - 1);
	check_bomb(&laughs, E2BIG, "more than 100000 values, aliases written out");
	vl_buf_adds(&tower, "t0: &t0 [x]\n"); /* one level each, which only aliases make deep */
	for (int i = 1; i < 100; i++)
		vl_buf_addf(&tower, "t%d: &t%d [*t%d]\n", i, i, i - 1);
	check_bomb(&tower, EINVAL, "nested too deep");
	add_times(&deep, "[", 5000);
	check_bomb(&deep, EINVAL, "nested too deep");
	vl_buf_adds(&anchors, "[");
	add_times(&anchors, "&a 1,", 300);
	vl_buf_adds(&anchors, "]");
	check_bomb(&anchors, E2BIG, "more than 256 anchors");
	add_times(&huge, "#", GPU_CDI_FILE_MAX + 1);
	check_bomb(&huge, EFBIG, "over the limit");
	vl_buf_adds(&wide, "[");
	add_times(&wide, "1,", 100001);
	check_bomb(&wide, E2BIG, "more than 100000 values");
}

TEST(what_is_written_as_yaml_reads_as_the_same)
{
	static const char json[] = "{\"a\":\"yes\",\"b\":[\"0666\",438,\"\",\"~\",\"a: b\",\"#c\",\" x "
				   "\",\"two\\nlines\",\"\\u0007\\u0085\\ufeff\\u007f"
				   "\xc3\xa9\xf0\x9f\x98\x80\"],\"c d\":{\"e\":[{\"f\":1,\"g\":[]},[1,2]]},\"h\":{}}";
	VL_JSON vl_json *j = NULL, *back = NULL;

	CHECK_EQ(vl_json_parse(json, strlen(json), "x", &j, &err), 0);
	VL_FREE char *yaml = gpu_yaml_text(j);
	if (gpu_yaml_parse(yaml, strlen(yaml), "back", &back, &err) < 0)
		CHECK_FAIL("%s in\n%s", err.text, yaml);
	VL_FREE char *x = vl_json_text(j, false), *y = vl_json_text(back, false);
	CHECK_STR(y, x);
}

/* ---- names ------------------------------------------------------------------------------------ */

TEST(names)
{
	static const char *const good[] = { "nvidia.com/gpu=0",
					    "nvidia.com/gpu=all",
					    "nvidia.com/gpu=0:1",
					    "amd.com/gpu=GPU-5.a_b-c",
					    "a/b=c",
					    "intel.com/vme.x=renderD128",
					    "Vendor-1/c_1=0000:03:00.0" };
	static const char *const bad[] = { "",        "gpu",     "a/b",     "a/b=",     "/dev/null",
					   "/a/b=c",  "a/=c",    "/b=c",    "a=c",      "1a/b=c",
					   "a/1b=c",  "a-/b=c",  "a/b.=c",  "a/b=-c",   "a/b=c-",
					   "a/b/c=d", "a/b=c/d", "a/b=c=d", "a/b=../x", "a b/c=d",
					   "a/b= c",  "a/b=c\n", "a:b/c=d", "a/b:c=d",  "a/b=\xc3\xa9" };

	for (size_t i = 0; i < VL_COUNT(good); i++) {
		VL_FREE char *kind = NULL, *name = NULL;
		if (gpu_cdi_split(good[i], &kind, &name, &err) < 0)
			CHECK_FAIL("%s: %s", good[i], err.text);
		VL_FREE char *whole = vl_asprintf("%s=%s", kind, name);
		CHECK_STR(whole, good[i]);
	}
	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		VL_FREE char *kind = NULL, *name = NULL;
		if (gpu_cdi_split(bad[i], &kind, &name, &err) == 0)
			CHECK_FAIL("'%s' is taken", bad[i]);
	}
	char *kind, *name;
	CHECK_EQ(gpu_cdi_split("/dev/fuse", &kind, &name, &err), -EINVAL);
	CHECK_HAS(err.text, "--bind /dev/fuse");
}

/* ---- specifications ----------------------------------------------------------------------------- */

static void say_list(struct vl_buf *b, const struct vl_strv *l)
{
	for (size_t i = 0; i < l->n; i++)
		vl_buf_addf(b, " %s", l->v[i]);
}

/* One line for each edit. */
static void say_edits(struct vl_buf *b, const struct gpu_edits *e)
{
	for (size_t i = 0; i < e->n_nodes; i++) {
		const struct gpu_node *n = &e->nodes[i];
		vl_buf_addf(b, "node %s>%s %c %lld:%lld %s %o %lld/%lld\n", n->host, n->path, n->type ? n->type : '?',
			    (long long)n->major, (long long)n->minor, *n->access ? n->access : "*",
			    n->mode < 0 ? 0 : (unsigned)n->mode, (long long)n->uid, (long long)n->gid);
	}
	for (size_t i = 0; i < e->n_mounts; i++) {
		vl_buf_addf(b, "mount %s>%s", e->mounts[i].src, e->mounts[i].dst);
		say_list(b, &e->mounts[i].options);
		vl_buf_adds(b, "\n");
	}
	for (size_t i = 0; i < e->n_hooks; i++) {
		vl_buf_addf(b, "hook %s %s %lld", e->hooks[i].name, e->hooks[i].path, (long long)e->hooks[i].timeout);
		say_list(b, &e->hooks[i].args);
		vl_buf_adds(b, " |");
		say_list(b, &e->hooks[i].env);
		vl_buf_adds(b, "\n");
	}
	for (size_t i = 0; i < e->env.n; i++)
		vl_buf_addf(b, "env %s\n", e->env.v[i]);
	for (size_t i = 0; i < e->lib_dirs.n; i++)
		vl_buf_addf(b, "libs %s\n", e->lib_dirs.v[i]);
	for (size_t i = 0; i < e->n_gids; i++)
		vl_buf_addf(b, "gid %u\n", (unsigned)e->gids[i]);
	for (size_t i = 0; i < e->shut.n; i++)
		vl_buf_addf(b, "shut %s\n", e->shut.v[i]);
}

static char *spec_text(const char *text, bool yaml)
{
	VL_CLEANUP(gpu_cdi_spec_free) struct gpu_cdi_spec s = { 0 };
	VL_BUF struct vl_buf b = { 0 };

	if (gpu_cdi_parse(text, strlen(text), yaml, "x", &s, &err) < 0)
		CHECK_FAIL("%s\n%s", err.text, text);
	vl_buf_addf(&b, "%s of %s\n", s.kind, s.least);
	say_edits(&b, &s.changes.edits);
	for (size_t i = 0; i < s.n_devices; i++) {
		vl_buf_addf(&b, "= %s%s\n", s.devices[i].name, s.devices[i].changes.cannot ? " cannot" : "");
		say_edits(&b, &s.devices[i].changes.edits);
	}
	return vl_steal(&b.data);
}

/* In the shape of what nvidia-ctk writes: YAML, names by index and UUID, "all", hooks, IPC sockets. */
static const char nvidia[] = "---\n"
			     "cdiVersion: 0.5.0\n"
			     "kind: nvidia.com/gpu\n"
			     "devices:\n"
			     "    - name: \"0\"\n"
			     "      containerEdits:\n"
			     "        deviceNodes:\n"
			     "            - path: /dev/nvidia0\n"
			     "              hostPath: /dev/nvidia0\n"
			     "            - path: /dev/dri/renderD128\n"
			     "              fileMode: 438\n"
			     "              permissions: rw\n"
			     "        hooks:\n"
			     "            - hookName: createContainer\n"
			     "              path: /usr/bin/nvidia-cdi-hook\n"
			     "              args:\n"
			     "                - nvidia-cdi-hook\n"
			     "                - create-symlinks\n"
			     "                - --link\n"
			     "                - ../renderD128::/dev/dri/by-path/pci-0000:06:00.0-render\n"
			     "              env:\n"
			     "                - NVIDIA_CTK_DEBUG=false\n"
			     "    - name: GPU-6b1c1d1e-0000-1111-2222-333344445555\n"
			     "      containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}\n"
			     "    - name: all\n"
			     "      containerEdits:\n"
			     "        deviceNodes:\n"
			     "            - path: /dev/nvidia0\n"
			     "containerEdits:\n"
			     "    env:\n"
			     "        - NVIDIA_VISIBLE_DEVICES=void\n"
			     "    deviceNodes:\n"
			     "        - path: /dev/nvidiactl\n"
			     "    mounts:\n"
			     "        - hostPath: /run/nvidia-persistenced/socket\n"
			     "          containerPath: /run/nvidia-persistenced/socket\n"
			     "          options: [ro, nosuid, nodev, rbind, rprivate, noexec]\n";

TEST(shape_of_nvidia)
{
	VL_FREE char *s = spec_text(nvidia, true);

	CHECK_STR(
		s,
		"nvidia.com/gpu of 0.5.0\n"
		"node /dev/nvidiactl>/dev/nvidiactl ? -1:-1 * 0 -1/-1\n"
		"mount /run/nvidia-persistenced/socket>/run/nvidia-persistenced/socket ro nosuid nodev rbind rprivate "
		"noexec\n"
		"env NVIDIA_VISIBLE_DEVICES=void\n"
		"= 0\n"
		"node /dev/nvidia0>/dev/nvidia0 ? -1:-1 * 0 -1/-1\n"
		"node /dev/dri/renderD128>/dev/dri/renderD128 ? -1:-1 rw 666 -1/-1\n"
		"hook createContainer /usr/bin/nvidia-cdi-hook 0 nvidia-cdi-hook create-symlinks --link "
		"../renderD128::/dev/dri/by-path/pci-0000:06:00.0-render | NVIDIA_CTK_DEBUG=false\n"
		"= GPU-6b1c1d1e-0000-1111-2222-333344445555\n"
		"node /dev/nvidia0>/dev/nvidia0 ? -1:-1 * 0 -1/-1\n"
		"= all\n"
		"node /dev/nvidia0>/dev/nvidia0 ? -1:-1 * 0 -1/-1\n");
}

/* AMD's toolkit: JSON, numbers and permissions of every node, kfd among the edits of the file. */
TEST(shape_of_amd)
{
	VL_FREE char *s = spec_text(
		"{\"cdiVersion\":\"0.6.0\",\"kind\":\"amd.com/gpu\",\"devices\":[{\"name\":\"0\",\"containerEdits\":{"
		"\"deviceNodes\":[{\"path\":\"/dev/dri/card1\",\"hostPath\":\"/dev/dri/"
		"card1\",\"type\":\"c\",\"major\":226,"
		"\"minor\":1,\"fileMode\":432,\"permissions\":\"rw\",\"uid\":0,\"gid\":44},{\"path\":\"/dev/dri/"
		"renderD128\"}]}},"
		"{\"name\":\"all\",\"containerEdits\":{\"deviceNodes\":[{\"path\":\"/dev/dri/card1\"}]}}],"
		"\"containerEdits\":{\"deviceNodes\":[{\"path\":\"/dev/kfd\",\"permissions\":\"rwm\"}]}}",
		false);

	CHECK_STR(s, "amd.com/gpu of 0.5.0\n"
		     "node /dev/kfd>/dev/kfd ? -1:-1 rwm 0 -1/-1\n"
		     "= 0\n"
		     "node /dev/dri/card1>/dev/dri/card1 c 226:1 rw 660 0/44\n"
		     "node /dev/dri/renderD128>/dev/dri/renderD128 ? -1:-1 * 0 -1/-1\n"
		     "= all\n"
		     "node /dev/dri/card1>/dev/dri/card1 ? -1:-1 * 0 -1/-1\n");
}

/* Intel's resource driver: names of PCI addresses, by-path links as mounts, annotations of Kubernetes. */
TEST(shape_of_intel)
{
	VL_FREE char *s = spec_text("annotations: {}\n"
				    "cdiVersion: 0.6.0\n"
				    "containerEdits: {}\n"
				    "devices:\n"
				    "- annotations: {resource.intel.com/model: '0x56c0'}\n"
				    "  containerEdits:\n"
				    "    deviceNodes:\n"
				    "    - {path: /dev/dri/card0, type: c}\n"
				    "    - {path: /dev/dri/renderD128, type: c}\n"
				    "    mounts:\n"
				    "    - containerPath: /dev/dri/by-path/pci-0000:03:00.0-card\n"
				    "      hostPath: /dev/dri/by-path/pci-0000:03:00.0-card\n"
				    "      options: [bind, ro]\n"
				    "      type: none\n"
				    "  name: 0000-03-00-0-0x56c0\n"
				    "kind: intel.com/gpu\n",
				    true);

	CHECK_STR(s, "intel.com/gpu of 0.6.0\n"
		     "= 0000-03-00-0-0x56c0\n"
		     "node /dev/dri/card0>/dev/dri/card0 c -1:-1 * 0 -1/-1\n"
		     "node /dev/dri/renderD128>/dev/dri/renderD128 c -1:-1 * 0 -1/-1\n"
		     "mount /dev/dri/by-path/pci-0000:03:00.0-card>/dev/dri/by-path/pci-0000:03:00.0-card bind ro\n");
}

/* Gaudi: an accelerator, its control node and the RDMA node of its ports; groups. */
TEST(shape_of_habana)
{
	VL_FREE char *s =
		spec_text("{\"cdiVersion\":\"0.7.0\",\"kind\":\"habana.ai/"
			  "gaudi\",\"devices\":[{\"name\":\"0\",\"containerEdits\":{"
			  "\"deviceNodes\":[{\"path\":\"/dev/accel/accel0\"},{\"path\":\"/dev/accel/accel_controlD0\"},"
			  "{\"path\":\"/dev/infiniband/"
			  "uverbs0\"}],\"env\":[\"HABANA_VISIBLE_DEVICES=0\"],\"additionalGids\":[0,105,"
			  "105]}}]}",
			  false);

	CHECK_STR(s, "habana.ai/gaudi of 0.7.0\n"
		     "= 0\n"
		     "node /dev/accel/accel0>/dev/accel/accel0 ? -1:-1 * 0 -1/-1\n"
		     "node /dev/accel/accel_controlD0>/dev/accel/accel_controlD0 ? -1:-1 * 0 -1/-1\n"
		     "node /dev/infiniband/uverbs0>/dev/infiniband/uverbs0 ? -1:-1 * 0 -1/-1\n"
		     "env HABANA_VISIBLE_DEVICES=0\n"
		     "gid 105\n");
}

/* A whole specification around one member of containerEdits, of one device, or of the top. */
enum around { EDITS, DEVICE, TOP };
static char *around(enum around where, const char *version, const char *member)
{
	const char *comma = *member ? "," : "";

	switch (where) {
	case EDITS:
		return vl_asprintf(
			"{\"cdiVersion\":\"%s\",\"kind\":\"v.com/c\",\"devices\":[{\"name\":\"d\",\"containerEdits\":{"
			"\"env\":[\"A=1\"]%s%s}}]}",
			version, comma, member);
	case DEVICE:
		return vl_asprintf("{\"cdiVersion\":\"%s\",\"kind\":\"v.com/c\",\"devices\":[{%s}]}", version, member);
	default:
		return vl_asprintf("{\"cdiVersion\":\"%s\",%s}", version, member);
	}
}

#define NAMED "\"name\":\"d\",\"containerEdits\":{\"env\":[\"A=1\"]}"
#define DEVICES "\"devices\":[{" NAMED "}]"

static const struct {
	enum around where;
	const char *version, *member, *why;
} wrong[] = {
	/* version */
	{ EDITS, "0.2.0", "", "'0.2.0' is not known; known are 0.3.0 to 1.1.0" },
	{ EDITS, "1.2.0", "\"new\":1", "cdiVersion: '1.2.0' is not known" },
	{ EDITS, "v1.0.0", "", "is not known" },
	{ EDITS, "1.0", "", "is not known" },
	{ EDITS, "", "", "cdiVersion is missing" },
	{ EDITS, "0.3.0", "\"mounts\":[{\"hostPath\":\"/a\",\"containerPath\":\"/b\",\"type\":\"bind\"}]",
	  "the type of a mount is of version 0.4.0, and the file says it is of 0.3.0" },
	{ EDITS, "0.4.0", "\"deviceNodes\":[{\"path\":\"/dev/a\",\"hostPath\":\"/dev/b\"}]",
	  "hostPath is of version 0.5.0" },
	{ DEVICE, "0.4.0", "\"name\":\"1\",\"containerEdits\":{\"env\":[\"A=1\"]}",
	  "a device whose name begins with a digit is of version 0.5.0" },
	{ DEVICE, "0.5.0", NAMED ",\"annotations\":{\"a\":\"b\"}", "annotations is of version 0.6.0" },
	{ TOP, "0.5.0", "\"kind\":\"v.com/a.b\"," DEVICES, "a class with a dot is of version 0.6.0" },
	{ EDITS, "0.6.0", "\"additionalGids\":[1]", "additionalGids is of version 0.7.0" },
	{ EDITS, "0.6.0", "\"intelRdt\":{}", "intelRdt is of version 0.7.0" },
	{ EDITS, "1.0.0", "\"netDevices\":[{\"hostInterfaceName\":\"a\",\"name\":\"b\"}]",
	  "netDevices is of version 1.1.0" },
	{ EDITS, "1.0.0", "\"intelRdt\":{\"schemata\":[\"a\"]}", "intelRdt is of version 1.1.0" },
	/* top */
	{ TOP, "1.0.0", DEVICES, "kind is missing" },
	{ TOP, "1.0.0", "\"kind\":\"gpu\"," DEVICES, "kind gpu: VENDOR/CLASS" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c/d\"," DEVICES, "VENDOR/CLASS" },
	{ TOP, "1.0.0", "\"kind\":5," DEVICES, "kind 5: VENDOR/CLASS" },
	{ TOP, "1.0.0", "\"kind\":true," DEVICES, "kind is a truth value where text belongs; put it in quotes" },
	{ TOP, "1.0.0", "\"kind\":[]," DEVICES, "kind is no text" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\"", "it has no devices" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\",\"devices\":[]", "it has no devices" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\",\"devices\":{}", "devices is no list" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\",\"devices\":[5]", "device: this is no object" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\"," DEVICES ",\"containerRuntime\":[]",
	  "the format has no field 'containerRuntime' here" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\"," DEVICES ",\"containerEdits\":[]", "containerEdits: this is no object" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\"," DEVICES ",\"annotations\":[]", "annotations are no object" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\"," DEVICES ",\"annotations\":{\"a\":1}", "annotation 'a'" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\"," DEVICES ",\"annotations\":{\"a/b/c\":\"x\"}", "annotation 'a/b/c'" },
	{ TOP, "1.0.0", "\"kind\":\"v.com/c\"," DEVICES ",\"kind\":\"v.com/d\"", "bad JSON" },
	/* devices */
	{ DEVICE, "1.0.0", "\"containerEdits\":{\"env\":[\"A=1\"]}", "device: name is missing" },
	{ DEVICE, "1.0.0", "\"name\":\"a/b\",\"containerEdits\":{\"env\":[\"A=1\"]}",
	  "device a/b: a name has letters" },
	{ DEVICE, "1.0.0", "\"name\":\"a\\u0000b\",\"containerEdits\":{\"env\":[\"A=1\"]}", "name is no text" },
	{ DEVICE, "1.0.0", NAMED "},{" NAMED, "device d: the file has two of that name" },
	{ DEVICE, "1.0.0", "\"name\":\"d\"", "device d: containerEdits are missing" },
	{ DEVICE, "1.0.0", "\"name\":\"d\",\"containerEdits\":{}", "containerEdits are missing" },
	{ DEVICE, "1.0.0", "\"name\":\"d\",\"containerEdits\":{\"env\":[]}", "containerEdits are missing" },
	{ DEVICE, "1.0.0", NAMED ",\"nameShort\":[]", "the format has no field 'nameShort' here" },
	/* env */
	{ DEVICE, "1.0.0", "\"name\":\"d\",\"containerEdits\":{\"env\":[\"A\"]}",
	  "the variable 'A' is not of the form" },
	{ DEVICE, "1.0.0", "\"name\":\"d\",\"containerEdits\":{\"env\":[\"=A\"]}", "the variable '=A'" },
	{ DEVICE, "1.0.0", "\"name\":\"d\",\"containerEdits\":{\"env\":[\"A=\\u0000\"]}", "env is no text" },
	{ DEVICE, "1.0.0", "\"name\":\"d\",\"containerEdits\":{\"env\":\"A=1\"}", "containerEdits are missing" },
	{ DEVICE, "1.0.0", "\"name\":\"d\",\"containerEdits\":{\"env\":[null]}", "env is no text" },
	/* nodes */
	{ EDITS, "1.0.0", "\"deviceNodes\":[{}]", "device node: path is missing" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[null]", "device node: this is no object" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"dev/a\"}]", "path is no absolute path" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/dev/../etc/a\"}]", "path has a '..'" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/dev/..\"}]", "path has a '..'" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"//.\"}]", "nothing can be mounted on the root" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"hostPath\":\"b\"}]", "hostPath is no absolute path" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"type\":\"cc\"}]", "type is one of c, b, u and p" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"type\":\"d\"}]", "type is one of" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"permissions\":\"rx\"}]",
	  "permissions are of r, w and m" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"major\":-1}]",
	  "major is no whole number from 0 to 4095" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"minor\":1048576}]", "minor is no whole number" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"minor\":\"1\"}]", "minor is no whole number" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"fileMode\":4294967296}]",
	  "fileMode is no whole number" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"fileMode\":1.5}]", "fileMode is no whole number" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"uid\":4294967295}]", "uid is no whole number" },
	{ EDITS, "1.0.0", "\"deviceNodes\":[{\"path\":\"/a\",\"mode\":1}]", "no field 'mode' here" },
	/* mounts */
	{ EDITS, "1.0.0", "\"mounts\":[{\"hostPath\":\"/a\"}]", "mount: containerPath is missing" },
	{ EDITS, "1.0.0", "\"mounts\":[{\"containerPath\":\"/a\"}]", "mount /a: hostPath is missing" },
	{ EDITS, "1.0.0", "\"mounts\":[{\"hostPath\":\"a\",\"containerPath\":\"/b\"}]",
	  "hostPath is no absolute path" },
	{ EDITS, "1.0.0", "\"mounts\":[{\"hostPath\":\"/a/../b\",\"containerPath\":\"/b\"}]", "hostPath has a '..'" },
	{ EDITS, "1.0.0", "\"mounts\":[{\"hostPath\":\"/a\",\"containerPath\":\"/../b\"}]",
	  "containerPath has a '..'" },
	{ EDITS, "1.0.0", "\"mounts\":[{\"hostPath\":\"/a\",\"containerPath\":\"/\"}]", "on the root of a container" },
	{ EDITS, "1.0.0", "\"mounts\":[{\"hostPath\":\"/a\",\"containerPath\":\"/b\",\"options\":\"ro\"}]",
	  "options is no list" },
	{ EDITS, "1.0.0", "\"mounts\":[{\"hostPath\":\"/a\",\"containerPath\":\"/b\",\"options\":[true]}]",
	  "options is a truth value" },
	/* hooks */
	{ EDITS, "1.0.0", "\"hooks\":[{\"path\":\"/a\"}]", "hook: hookName is missing" },
	{ EDITS, "1.0.0", "\"hooks\":[{\"hookName\":\"createcontainer\",\"path\":\"/a\"}]",
	  "there is no hook of that name" },
	{ EDITS, "1.0.0", "\"hooks\":[{\"hookName\":\"prestart\"}]", "hook prestart: path is missing" },
	{ EDITS, "1.0.0", "\"hooks\":[{\"hookName\":\"prestart\",\"path\":\"a\"}]", "path is no absolute path" },
	{ EDITS, "1.0.0", "\"hooks\":[{\"hookName\":\"prestart\",\"path\":\"/a\",\"timeout\":0}]",
	  "timeout is no whole number" },
	{ EDITS, "1.0.0", "\"hooks\":[{\"hookName\":\"prestart\",\"path\":\"/a\",\"env\":[\"x\"]}]",
	  "the variable 'x'" },
	{ EDITS, "1.0.0", "\"hooks\":[{\"hookName\":\"prestart\",\"path\":\"/a\",\"args\":[{}]}]", "args is no text" },
	/* the rest */
	{ EDITS, "1.0.0", "\"additionalGids\":[-1]", "additionalGids are numbers of groups" },
	{ EDITS, "1.0.0", "\"additionalGids\":[\"video\"]", "additionalGids are numbers of groups" },
	{ EDITS, "1.0.0", "\"intelRdt\":{\"closID\":\"a/b\"}", "closID is no name of a directory" },
	{ EDITS, "1.0.0", "\"intelRdt\":{\"enableCMT\":\"yes\"}", "enableCMT is neither true nor false" },
	{ EDITS, "1.0.0", "\"intelRdt\":{\"closid\":\"a\"}", "intelRdt: the format has no field 'closid' here" },
	{ EDITS, "1.1.0", "\"netDevices\":[{\"name\":\"b\"}]", "network device: hostInterfaceName is missing" },
	{ EDITS, "1.0.0", "\"devices\":[]", "device d: the format has no field 'devices' here" },
};

TEST(what_breaks_a_rule_is_refused_in_json_and_yaml)
{
	for (size_t i = 0; i < VL_COUNT(wrong); i++) {
		VL_FREE char *text = around(wrong[i].where, wrong[i].version, wrong[i].member);
		struct gpu_cdi_spec s;
		if (gpu_cdi_parse(text, strlen(text), false, "x", &s, &err) == 0)
			CHECK_FAIL("taken: %s", text);
		CHECK_HAS(err.text, wrong[i].why);
		if (strstr(wrong[i].why, "bad JSON")) /* in its own words */
			continue;
		if (gpu_cdi_parse(text, strlen(text), true, "x", &s, &err) == 0)
			CHECK_FAIL("taken: %s", text);
		CHECK_HAS(err.text, wrong[i].why);
	}
}

TEST(traps_of_yaml)
{
	static const char *const wrong_yaml[][2] = {
		{ "name: yes", "name is a truth value where text belongs; put it in quotes" },
		{ "name: d\n  containerEdits: {deviceNodes: [{path: /a, fileMode: 0999}]}",
		  "'0999' is a number to some" },
		{ "name: d\n  containerEdits: {deviceNodes: [{path: /a, fileMode: '438'}]}",
		  "fileMode is no whole number" },
		{ "name: d\n  containerEdits: {deviceNodes: [{path: /a, permissions: no}]}",
		  "permissions is a truth value" },
		{ "name: d\n  containerEdits: {env: [A: 1]}", "env is no text" },
		{ "name: d\n  containerEdits: {env: [A=1]}\n  containerEdits: {env: [A=2]}", "is there twice" },
	};

	for (size_t i = 0; i < VL_COUNT(wrong_yaml); i++) {
		VL_FREE char *text =
			vl_asprintf("cdiVersion: 1.0.0\nkind: v.com/c\ndevices:\n- %s\n", wrong_yaml[i][0]);
		struct gpu_cdi_spec s;
		CHECK_EQ(gpu_cdi_parse(text, strlen(text), true, "x", &s, &err), -EINVAL);
		CHECK_HAS(err.text, wrong_yaml[i][1]);
	}
	VL_FREE char *s =
		spec_text("cdiVersion: 1.0.0\nkind: v.com/c\ndevices:\n- name: 0\n  annotations:\n  containerEdits: "
			  "{deviceNodes: [{path: /a//b/, fileMode: 0660, permissions: mw, type: u}], mounts: }\n",
			  true);
	CHECK_STR(s, "v.com/c of 0.5.0\n= 0\nnode /a//b/>/a/b c -1:-1 wm 660 -1/-1\n");
}

TEST(lists_and_texts_have_limits)
{
	VL_BUF struct vl_buf gids = { 0 }, notes = { 0 };
	struct gpu_cdi_spec s;

	vl_buf_adds(&gids, "\"additionalGids\":[1");
	add_times(&gids, ",1", GPU_CDI_LIST_MAX);
	vl_buf_adds(&gids, "]");
	VL_FREE char *many = around(EDITS, "1.0.0", gids.data);
	CHECK_EQ(gpu_cdi_parse(many, strlen(many), false, "x", &s, &err), -EINVAL);
	CHECK_HAS(err.text, "additionalGids: more");
	vl_buf_adds(&notes, NAMED ",\"annotations\":{\"a\":\"");
	add_times(&notes, "x", 256 << 10);
	vl_buf_adds(&notes, "\"}");
	VL_FREE char *long_text = around(DEVICE, "1.0.0", notes.data);
	CHECK_EQ(gpu_cdi_parse(long_text, strlen(long_text), false, "x", &s, &err), -EINVAL);
	CHECK_HAS(err.text, "annotations of more than 262144 bytes");
}

/* ---- directories and names to edits --------------------------------------------------------------- */

static char warned[4096];

static void warn(void *arg, const char *text)
{
	size_t n = strlen(warned);

	(void)arg;
	snprintf(warned + n, sizeof warned - n, "%s\n", text);
}

static const struct vl_progress say = { .warn = warn };

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* A specification of kind v.com/c: one device, with a variable that tells whose it is. */
static void put_spec(const char *path, const char *name, const char *edits)
{
	VL_FREE char *text = vl_asprintf(
		"cdiVersion: 0.7.0\nkind: v.com/c\ndevices:\n- name: '%s'\n  containerEdits: {%s}\n", name, edits);
	put(path, text);
}

static struct vl_strv words(const char *text)
{
	struct vl_strv l = { 0 };
	VL_FREE char *copy = vl_strdup(text);

	for (char *save, *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
		vl_strv_add(&l, w);
	return l;
}

static int find(const char *names, const char *dirs, char **ret)
{
	VL_STRV struct vl_strv n = words(names), d = words(dirs);
	GPU_CDI struct gpu_cdi c = { 0 };
	VL_BUF struct vl_buf b = { 0 };

	*warned = 0;
	int r = gpu_cdi_find(&n, &d, &say, &c, &err);
	for (size_t i = 0; i < c.n_parts; i++) {
		vl_buf_addf(&b, "[%s]\n", vl_basename(c.parts[i].origin));
		say_edits(&b, &c.parts[i].edits);
	}
	*ret = b.data ? vl_steal(&b.data) : vl_strdup("");
	return r;
}

static void check_found(const char *names, const char *dirs, const char *want)
{
	VL_FREE char *got = NULL;

	if (find(names, dirs, &got) < 0)
		CHECK_FAIL("%s: %s", names, err.text);
	CHECK_STR(got, want);
}

static void check_not_found(const char *names, const char *dirs, int code, const char *why)
{
	VL_FREE char *got = NULL;

	CHECK_EQ(find(names, dirs, &got), -code);
	CHECK_HAS(err.text, why);
}

TEST(the_later_directory_counts_and_others_are_read_too)
{
	mkdir("one", 0755);
	mkdir("two", 0755);
	put_spec("one/a.yaml", "x", "env: [FROM=one/a]");
	put_spec("one/b.yaml", "y", "env: [FROM=one/b]");
	put_spec("two/a.yaml", "x", "env: [FROM=two/a]");
	check_found("v.com/c=x v.com/c=y", "one two",
		    "[a.yaml]\n[a.yaml]\nenv FROM=two/a\n[b.yaml]\n[b.yaml]\nenv FROM=one/b\n");
	check_found("v.com/c=x", "two one", "[a.yaml]\n[a.yaml]\nenv FROM=one/a\n");
	/* a conflict that a later directory settles */
	put_spec("one/c.yaml", "x", "env: [FROM=one/c]");
	check_found("v.com/c=x", "one two", "[a.yaml]\n[a.yaml]\nenv FROM=two/a\n");
	CHECK_STR(warned, "");
}

TEST(two_files_of_one_directory_are_a_conflict_of_that_device_alone)
{
	mkdir("d", 0755);
	put_spec("d/a.yaml", "x", "env: [A=1]");
	put_spec("d/b.yaml", "x", "env: [A=2]");
	put_spec("d/c.yaml", "y", "env: [A=3]");
	check_not_found("v.com/c=x", "d", ENOTUNIQ, "v.com/c=x is described by ");
	CHECK_HAS(err.text, "/d/a.yaml and by ");
	CHECK_HAS(err.text, "/d/b.yaml; one of them must go");
	check_found("v.com/c=y", "d", "[c.yaml]\n[c.yaml]\nenv A=3\n");
	check_not_found("v.com/c=all", "d", ENOTUNIQ, "v.com/c=x is described by ");
}

TEST(what_is_not_there_is_told_with_what_is)
{
	mkdir("d", 0755);
	check_not_found("v.com/c=x", "d", ENOENT, "no device is described in d; the vendor's tool writes such a file");
	put_spec("d/a.yaml", "x", "env: [A=1]");
	put_spec("d/b.yaml", "y", "env: [A=2]");
	check_not_found("v.com/c=z", "d", ENOENT, "there is no CDI device v.com/c=z; of v.com/c there are x, y (d)");
	check_not_found("v.com/d=x", "d", ENOENT, "no file in d is of v.com/d, but there are v.com/c");
	check_not_found("nonsense", "d", EINVAL, "nonsense is not the name of a CDI device");
	check_not_found("v.com/c=x", "none", ENOENT, "1 of their files cannot be used: ");
}

TEST(a_broken_file_is_an_error_only_when_a_device_is_missing)
{
	mkdir("d", 0755);
	put_spec("d/good.yaml", "x", "env: [A=1]");
	put("d/bad.json", "{");
	put("d/notes.txt", "nothing of ours");
	put("d/.hidden.json", "{");
	mkdir("d/dir.json", 0755);
	CHECK_EQ(mkfifo("d/pipe.yaml", 0644), 0);
	CHECK_EQ(symlink("nowhere", "d/link.yaml"), 0);
	check_found("v.com/c=x", "d", "[good.yaml]\n[good.yaml]\nenv A=1\n");
	CHECK_HAS(warned, "/d/bad.json: bad JSON");
	CHECK_HAS(warned, "other files cannot be used either");
	CHECK(strchr(warned, '\n') == warned + strlen(warned) - 1);
	check_not_found("v.com/c=y", "d", ENOENT, "4 of their files cannot be used: ");
	CHECK_HAS(err.text, "/d/bad.json: bad JSON");
}

TEST(a_link_to_a_specification_is_one)
{
	mkdir("d", 0755);
	put_spec("real", "x", "env: [A=1]");
	CHECK_EQ(symlink("../real", "d/link.yaml"), 0);
	check_found("v.com/c=x", "d", "[link.yaml]\n[link.yaml]\nenv A=1\n");
}

TEST(all_is_a_name_or_else_every_device)
{
	mkdir("d", 0755);
	put_spec("d/a.yaml", "x", "env: [X=1]");
	put_spec("d/b.yaml", "y", "env: [Y=1]");
	check_found("v.com/c=all v.com/c=x", "d", "[a.yaml]\n[a.yaml]\nenv X=1\n[b.yaml]\n[b.yaml]\nenv Y=1\n");
	put_spec("d/c.yaml", "all", "env: [ALL=1]");
	check_found("v.com/c=all", "d", "[c.yaml]\n[c.yaml]\nenv ALL=1\n");
}

/* The file's own edits come once, before the first of its devices, and what comes later wins a place. */
TEST(edits_are_merged_in_order)
{
	mkdir("d", 0755);
	put("d/a.yaml",
	    "cdiVersion: 0.5.0\nkind: v.com/c\n"
	    "containerEdits: {env: [ALL=1, ALL=2], mounts: [{hostPath: /usr, containerPath: /x},\n"
	    "  {hostPath: /bin, containerPath: /x/}, {hostPath: /etc, containerPath: /y}]}\n"
	    "devices:\n"
	    "- {name: p, containerEdits: {deviceNodes: [{path: /dev/null}, {path: /dev/zero}], env: [P=1]}}\n"
	    "- {name: q, containerEdits: {deviceNodes: [{path: /dev/null, permissions: r}],\n"
	    "   mounts: [{hostPath: /var, containerPath: /y, options: [ro, sync]}]}}\n");
	check_found("v.com/c=p v.com/c=q v.com/c=p", "d",
		    "[a.yaml]\nmount /bin>/x\nenv ALL=2\n"
		    "[a.yaml]\nnode /dev/zero>/dev/zero ? -1:-1 * 0 -1/-1\nenv P=1\n"
		    "[a.yaml]\nnode /dev/null>/dev/null ? -1:-1 r 0 -1/-1\nmount /var>/y ro sync\n");
	CHECK_HAS(warned, "/d/a.yaml: mount /y: the option 'sync' is not kept");
}

TEST(nodes_are_what_the_file_says_or_it_is_out_of_date)
{
	mkdir("d", 0755);
	put_spec("d/a.yaml", "good",
		 "deviceNodes: [{path: /dev/null, type: c, major: 1, minor: 3}, {path: /x, hostPath: /dev/zero}]");
	put_spec("d/b.yaml", "number", "deviceNodes: [{path: /dev/null, type: c, major: 1, minor: 5}]");
	put_spec("d/c.yaml", "type", "deviceNodes: [{path: /dev/null, type: b}]");
	put_spec("d/d.yaml", "file", "deviceNodes: [{path: /etc/passwd}]");
	put_spec("d/e.yaml", "none", "deviceNodes: [{path: /dev/vial-has-none}]");
	put_spec("d/f.yaml", "shut", "deviceNodes: [{path: /dev/null, permissions: none}]");
	check_found(
		"v.com/c=good", "d",
		"[a.yaml]\n[a.yaml]\nnode /dev/null>/dev/null c 1:3 * 0 -1/-1\nnode /dev/zero>/x ? -1:-1 * 0 -1/-1\n");
	check_not_found("v.com/c=number", "d", ESTALE,
			"/dev/null is device 1:3 and not 1:5; the file must be written anew");
	check_not_found("v.com/c=type", "d", ESTALE, "/dev/null is of type c and not b");
	check_not_found("v.com/c=file", "d", ENODEV, "/etc/passwd is no device node");
	check_not_found("v.com/c=none", "d", ENOENT, "the device node /dev/vial-has-none");
	check_found("v.com/c=shut", "d",
		    "[f.yaml]\n[f.yaml]\nmount /dev/null>/dev/null\nshut /dev/zero\n"); /* without PLAN_DEVICES */
}

/* Of the same kind, whatever file describes them, and not what the chosen one needs too. */
TEST(other_devices_of_the_kind_are_shut)
{
	mkdir("d", 0755);
	put("d/a.yaml",
	    "cdiVersion: 0.5.0\nkind: v.com/c\ncontainerEdits: {deviceNodes: [{path: /dev/tty}]}\ndevices:\n"
	    "- {name: x, containerEdits: {deviceNodes: [{path: /dev/null}, {path: /dev/random}]}}\n"
	    "- {name: x-too, containerEdits: {deviceNodes: [{path: /dev/null}]}}\n"
	    "- {name: 'y', containerEdits: {deviceNodes: [{path: /dev/zero}, {path: /dev/random}, {path: /dev/tty}]}}\n"
	    "- {name: all, containerEdits: {deviceNodes: [{path: /dev/null}, {path: /dev/zero}, {path: "
	    "/dev/random}]}}\n");
	put_spec("d/b.yaml", "z", "deviceNodes: [{path: /dev/full}]");
	put_spec("d/d.yaml", "gone", "deviceNodes: [{path: /dev/vial-has-none}, {path: /etc/passwd}]");
	put("d/c.yaml", "cdiVersion: 0.5.0\nkind: v.com/other\ndevices:\n"
			"- {name: o, containerEdits: {deviceNodes: [{path: /dev/urandom}]}}\n");
	VL_FREE char *got = NULL, *all = NULL;
	CHECK_EQ(find("v.com/c=x", "d", &got), 0);
	CHECK_STR(strstr(got, "shut"), "shut /dev/zero\nshut /dev/full\n");
	CHECK_EQ(find("v.com/c=all v.com/c=z", "d", &all), 0);
	CHECK(!strstr(all, "shut"));
}

TEST(what_takes_root_is_refused_when_it_is_needed)
{
	mkdir("d", 0755);
	put("d/a.yaml",
	    "cdiVersion: 1.1.0\nkind: v.com/c\ndevices:\n"
	    "- {name: fine, containerEdits: {env: [A=1]}}\n"
	    "- {name: rdt, containerEdits: {intelRdt: {closID: x}}}\n"
	    "- {name: net, containerEdits: {netDevices: [{hostInterfaceName: e, name: f}]}}\n"
	    "- {name: tmp, containerEdits: {mounts: [{hostPath: tmpfs, containerPath: /x, type: tmpfs}]}}\n");
	check_found("v.com/c=fine", "d", "[a.yaml]\n[a.yaml]\nenv A=1\n");
	check_not_found("v.com/c=rdt", "d", ENOTSUP, "a.yaml asks for classes of cache and memory bandwidth");
	check_not_found("v.com/c=net", "d", ENOTSUP, "asks for network interfaces of the host");
	check_not_found("v.com/c=tmp", "d", ENOTSUP, "asks for a mount that is no bind");
}

TEST(directories_of_libraries_come_after_the_images)
{
	mkdir("d", 0755);
	put_spec("d/a.yaml", "x", "env: [LD_LIBRARY_PATH=/a:/b, LAST=1]");
	check_found("v.com/c=x", "d", "[a.yaml]\n[a.yaml]\nenv LAST=1\nlibs /a\nlibs /b\n");
}

/* ---- hooks ------------------------------------------------------------------------------------------ */

TEST(hooks_go_to_the_plan_or_are_refused)
{
	GPU_EDITS struct gpu_edits e = { 0 };
	PLAN struct plan p = PLAN_INIT;

	gpu_add_hook(&e, "createContainer", "/bin/a");
	gpu_add_hook(&e, "startContainer", "/bin/b")->timeout = 3;
	vl_strv_add(&e.hooks[1].args, "name");
	CHECK_EQ(gpu_hooks_apply(&e, &p, "why", &err), 0);
	CHECK_EQ(e.n_hooks, 0);
	CHECK_EQ(p.n_hooks, 2);
	CHECK(!p.hooks[0].inside && p.hooks[1].inside && p.hooks[1].timeout == 3);
	CHECK_STR(p.hooks[0].argv.v[0], "/bin/a");
	CHECK_STR(p.hooks[1].argv.v[0], "name");
	gpu_add_hook(&e, "poststop", "/bin/c");
	CHECK_EQ(gpu_hooks_apply(&e, &p, "why", &err), -ENOTSUP);
	CHECK_HAS(err.text, "why: the hook /bin/c of kind poststop cannot be run: it is meant for outside");
}

/* ---- writing ---------------------------------------------------------------------------------------- */

TEST(what_is_written_reads_as_the_same)
{
	GPU_EDITS struct gpu_edits one = { 0 }, all = { 0 };
	const struct gpu_cdi_named devices[] = { { "0", &one }, { "all", &one } };

	struct gpu_node *n = gpu_add_node(&one, "/dev/null", "/dev/x");
	n->type = 'c';
	n->major = 1;
	n->minor = 3;
	n->mode = 0666;
	strcpy(n->access, "rw");
	gpu_add_node(&one, "/dev/vial-has-none", "/dev/y")->optional = true;
	gpu_add_mount(&all, "/usr/lib/libx.so.1", "/libs/libx.so.1");
	vl_strv_add(&all.mounts[0].options, "ro");
	gpu_add_env(&all, "A=yes");
	gpu_add_lib_dir(&all, "/libs");
	gpu_add_lib_dir(&all, "/libs32");
	gpu_add_gid(&all, 44);
	vl_strv_add(&gpu_add_hook(&all, "createContainer", "/bin/h")->args, "h");
	for (int yaml = 0; yaml < 2; yaml++) {
		VL_FREE char *text = NULL;
		if (gpu_cdi_write("v.com/c", devices, 2, &all, yaml, &text, &err) < 0)
			CHECK_FAIL("%s", err.text);
		VL_FREE char *s = spec_text(text, yaml);
		CHECK_STR(s, "v.com/c of 0.7.0\n"
			     "mount /usr/lib/libx.so.1>/libs/libx.so.1 ro nosuid nodev rprivate rbind\n"
			     "hook createContainer /bin/h 0 h |\n"
			     "env A=yes\nenv LD_LIBRARY_PATH=/libs:/libs32\ngid 44\n"
			     "= 0\nnode /dev/null>/dev/x c 1:3 rw 666 -1/-1\n"
			     "= all\nnode /dev/null>/dev/x c 1:3 rw 666 -1/-1\n");
		CHECK_HAS(text, yaml ? "cdiVersion: \"0.7.0\"" : "\"cdiVersion\": \"0.7.0\"");
	}
	VL_FREE char *none = NULL;
	CHECK_EQ(gpu_cdi_write("nonsense", devices, 1, NULL, true, &none, &err), -EINVAL);
	CHECK_EQ(gpu_cdi_write("v.com/c", devices, 0, NULL, true, &none, &err), -EINVAL);
}
