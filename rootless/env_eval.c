/* Variables in the values that a user sets: `--env PATH='$PATH:/more'` names the container's PATH. As between double
 * quotes of a shell, but for commands, which are not run: $NAME, ${NAME}, and a backslash that takes their meaning away.
 * A double quote is itself. */
#include "rootless.h"

#define WORD "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* Cuts one piece off *s: a variable's name, true; or text, which is added to `text`. */
static bool next_piece(const char **s, struct vl_buf *text, const char **ret_name, size_t *ret_len)
{
	const char *p = *s;
	bool brace = p[0] == '$' && p[1] == '{';
	const char *name = p + 1 + brace;
	size_t n = 0;

	if (*p == '$')
		n = strspn(name, WORD);
	if (n && vl_is_identifier(name, n) && (!brace || name[n] == '}')) {
		*ret_name = name;
		*ret_len = n;
		*s = name + n + brace;
		return true;
	}
	if (*p == '\\' && p[1] && strchr("$`\\\"", p[1]))
		p++;
	vl_buf_add(text, p, 1);
	*s = p + 1;
	return false;
}

bool ctr_has_reference(const struct plan_env *e, const char *value)
{
	return e->eval && value && strpbrk(value, "$\\");
}

char *ctr_expand(const struct plan_env *e, const struct vl_strv *env, const char *value)
{
	VL_BUF struct vl_buf b = { 0 };
	const char *name;
	size_t n;

	if (!ctr_has_reference(e, value))
		return value ? vl_strdup(value) : NULL;
	vl_buf_adds(&b, "");
	while (*value)
		if (next_piece(&value, &b, &name, &n)) {
			VL_FREE char *key = vl_strndup(name, n);
			const char *v = ctr_env_get(env, key);
			vl_buf_adds(&b, v ? v : "");
		}
	return vl_steal(&b.data);
}

/* Text between references goes into the environment: a command line can be read by everybody. */
static void stash_text(struct vl_buf *word, struct vl_buf *unset, struct vl_strv *env, struct vl_buf *text,
		       unsigned *number)
{
	if (!text->len)
		return;
	VL_FREE char *name = vl_asprintf("VIAL__%u", (*number)++);
	ctr_env_put(env, name, text->data);
	vl_buf_addf(word, "${%s}", name);
	vl_buf_addf(unset, " %s", name);
	text->len = 0;
}

void ctr_stash_word(const struct plan_env *e, const char *value, struct vl_strv *env, unsigned *number,
		    struct vl_buf *word, struct vl_buf *unset)
{
	VL_BUF struct vl_buf text = { 0 };
	const char *name;
	size_t n;

	vl_buf_adds(&text, "");
	vl_buf_adds(word, "\"");
	if (!ctr_has_reference(e, value))
		vl_buf_adds(&text, value);
	else
		while (*value)
			if (next_piece(&value, &text, &name, &n)) {
				stash_text(word, unset, env, &text, number);
				vl_buf_addf(word, "${%.*s-}", (int)n, name);
			}
	stash_text(word, unset, env, &text, number);
	vl_buf_adds(word, "\"");
}
