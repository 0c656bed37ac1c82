/* The linker's cache, as glibc has written it since 2.2: sysdeps/generic/dl-cache.h. Read by ourselves, because a
 * program called ldconfig is not on everybody's PATH, and what is there may be anything. */
#include "host.h"

#define MAGIC "glibc-ld.so.cache1.1"
#define OLD_MAGIC "ld.so-1.7.0"
#define HEADER 48
#define ENTRY 24
#define OLD_HEADER 16
#define OLD_ENTRY 12

/* A string that ends within the file. */
static const char *string_at(const char *data, size_t len, uint32_t off)
{
	return off < len && memchr(data + off, 0, len - off) ? data + off : NULL;
}

/* A file of before 2.32 begins with the table of an older format; ours follows, aligned to 8. */
static int skip_old(const char **data, size_t *len)
{
	if (*len < OLD_HEADER || memcmp(*data, OLD_MAGIC, strlen(OLD_MAGIC)))
		return 0;
	uint64_t end = OLD_HEADER + (uint64_t)vl_le32(*data + 12) * OLD_ENTRY;
	end = (end + 7) & ~7ull;
	if (end > *len)
		return -EBADMSG;
	*data += end;
	*len -= end;
	return 0;
}

int gpu_ldcache(const char *data, size_t len, gpu_ldcache_entry *f, void *arg)
{
	if (skip_old(&data, &len) < 0 || len < HEADER || memcmp(data, MAGIC, strlen(MAGIC)))
		return -EBADMSG;
	uint32_t n = vl_le32(data + 20);
	if (n > (len - HEADER) / ENTRY)
		return -EBADMSG;
	for (uint32_t i = 0; i < n; i++) {
		const char *e = data + HEADER + (size_t)i * ENTRY;
		const char *name = string_at(data, len, vl_le32(e + 4)), *path = string_at(data, len, vl_le32(e + 8));
		if (!name || !path)
			return -EBADMSG;
		if (*path == '/' && !strchr(name, '/'))
			f(arg, name, path);
	}
	return 0;
}
