/* Whose an MPI library is, by its name and by what it contains. Nothing of it is run, or parsed. */
#include <vial/base.h>

enum { OPEN_MPI = 1, MVAPICH = 2, INTEL = 4, CRAY = 8, MPICH = 16 };
static const struct {
	const char *text;
	unsigned means;
} needles[] = {
	{ "Open MPI v", OPEN_MPI },       { "MVAPICH", MVAPICH },          { "Intel(R) MPI", INTEL },
	{ "CRAY MPICH", CRAY },           { "MPICH Version", MPICH },      { "PMI_FD", VL_MPI_WIRE },
	{ "libpmi2.so", VL_MPI_LIB_PMI }, { "libpmi.so", VL_MPI_LIB_PMI }, { "libpmix.so", VL_MPI_LIB_PMIX },
};

/* The others are made of MPICH, and say so too. */
static const struct {
	unsigned means;
	const char *family;
} families[] = { { OPEN_MPI, VL_MPI_OPEN },
		 { MVAPICH, "MVAPICH" },
		 { INTEL, "Intel MPI" },
		 { CRAY, "Cray MPICH" },
		 { MPICH, "MPICH" } };

const char *vl_mpi_number(const char *name)
{
	static const char *const stems[] = { "libmpi", "libmpich", "libmpi_cray", "libmpi_gnu", "libmpi_intel" };

	for (size_t i = 0; i < VL_COUNT(stems); i++) {
		const char *s = vl_prefix(name, stems[i]);
		if (s && *s == '_') /* Cray's say for which compiler: libmpi_gnu_91.so.12 */
			s += 1 + strspn(s + 1, "0123456789");
		if (s && (s = vl_prefix(s, ".so.")) && *s >= '0' && *s <= '9')
			return s;
	}
	return NULL;
}

static unsigned meanings(const char *p, size_t n)
{
	unsigned means = 0;

	for (size_t i = 0; i < VL_COUNT(needles); i++)
		if (memmem(p, n, needles[i].text, strlen(needles[i].text)))
			means |= needles[i].means;
	return means;
}

void vl_mpi_look(struct vl_mpi *m, const void *p, size_t n)
{
	size_t part = VL_MIN(n, (size_t)VL_MPI_NEEDLE_MAX);

	memcpy(m->seam + m->kept, p, part);
	m->means |= meanings(m->seam, m->kept + part) | meanings(p, n);
	memcpy(m->seam, (const char *)p + n - part, part);
	m->kept = part;
}

const char *vl_mpi_family(const struct vl_mpi *m)
{
	for (size_t i = 0; i < VL_COUNT(families); i++)
		if (m->means & families[i].means)
			return families[i].family;
	return NULL;
}
