#include <vial/base.h>

#include <stdio.h>

static const struct {
	enum vl_level level;
	const char *word, *name, *color;
} words[] = {
	/* log scrapers match the first word and its column */
	{ VL_FATAL, "FATAL:   ", "fatal", "\033[31m" },     { VL_ERROR, "ERROR:   ", "error", "\033[31m" },
	{ VL_WARNING, "WARNING: ", "warning", "\033[33m" }, { VL_LOG, "", "log", "" },
	{ VL_INFO, "INFO:    ", "info", "\033[34m" },       { VL_VERBOSE, "VERBOSE: ", "verbose", "\033[34m" },
	{ VL_DEBUG, "DEBUG:   ", "debug", "\033[34m" },
};

static void put_json_string(struct vl_buf *b, const char *s)
{
	vl_buf_adds(b, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			vl_buf_addf(b, "\\%c", c);
		else if (c < 32)
			vl_buf_addf(b, "\\u%04x", c);
		else
			vl_buf_add(b, s, 1);
	}
	vl_buf_adds(b, "\"");
}

void vl_logf(const struct vl_log *l, enum vl_level level, const char *fmt, ...)
{
	VL_BUF struct vl_buf b = { 0 };
	size_t i = 0;
	va_list ap;

	if (level > l->level)
		return;
	while (i + 1 < VL_COUNT(words) && words[i].level != level)
		i++;
	va_start(ap, fmt);
	VL_FREE char *text = vl_vasprintf(fmt, ap);
	va_end(ap);
	/* one line, and nothing that a terminal obeys: names inside images come along in messages */
	VL_FREE char *shown = vl_printable(text, strlen(text));
	if (l->json) {
		vl_buf_addf(&b, "{\"level\":\"%s\",\"msg\":", words[i].name);
		put_json_string(&b, text);
		vl_buf_adds(&b, "}\n");
	} else {
		vl_buf_addf(&b, "%s%s%s%s\n", l->color ? words[i].color : "", words[i].word,
			    l->color && *words[i].color ? "\033[0m" : "", shown);
	}
	/* one write: lines of concurrent tasks do not mix */
	(void)!vl_write_full(l->fd, b.data, b.len);
}

void vl_progress_step(const struct vl_progress *p, const char *what, uint64_t done, uint64_t total)
{
	if (p && p->step)
		p->step(p->arg, what, done, total);
}

void vl_progress_warn(const struct vl_progress *p, const char *fmt, ...)
{
	if (!p || !p->warn)
		return;
	va_list ap;
	va_start(ap, fmt);
	VL_FREE char *text = vl_vasprintf(fmt, ap);
	va_end(ap);
	p->warn(p->arg, text);
}

void vl_progress_note(const struct vl_progress *p, const char *fmt, ...)
{
	if (!p || !p->note)
		return;
	va_list ap;
	va_start(ap, fmt);
	VL_FREE char *text = vl_vasprintf(fmt, ap);
	va_end(ap);
	p->note(p->arg, text);
}
