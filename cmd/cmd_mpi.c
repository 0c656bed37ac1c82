/* `mpi check`: will the ranks of an image find each other under Slurm? */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/image.h>

#define SLURM_CONF_MAX (4u << 20) /* bytes; of a large site, a tenth of it */

#define O(f) offsetof(struct cmd_mpi_opts, f)
const struct opt cmd_mpi_options[] = {
	{ 0, "mpi", OPT_STR, O(mpi), "TYPE",
	  "as srun's: pmix, pmi2, none; without it, what this host's Slurm does by default", NULL, 0 },
	{ 0, "json", OPT_FLAG, O(json), NULL, "print everything as JSON", NULL, 0 },
	CMD_NET_OPTS(struct cmd_mpi_opts, net),
	OPT_END,
};
#undef O

/* ---- what srun would do ---- */

struct slurm {
	char *type; /* NULL: not known */
	const char *origin;
};

/* What MpiDefault is; keys have no case, the last one counts, and Slurm's own default is none. Returns new. */
static char *mpi_default(const char *conf)
{
	static const char key[] = "MpiDefault", blank[] = " \t";
	const char *value = "none";

	for (const char *line = conf; line; line = strchr(line, '\n')) {
		line += strspn(line, "\n \t\r");
		if (strncasecmp(line, key, strlen(key)) != 0)
			continue;
		const char *p = line + strlen(key);
		p += strspn(p, blank);
		if (*p == '=')
			value = p + 1 + strspn(p + 1, blank);
	}
	return vl_strndup(value, strcspn(value, " \t\r\n#"));
}

static bool is_type(const char *type)
{
	return vl_streq(type, "none") || vl_streq(type, "pmi2") || vl_prefix(type, "pmix") || vl_prefix(type, "cray");
}

static void ask_slurm(const struct cmd_mpi_opts *o, struct slurm *ret)
{
	const char *path = getenv("SLURM_CONF"), *type = getenv("SLURM_MPI_TYPE");
	VL_FREE char *conf = NULL;
	struct vl_err none = { 0 };
	size_t len = 0;

	path = path && *path ? path : "/etc/slurm/slurm.conf";
	if (o->mpi || (type && *type)) {
		ret->type = vl_strdup(o->mpi ? o->mpi : type);
		ret->origin = o->mpi ? "--mpi" : "SLURM_MPI_TYPE";
	} else if (vl_read_file(AT_FDCWD, path, SLURM_CONF_MAX, &conf, &len, &none) == 0) {
		ret->type = mpi_default(conf);
		ret->origin = "MpiDefault";
	}
}

/* Any version of pmix counts as such: "pmix_v4". */
static unsigned served_by(const char *type)
{
	return vl_prefix(type, "pmix") ? IMG_MPI_PMIX : vl_streq(type, "pmi2") ? IMG_MPI_PMI2 : 0;
}

/* ---- what is said about it ---- */

static const char *pmi_words(unsigned pmi)
{
	static const char *const words[] = { "none that is known", "PMI-2", "PMIx", "PMI-2, PMIx" };

	return words[pmi & (IMG_MPI_PMI2 | IMG_MPI_PMIX)];
}

static const char *advice(unsigned pmi)
{
	return pmi & IMG_MPI_PMIX   ? "srun --mpi=pmix"
	       : pmi & IMG_MPI_PMI2 ? "srun --mpi=pmi2"
				    : "mpirun inside of the image";
}

static bool meets(const struct img_mpi *v, size_t n, const struct slurm *s)
{
	bool all = n > 0;

	for (size_t i = 0; i < n && s->type; i++)
		all = all && v[i].pmi & served_by(s->type);
	return all;
}

static void print_text(const struct img_mpi *v, size_t n, const struct slurm *s, const char *word)
{
	if (!n)
		printf("%s has no MPI library: no libmpi.so or libmpich.so\n", word);
	for (size_t i = 0; i < n; i++) {
		VL_FREE char *path = vl_printable(v[i].path, strlen(v[i].path));
		printf("MPI    %s%s%s (%s)\n", v[i].family, *v[i].series ? " " : "", v[i].series, path);
		printf("ABI    %s\n", v[i].abi);
		printf("PMI    %s\n", pmi_words(v[i].pmi));
		printf("start  %s\n", advice(v[i].pmi));
		if (!s->type)
			continue;
		VL_FREE char *type = vl_printable(s->type, strlen(s->type));
		if (v[i].pmi & served_by(s->type))
			printf("here   --mpi=%s (%s): ranks find each other\n", type, s->origin);
		else
			printf("here   --mpi=%s (%s): each rank would start alone, or not at all\n", type, s->origin);
	}
}

static void print_json(const struct img_mpi *v, size_t n, const struct slurm *s, const char *word)
{
	VL_JSON vl_json *all = vl_json_new_obj();
	vl_json *list = vl_json_new_arr();

	for (size_t i = 0; i < n; i++) {
		vl_json *j = vl_json_new_obj(), *pmi = vl_json_new_arr();
		vl_json_set(j, "path", vl_json_new_str(v[i].path));
		vl_json_set(j, "family", vl_json_new_str(v[i].family));
		if (*v[i].series)
			vl_json_set(j, "series", vl_json_new_str(v[i].series));
		vl_json_set(j, "abi", vl_json_new_str(v[i].abi));
		if (v[i].pmi & IMG_MPI_PMI2)
			vl_json_add(pmi, vl_json_new_str("pmi2"));
		if (v[i].pmi & IMG_MPI_PMIX)
			vl_json_add(pmi, vl_json_new_str("pmix"));
		vl_json_set(j, "pmi", pmi);
		vl_json_add(list, j);
	}
	vl_json_set(all, "image", vl_json_new_str(word));
	vl_json_set(all, "mpi", list);
	if (s->type) {
		vl_json_set(all, "type", vl_json_new_str(s->type));
		vl_json_set(all, "origin", vl_json_new_str(s->origin));
		vl_json_set(all, "meets", vl_json_new_bool(meets(v, n, s)));
	}
	VL_FREE char *text = vl_json_text(all, true);
	puts(text);
}

int cmd_mpi_check_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_mpi_opts *o = opts;
	IMAGE_PATH struct image_path p = { .image = ACTION_IMAGE_INIT };
	struct slurm s = { 0 };
	struct img_root root;
	struct img_mpi *v = NULL;
	struct vl_err err = { 0 };
	size_t n = 0;
	int signal = 0;

	(void)self, (void)argc;
	if (o->mpi && !is_type(o->mpi))
		return cmd_usage(c, "--mpi takes pmix, pmi2 or none, not '%s'", o->mpi);
	int r = cmd_image_path_open(c, argv[0], &o->net, &p, &root, &err);
	if (r == 0)
		r = img_mpi_find(&root, &v, &n, &signal, &err);
	if (r < 0)
		return cmd_view_failed(c, r, signal, &err);
	ask_slurm(o, &s);
	(o->json ? print_json : print_text)(v, n, &s, p.word);
	int status = meets(v, n, &s) ? 0 : 1;
	img_mpi_free(v, n);
	free(s.type);
	return status;
}
