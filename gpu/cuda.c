/* Versions: of CUDA and of drivers, and the conditions that images state. */
#include "host.h"

#include <ctype.h>

int gpu_version_cmp(const char *a, const char *b)
{
	while (*a || *b) {
		char *end;
		unsigned long x = isdigit((unsigned char)*a) ? strtoul(a, &end, 10) : (end = (char *)a, 0);
		a = end + (*end == '.');
		unsigned long y = isdigit((unsigned char)*b) ? strtoul(b, &end, 10) : (end = (char *)b, 0);
		b = end + (*end == '.');
		if (x != y)
			return x < y ? -1 : 1;
		if ((*a && !isdigit((unsigned char)*a)) || (*b && !isdigit((unsigned char)*b)))
			return 0; /* a suffix says nothing of age */
	}
	return 0;
}

/* The first driver of each branch and the CUDA it came with (CUDA Toolkit release notes, table of driver versions). */
static const struct {
	const char *cuda, *driver;
} table[] = {
	{ "8.0", "367.48" },     { "9.0", "384.81" },     { "9.1", "390.46" },     { "9.2", "396.26" },
	{ "10.0", "410.48" },    { "10.1", "418.39" },    { "10.2", "440.33" },    { "11.0", "450.36.06" },
	{ "11.1", "455.23" },    { "11.2", "460.27.03" }, { "11.3", "465.19.01" }, { "11.4", "470.42.01" },
	{ "11.5", "495.29.05" }, { "11.6", "510.39.01" }, { "11.7", "515.43.04" }, { "11.8", "520.61.05" },
	{ "12.0", "525.60.13" }, { "12.1", "530.30.02" }, { "12.2", "535.54.03" }, { "12.3", "545.23.06" },
	{ "12.4", "550.54.14" }, { "12.5", "555.42.02" }, { "12.6", "560.28.03" }, { "12.7", "565.57.01" },
	{ "12.8", "570.26" },    { "12.9", "575.51.03" }, { "13.0", "580.65.06" }, { "13.1", "590.44.01" },
};

const char *gpu_cuda_of_driver(const char *driver)
{
	const char *best = NULL;

	for (size_t i = 0; i < VL_COUNT(table); i++)
		if (gpu_version_cmp(driver, table[i].driver) >= 0)
			best = table[i].cuda;
	return best;
}

/* From CUDA 11 on, a driver of the first release of a major version runs programs of all its releases. */
const char *gpu_driver_for_cuda(const char *cuda)
{
	bool compatible = gpu_version_cmp(cuda, "11") >= 0;

	for (size_t i = 0; i < VL_COUNT(table); i++) {
		unsigned long major = strtoul(cuda, NULL, 10), own = strtoul(table[i].cuda, NULL, 10);
		if (major == own && (compatible || gpu_version_cmp(table[i].cuda, cuda) >= 0))
			return table[i].driver;
	}
	return NULL;
}

/* ---- NVIDIA_REQUIRE_CUDA ------------------------------------------------------------------------ */

static int compare(const char *value, const char *op, size_t n, const char *want, bool numbers)
{
	if (!value)
		return -1;
	int c = numbers ? gpu_version_cmp(value, want) : strcasecmp(value, want) != 0;
	if (n == 2 && op[1] == '=')
		return *op == '>' ? c >= 0 : *op == '<' ? c <= 0 : *op == '!' ? c != 0 : *op == '=' ? c == 0 : -1;
	return n != 1 ? -1 : *op == '>' ? c > 0 : *op == '<' ? c < 0 : *op == '=' ? c == 0 : -1;
}

/* cuda>=12.4: one of brand=tesla,driver>=470,driver<471 */
static int condition(const char *text, const char *cuda, const char *driver, const char *arch, const char *brand)
{
	const struct {
		const char *key, *value;
		bool numbers;
	} known[] = {
		{ "cuda", cuda, true }, { "driver", driver, true }, { "arch", arch, true }, { "brand", brand, false }
	};
	size_t n = strcspn(text, "<>=!"), op = strspn(text + n, "<>=!");

	for (size_t i = 0; i < VL_COUNT(known); i++)
		if (strlen(known[i].key) == n && !strncmp(text, known[i].key, n))
			return compare(known[i].value, text + n, op, text + n + op, known[i].numbers);
	return -1;
}

/* Commas are "and", blanks are "or". What is not known may hold. */
int gpu_requirement(const char *text, const char *cuda, const char *driver, const char *arch, const char *brand)
{
	VL_FREE char *copy = vl_strdup(text);
	int any = 0;
	bool some = false;

	for (char *save, *clause = strtok_r(copy, " ", &save); clause; clause = strtok_r(NULL, " ", &save)) {
		int all = 1;
		for (char *more, *c = strtok_r(clause, ",", &more); c; c = strtok_r(NULL, ",", &more)) {
			int r = condition(c, cuda, driver, arch, brand);
			all = r == 0 || all == 0 ? 0 : r < 0 || all < 0 ? -1 : 1;
		}
		some = true;
		any = all == 1 || any == 1 ? 1 : all < 0 || any < 0 ? -1 : 0;
	}
	return some ? any : 1;
}
