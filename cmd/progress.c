#include "cmd.h"

#include <stdio.h>

static void draw_bar(const struct cmd_progress *p, uint64_t done, uint64_t total)
{
	static const char full[] = "##############################";
	char a[16], b[16];
	int cells = total ? (int)(VL_MIN(done, total) * 30 / total) : 0;

	vl_human_size(done, a);
	vl_human_size(total, b);
	if (total)
		fprintf(stderr, "\r\033[K%-20s [%-30.*s] %3d%%  %s of %s", p->what, cells, full,
			(int)(done * 100 / total), a, b);
	else
		fprintf(stderr, "\r\033[K%-20s %s", p->what, a);
	fflush(stderr);
}

static void step(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct cmd_progress *p = arg;
	int64_t now = vl_now_ms();
	unsigned percent = total ? (unsigned)(done * 100 / total) : 0;

	if (strncmp(p->what, what, sizeof p->what - 1) != 0) {
		cmd_progress_end(p);
		snprintf(p->what, sizeof p->what, "%s", what);
		p->last_ms = now;
		p->last_percent = 0;
	}
	if (p->c->tty && !p->c->log.json) {
		if (now - p->last_ms < 80 && done < total)
			return;
		draw_bar(p, done, total);
		p->drawn = true;
	} else if (now - p->last_ms < 5000 || percent < p->last_percent + 5) {
		return; /* a log gets a line only for work that takes long */
	} else {
		vl_logf(&p->c->log, VL_INFO, "%s: %u%%", what, percent);
	}
	p->last_ms = now;
	p->last_percent = percent;
}

static void warn(void *arg, const char *text)
{
	struct cmd_progress *p = arg;
	cmd_progress_end(p);
	vl_logf(&p->c->log, VL_WARNING, "%s", text);
}

void cmd_progress_start(struct cmd_progress *p, struct cmd_ctx *c, struct vl_progress *ret)
{
	*p = (struct cmd_progress){ .c = c };
	*ret = (struct vl_progress){ .step = c->log.level >= VL_INFO ? step : NULL, .warn = warn, .arg = p };
}

void cmd_progress_end(struct cmd_progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = false;
}
