/* What slurmstepd has done as a user: it is waited for only as long as it may take. Root's affair. */
#include "check.h"

#include <sys/wait.h>

#include "../../slurm-plugin/job.c"

static struct vsp_run plain(void)
{
	return (struct vsp_run){ .cwd = "/", .in = -1, .sock = -1, .seconds = 60, .until = { -1, -1 } };
}

static int sh(const struct vsp_run *run, const char *script)
{
	char *argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)script, NULL };
	gid_t group = 12;

	return vsp_run_as(&(struct vsp_user){ .uid = 4321, .gid = 4322, .groups = &group, .n_groups = 1 }, run, argv);
}

TEST(it_is_the_user_and_tells_how_it_ended)
{
	struct vsp_run run = plain();

	if (geteuid() != 0)
		return;
	CHECK_EQ(sh(&run, "[ \"$(id -u).$(id -g).$(id -G)\" = '4321.4322.4322 12' ]"), 0);
	CHECK_EQ(sh(&run, "exit 7"), 7);
	CHECK_EQ(sh(&run, "kill -9 $$"), 128 + 9);
	run.cwd = "/none";
	CHECK_EQ(sh(&run, "[ \"$(pwd)\" = / ]"), 0);
}

TEST(it_has_no_descriptors_but_those_it_is_given)
{
	int in[2], sock[2];
	struct vsp_run run = plain();

	if (geteuid() != 0)
		return;
	CHECK_EQ(pipe(in), 0); /* not close-on-exec, all of them */
	CHECK_EQ(pipe(sock), 0);
	CHECK_EQ(sh(&run, "for f in 3 4 5 6 7 8; do [ ! -e /proc/$$/fd/$f ] || exit 5; done"), 0);
	run.in = in[0];
	run.sock = sock[0];
	CHECK_EQ(write(in[1], "one\n", 4), 4);
	CHECK_EQ(write(sock[1], "two\n", 4), 4);
	CHECK_EQ(sh(&run,
		    "read a && read b <&3 && [ $a$b = onetwo ] && [ ! -e /proc/$$/fd/4 ] && [ ! -e /proc/$$/fd/5 ]"),
		 0);
}

TEST(what_lasts_too_long_or_is_no_longer_wanted_is_killed)
{
	int p[2];
	struct vsp_run run = plain();

	if (geteuid() != 0)
		return;
	run.seconds = 0;
	CHECK_EQ(sh(&run, "exec sleep 1000"), -ETIMEDOUT);
	CHECK_EQ(sh(&run, "kill -STOP $$"), -ETIMEDOUT);
	CHECK_EQ(pipe(p), 0);
	run.seconds = 600;
	run.until[1] = p[0];
	close(p[1]); /* hangs up, as good as readable */
	CHECK_EQ(sh(&run, "exec sleep 1000"), -ECANCELED);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1); /* none is left */
	CHECK_EQ(errno, ECHILD);
}
