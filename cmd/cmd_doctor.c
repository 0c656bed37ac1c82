/* doctor: the steps of a start, tried one by one on this host as this user, and what mends those that fail. */
#include "doctor.h"

#include <stdio.h>

const struct opt cmd_doctor_opts[] = {
	{ 0, "json", OPT_FLAG, offsetof(struct cmd_doctor_opts, json), NULL, "print JSON", NULL, 0 },
	{ 0, "registry", OPT_STR, offsetof(struct cmd_doctor_opts, registry), "HOST[:PORT]",
	  "also: can this registry be reached?", NULL, 0 },
	OPT_END,
};

static void add_str(vl_json *j, const char *key, const char *value)
{
	if (value)
		vl_json_set(j, key, vl_json_new_str(value));
}

static void print_safe(const char *s)
{
	VL_FREE char *safe = vl_printable(s, strlen(s));

	fputs(safe, stdout);
}

static void print_line(enum doctor_state state, const char *what, const char *why, const char *mend)
{
	static const char *const words[] = { "ok", "note", "PROBLEM" };

	printf("%-8s ", words[state]);
	print_safe(what);
	if (why) {
		fputs(": ", stdout);
		print_safe(why);
	}
	putchar('\n');
	if (mend) {
		fputs("         -> ", stdout);
		print_safe(mend);
		putchar('\n');
	}
}

void cmd_doctor_say(struct doctor *d, enum doctor_state state, const char *what, const char *why, const char *mend)
{
	static const char *const words[] = { "ok", "note", "problem" };

	d->problem |= state == DOCTOR_PROBLEM;
	if (!d->lines) {
		print_line(state, what, why, mend);
		return;
	}
	vl_json *j = vl_json_new_obj();
	add_str(j, "check", what);
	add_str(j, "state", words[state]);
	add_str(j, "why", why);
	add_str(j, "mend", mend);
	vl_json_add(d->lines, j);
}

void cmd_doctor_step(struct doctor *d, enum doctor_state bad, const char *what, int r, const struct vl_err *err,
		     const char *good)
{
	static const char root[] = "; as root: ";
	const char *mend = r < 0 ? strstr(err->text, root) : NULL;
	VL_FREE char *why = r < 0 ? vl_strndup(err->text, mend ? (size_t)(mend - err->text) : strlen(err->text)) : NULL;
	VL_FREE char *command = mend ? vl_asprintf("as root: %s", mend + sizeof root - 1)
				: why && strstr(why, "seccomp")
					? vl_strdup("allow it around this shell; with docker or "
						    "podman: --security-opt seccomp=unconfined")
					: NULL;

	cmd_doctor_say(d, r < 0 ? bad : DOCTOR_OK, what, r < 0 ? why : good, command);
}

char *cmd_doctor_program(const char *name)
{
	return vl_find_program(name, "/usr/bin:/bin:/usr/sbin:/sbin");
}

static void open_image(struct doctor *d, const char *word)
{
	static const struct net_opts none;
	struct vl_err err = { 0 };
	int r = cmd_action_image(d->c, word, &none, false, &d->image, &err);

	if (r < 0)
		cmd_doctor_say(d, DOCTOR_PROBLEM, "image", err.code ? err.text : "it cannot be fetched", NULL);
}

int cmd_doctor_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_doctor_opts *o = opts;
	struct doctor d = { .c = c, .o = o, .image = ACTION_IMAGE_INIT };

	(void)self;
	d.lines = o->json ? vl_json_new_arr() : NULL;
	setvbuf(stdout, NULL, _IOLBF,
		0); /* children must find nothing to print again; and who waits sees how far it is */
	if (argc)
		open_image(&d, argv[0]);
	cmd_doctor_kernel(&d);
	cmd_doctor_files(&d);
	cmd_doctor_host(&d);
	if (o->json) {
		VL_JSON vl_json *all = vl_json_new_obj();
		vl_json_set(all, "works", vl_json_new_bool(!d.problem));
		vl_json_set(all, "checks", d.lines);
		VL_FREE char *text = vl_json_text(all, true);
		puts(text);
	} else {
		puts(d.problem ? "containers cannot run here" : "containers can run here");
	}
	cmd_action_image_free(&d.image);
	return d.problem;
}
