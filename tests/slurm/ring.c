/* A number goes round all ranks, each adds its own. A rank that started alone prints a ring of one. With a word: each rank shows
 * where it has mapped a file of such a name. */
#include <mpi.h>
#include <stdio.h>
#include <string.h>
static void show_map(const char *word)
{
	char line[4096];
	FILE *f = fopen("/proc/self/maps", "re");

	while (f && fgets(line, sizeof line, f))
		if (strstr(line, word)) {
			fputs(line, stdout);
			break;
		}
	if (f)
		fclose(f);
}
int main(int argc, char **argv)
{
	int rank, size, token = 0;
	MPI_Init(&argc, &argv);
	if (argc > 1)
		show_map(argv[1]);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	if (rank) {
		MPI_Recv(&token, 1, MPI_INT, rank - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		token += rank;
	}
	if (size > 1)
		MPI_Send(&token, 1, MPI_INT, (rank + 1) % size, 0, MPI_COMM_WORLD);
	if (!rank && size > 1)
		MPI_Recv(&token, 1, MPI_INT, size - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	if (!rank)
		printf("ranks %d, sum %d\n", size, token);
	MPI_Finalize();
	return 0;
}
