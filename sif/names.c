/* Numbers to words. The words are those that scripts around SIF already look for. */
#include "format.h"

#include <stdio.h>
#include <sys/utsname.h>

struct word {
	uint32_t number;
	const char *word;
};

static const struct word types[] = {
	{ SIF_DEFFILE, "Def.FILE" },    { SIF_ENVVAR, "Env.Vars" },
	{ SIF_LABELS, "JSON.Labels" },  { SIF_PARTITION, "FS" },
	{ SIF_SIGNATURE, "Signature" }, { SIF_JSON, "JSON.Generic" },
	{ SIF_GENERIC, "Generic/Raw" }, { SIF_CRYPTO_MESSAGE, "Cryptographic Message" },
	{ SIF_SBOM, "SBOM" },           { SIF_OCI_INDEX, "OCI.RootIndex" },
	{ SIF_OCI_BLOB, "OCI.Blob" },
};
static const struct word systems[] = {
	{ SIF_FS_SQUASHFS, "Squashfs" },
	{ SIF_FS_EXT3, "Ext3" },
	{ SIF_FS_ARCHIVE, "Archive" },
	{ SIF_FS_RAW, "Raw" },
	{ SIF_FS_LUKS_SQUASHFS, "Encrypted squashfs" },
	{ SIF_FS_GOCRYPTFS, "Gocryptfs squashfs" },
};
static const struct word parts[] = {
	{ SIF_PART_SYSTEM, "System" },
	{ SIF_PART_PRIMARY, "*System" },
	{ SIF_PART_DATA, "Data" },
	{ SIF_PART_OVERLAY, "Overlay" },
};
static const struct word hashes[] = {
	{ SIF_HASH_SHA256, "SHA-256" },      { SIF_HASH_SHA384, "SHA-384" },      { SIF_HASH_SHA512, "SHA-512" },
	{ SIF_HASH_BLAKE2S, "BLAKE2s-256" }, { SIF_HASH_BLAKE2B, "BLAKE2b-256" },
};
static const struct word sboms[] = {
	{ 1, "cyclonedx-json" }, { 2, "cyclonedx-xml" },  { 3, "github-json" }, { 4, "spdx-json" },
	{ 5, "spdx-rdf" },       { 6, "spdx-tag-value" }, { 7, "spdx-yaml" },   { 8, "syft-json" },
};
static const struct word message_formats[] = { { 1, "OpenPGP" }, { 2, "PEM" } };
static const struct word message_types[] = { { 0x100, "Clear Signature" }, { 0x200, "RSA-OAEP" } };

/* OCI names in the order of the format's codes; index = code. */
static const char *const arches[] = {
	"unknown", "386",    "amd64",  "arm",      "arm64", "ppc64",   "ppc64le",
	"mips",    "mipsle", "mips64", "mips64le", "s390x", "riscv64", "loong64",
};

static const char *find(const struct word *w, size_t n, uint32_t number)
{
	for (size_t i = 0; i < n; i++)
		if (w[i].number == number)
			return w[i].word;
	return "Unknown";
}

const char *sif_type_name(uint32_t type)
{
	return find(types, VL_COUNT(types), type);
}

const char *sif_fs_name(uint32_t fs)
{
	return find(systems, VL_COUNT(systems), fs);
}

const char *sif_part_name(uint32_t part)
{
	return find(parts, VL_COUNT(parts), part);
}

const char *sif_hash_name(uint32_t hash)
{
	return find(hashes, VL_COUNT(hashes), hash);
}

const char *sif_sbom_name(uint32_t format)
{
	return find(sboms, VL_COUNT(sboms), format);
}

uint32_t sif_sbom_number(const char *word)
{
	for (size_t i = 0; i < VL_COUNT(sboms); i++)
		if (vl_streq(sboms[i].word, word))
			return sboms[i].number;
	return 0;
}

const char *sif_arch_name(const char code[3])
{
	if (code[0] < '0' || code[0] > '9' || code[1] < '0' || code[1] > '9' || code[2])
		return "unknown";
	size_t i = (size_t)(code[0] - '0') * 10 + (size_t)(code[1] - '0');
	return i < VL_COUNT(arches) ? arches[i] : "unknown";
}

const char *sif_arch_code(const char *name)
{
	static const char codes[][3] = { "00", "01", "02", "03", "04", "05", "06",
					 "07", "08", "09", "10", "11", "12", "13" };

	for (size_t i = 1; i < VL_COUNT(arches); i++)
		if (vl_streq(arches[i], name))
			return codes[i];
	return NULL;
}

const char *sif_host_arch(void)
{
	static const struct {
		const char *machine, *name;
	} known[] = {
		{ "x86_64", "amd64" },    { "aarch64", "arm64" },       { "i686", "386" },    { "i586", "386" },
		{ "i386", "386" },        { "ppc64le", "ppc64le" },     { "ppc64", "ppc64" }, { "s390x", "s390x" },
		{ "riscv64", "riscv64" }, { "loongarch64", "loong64" }, { "armv7l", "arm" },  { "armv6l", "arm" },
	};
	struct utsname u;

	if (uname(&u) == 0)
		for (size_t i = 0; i < VL_COUNT(known); i++)
			if (vl_streq(known[i].machine, u.machine))
				return known[i].name;
	return "unknown";
}

char *sif_descr_words(const struct sif_descr *d)
{
	const char *type = sif_type_name(d->type);
	char arch[4];

	switch (d->type) {
	case SIF_PARTITION:
		sif_part_arch(d, arch);
		return vl_asprintf("%s (%s/%s/%s)", type, sif_fs_name(sif_part_fs(d)), sif_part_name(sif_part_type(d)),
				   sif_arch_name(arch));
	case SIF_SIGNATURE:
		return vl_asprintf("%s (%s)", type, sif_hash_name(vl_le32(d->extra)));
	case SIF_CRYPTO_MESSAGE:
		return vl_asprintf("%s (%s/%s)", type,
				   find(message_formats, VL_COUNT(message_formats), vl_le32(d->extra)),
				   find(message_types, VL_COUNT(message_types), vl_le32(d->extra + 4)));
	case SIF_SBOM:
		return vl_asprintf("%s (%s)", type, sif_sbom_name(vl_le32(d->extra)));
	case SIF_GENERIC:
		if (!strncmp((const char *)d->name, SIF_TREE_NAME, sizeof d->name))
			return vl_asprintf("%s (hash tree, root)", type);
		if (!strncmp((const char *)d->name, SIF_TREE_BLOCKS_NAME, sizeof d->name))
			return vl_asprintf("%s (hash tree)", type);
		return vl_strdup(type);
	default:
		return vl_strdup(type);
	}
}

void sif_uuid_text(const uint8_t uuid[16], char ret[37])
{
	size_t at = 0;

	for (size_t i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			ret[at++] = '-';
		vl_hex(uuid + i, 1, ret + at);
		at += 2;
	}
}

static char *text_field(const void *p, size_t n)
{
	return vl_printable(p, strnlen(p, n));
}

char *sif_name(const struct sif_descr *d)
{
	return text_field(d->name, sizeof d->name);
}

char *sif_launch(const struct sif_header *h)
{
	size_t n = strnlen((const char *)h->launch, sizeof h->launch);
	return text_field(h->launch, n && h->launch[n - 1] == '\n' ? n - 1 : n);
}
