/* Options of exec, run, shell and test. */
#include "run.h"

#define O(f) offsetof(struct action_opts, f)
const struct opt cmd_action_opts[] = {
	{ 'B', "bind", OPT_LIST, O(bind), "SRC[:DST[:OPT]]", "show a host path in the container; OPT is ro or rw",
	  "BIND BINDPATH", 0 },
	{ 0, "mount", OPT_LINES, O(mount), "type=bind,src=S,dst=D[,ro]",
	  "the same in long words, also type=tmpfs,dst=D", "MOUNT", 0 },
	{ 'H', "home", OPT_STR, O(home), "SRC[:DST]", "home directory", "HOME", 0 },
	{ 0, "no-home", OPT_FLAG, O(no_home), NULL, "do not mount the home directory", "NO_HOME", 0 },
	{ 0, "no-mount", OPT_LIST, O(no_mount), "LIST", "leave out: proc sys dev home tmp cwd bind-paths, or a path",
	  "NO_MOUNT", 0 },
	{ 'c', "contain", OPT_FLAG, O(contain), NULL, "empty home and /tmp, minimal /dev, nothing of the host's",
	  "CONTAIN", 0 },
	{ 0, "cwd", OPT_STR, O(cwd), "DIR", "initial directory", "CWD TARGET_CWD PWD TARGET_PWD", 0 },
	{ 0, "pwd", OPT_STR, O(cwd), "DIR", "old name of --cwd", NULL, OPT_HIDDEN },
	{ 'w', "writable", OPT_FLAG, O(writable), NULL, "change a directory image in place", "WRITABLE", 0 },
	{ 0, "writable-tmpfs", OPT_FLAG, O(writable_tmpfs), NULL, "changes go to memory and are thrown away",
	  "WRITABLE_TMPFS", 0 },
	{ 'e', "cleanenv", OPT_FLAG, O(cleanenv), NULL, "do not take over the host's environment", "CLEANENV", 0 },
	{ 0, "env", OPT_ENV, O(env), "KEY=VALUE", "set a variable", NULL, 0 },
	{ 0, "env-file", OPT_LIST, O(env_file), "FILE", "set variables from a file of assignments", "ENV_FILE",
	  OPT_ENV_FIRST },
	{ 0, "no-env", OPT_LIST, O(no_env), "KEY", "do not take over this variable", "NOENV", 0 },
	{ 0, "no-eval", OPT_FLAG, O(no_eval), NULL, "the runscript takes arguments literally", "NO_EVAL", 0 },
	{ 0, "no-umask", OPT_FLAG, O(no_umask), NULL, "umask 0022 instead of the caller's", "NO_UMASK", 0 },
	{ 's', "shell", OPT_STR, O(shell), "PATH", "program of the shell command", "SHELL", OPT_HIDDEN },
	{ 'u', "userns", OPT_FLAG, O(ignored), NULL, "always so here", NULL, OPT_HIDDEN },
	{ 0, "underlay", OPT_FLAG, O(ignored), NULL, "not needed here", NULL, OPT_HIDDEN },
	CMD_NET_OPTS(struct action_opts, net),
	OPT_END,
};
