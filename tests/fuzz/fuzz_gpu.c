/* Any bytes as a shared object and as a linker's cache, and as the words of lists and conditions. */
#include "fuzz.h"

#include "gpu/host.h"

struct bytes {
	const uint8_t *data;
	size_t size;
};

static ssize_t read_bytes(void *arg, void *p, size_t n, uint64_t off)
{
	const struct bytes *b = arg;

	if (off >= b->size)
		return 0;
	n = VL_MIN(n, b->size - (size_t)off);
	memcpy(p, b->data + off, n);
	return (ssize_t)n;
}

static void entry(void *arg, const char *name, const char *path)
{
	(void)arg;
	if (strchr(name, '/') || *path != '/')
		abort();
	(void)gpu_family_of(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = { data, size };
	GPU_ELF struct gpu_elf e = { 0 };
	VL_FREE char *text = vl_strndup((const char *)data, size);

	if (gpu_elf_load(read_bytes, &b, &e) == 0 && e.needs.n + e.defines.n > 8192)
		abort();
	struct gpu_names exports = { 0 }, wants = { 0 };
	if (gpu_elf_names(read_bytes, &b, &e, &exports, &wants) == 0 && wants.n && !gpu_names_has(&wants, wants.v[0]))
		abort();
	gpu_names_free(&exports);
	gpu_names_free(&wants);
	(void)gpu_lib_kind_of(text);
	VL_FREE char *copy = vl_alloc(size + 1);
	if (size)
		memcpy(copy, data, size);
	(void)gpu_ldcache(copy, size, entry, NULL);
	int r = gpu_requirement(text, "12.4", "550.54.14", NULL, NULL);
	if (r < -1 || r > 1)
		abort();
	(void)gpu_caps_parse(text, NULL);
	VL_FREE VL_UNUSED char *value = gpu_value(text, "Device Minor");
	return 0;
}
