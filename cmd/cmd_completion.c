/* Shell completion. The scripts know no command and no option: they ask `vial help --words`,
 * so they never fall behind the program they complete. */
#include "commands.h"

#include <stdio.h>

/* a line of the script is a line here: */
/* clang-format off */
static const char bash[] =
	"# bash completion of vial: source it, or put it into a bash-completion directory\n"
	"_vial() {\n"
	"	local cur=${COMP_WORDS[COMP_CWORD]} i w list=() cmd=()\n"
	"	for ((i = 1; i < COMP_CWORD && ${#cmd[@]} < 2; i++)); do\n"
	"		w=${COMP_WORDS[i]}\n"
	"		case $w in\n"
	"		--log-format | -c | --config) ((i++)) ;;\n"
	"		-*) ;;\n"
	"		*) cmd+=(\"$w\") ;;\n"
	"		esac\n"
	"	done\n"
	"	if [[ ${cmd[0]} == help ]]; then cmd=(\"${cmd[@]:1}\"); fi\n"
	"	w=${COMP_WORDS[COMP_CWORD - 1]}\n"
	"	if [[ $w =~ ^--[a-z0-9-]+$ && ${#cmd[@]} -gt 0 ]]; then\n"
	"		w=$(vial help --words \"${cmd[@]}\" 2>/dev/null | sed -n \"s/^$w\\t.*\\t//p\")\n"
	"		case $w in\n"
	"		DIR* | 'SRC[:DST]') mapfile -t COMPREPLY < <(compgen -d -- \"$cur\") && return ;; # directories\n"
	"		?*) COMPREPLY=() && return ;; # files, which is the default\n"
	"		esac\n"
	"	fi\n"
	"	if [[ $cur == -* && ${#cmd[@]} -gt 0 ]]; then\n"
	"		mapfile -t list < <(vial help --words \"${cmd[@]}\" 2>/dev/null)\n"
	"	elif [[ ${#cmd[@]} -eq 0 ]]; then\n"
	"		mapfile -t list < <(vial help --words 2>/dev/null | sed 's/[ \\t].*//' | sort -u)\n"
	"	elif [[ ${#cmd[@]} -eq 1 ]]; then\n"
	"		mapfile -t list < <(vial help --words 2>/dev/null | sed -n \"s/^${cmd[0]} //p\")\n"
	"	elif [[ \"${cmd[*]}\" =~ ^instance\\ (logs|stats|stop|unit)$ ]]; then\n"
	"		mapfile -t list < <(vial instance list 2>/dev/null | sed '1d; s/ .*//')\n"
	"	fi\n"
	"	COMPREPLY=()\n"
	"	for w in \"${list[@]%%$'\\t'*}\"; do\n"
	"		[[ -n $w && $w == \"$cur\"* ]] && COMPREPLY+=(\"$w\")\n"
	"	done\n"
	"}\n"
	"complete -o bashdefault -o default -F _vial vial\n";

static const char zsh[] =
	"#compdef vial\n"
	"# zsh completion of vial: put it into a directory of $fpath as _vial\n"
	"_vial() {\n"
	"	local -a cmd list\n"
	"	local w line\n"
	"	for w in ${words[2,CURRENT-1]}; do\n"
	"		[[ $w == -* || $w == help ]] || cmd+=(\"$w\")\n"
	"	done\n"
	"	cmd=(${cmd[1,2]})\n"
	"	if [[ $PREFIX == -* && ${#cmd} -gt 0 ]]; then\n"
	"		for line in ${(f)\"$(vial help --words $cmd 2>/dev/null)\"}; do list+=(\"${${line%$'\\t'*}/$'\\t'/:}\"); done\n"
	"	elif [[ ${#cmd} -eq 0 ]]; then\n"
	"		for line in ${(f)\"$(vial help --words 2>/dev/null)\"}; do list+=(\"${${line%%$'\\t'*}%% *}:${line#*$'\\t'}\"); done\n"
	"	elif [[ ${#cmd} -eq 1 ]]; then\n"
	"		for line in ${(f)\"$(vial help --words 2>/dev/null | sed -n \"s/^$cmd[1] //p\")\"}; do list+=(\"${line/$'\\t'/:}\"); done\n"
	"	fi\n"
	"	if [[ \"$cmd\" == instance\\ (logs|stats|stop|unit) && $PREFIX != -* ]]; then\n"
	"		list=(${${(f)\"$(vial instance list 2>/dev/null)\"}[2,-1]%% *})\n"
	"	fi\n"
	"	(( ${#list} )) && _describe -t words 'vial' list || _files\n"
	"}\n"
	"compdef _vial vial\n";

static const char fish[] =
	"# fish completion of vial: put it into a completions directory as vial.fish\n"
	"function __vial_words\n"
	"	set -l cmd\n"
	"	for w in (commandline -opc)[2..-1]\n"
	"		string match -qr '^(-.*|help)$' -- $w; or set -a cmd $w\n"
	"	end\n"
	"	set -l n (count $cmd)\n"
	"	if string match -q -- '-*' (commandline -ct); and test $n -gt 0\n"
	"		vial help --words $cmd[1..(math min $n,2)] 2>/dev/null | string replace -r '\\t[^\\t]*$' ''\n"
	"	else if test $n -eq 0\n"
	"		vial help --words 2>/dev/null | string replace -r '^(\\S+) [^\\t]*' '$1'\n"
	"	else if test $n -eq 1\n"
	"		vial help --words 2>/dev/null | string replace -rf \"^$cmd[1] \" ''\n"
	"	else if test $n -eq 2; and string match -qr '^instance (logs|stats|stop|unit)$' -- \"$cmd\"\n"
	"		vial instance list 2>/dev/null | sed '1d; s/ .*//'\n"
	"	end\n"
	"end\n"
	"complete -c vial -a '(__vial_words)'\n";
/* clang-format on */

int cmd_completion_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self, (void)opts, (void)argc;
	static const struct {
		const char *shell, *script;
	} scripts[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };

	for (size_t i = 0; i < VL_COUNT(scripts); i++)
		if (vl_streq(argv[0], scripts[i].shell))
			return fputs(scripts[i].script, stdout) < 0;
	return cmd_usage(c, "no completion for '%s'; there is bash, zsh and fish", argv[0]);
}
