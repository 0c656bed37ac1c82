#!/usr/bin/env bash
# shellcheck disable=SC2317 # the functions are called by name
# Named checks on the tree and on what it builds, for people and CI alike.
#
#   tests/checks.sh list            their names
#   tests/checks.sh [--tap] NAME... runs them (--tap: as the runner wants it)
#
# A check is a function check_NAME: it prints what is wrong, one place a line, and says in its
# comment which rule it holds. Printing something is failing. O is the build directory.
set -u
cd "$(dirname "$0")/.." || exit 1
O=${O:-build}
export LC_ALL=C

sources() { git ls-files -- '*.c' '*.h'; }
folders="base policy sif oci image mount rootless gpu cmd slurm-plugin"
c_flags="-std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -I. -Itests/unit $(pkg-config --cflags fuse3 2>/dev/null)"
if [ -e /usr/include/isa-l.h ]; then c_flags="$c_flags -DHAVE_ISAL"; fi

# Every error of a start has a test that provokes it, or a reason why it has none.
check_errors() {
	tests/error-texts
}

# Who may include whom (docs/architecture.md). A folder may use its own headers, the public
# headers of the folders named here, and foreign headers only in the file that wraps them.
check_edges() {
	local f folder h want allowed
	for f in $(sources | grep -E "^(${folders// /|})/"); do
		folder=${f%%/*}
		case $folder in
		base) allowed="base" ;;
		policy) allowed="base policy" ;;
		sif | oci) allowed="base $folder" ;;
		mount) allowed="base sif mount" ;;
		image) allowed="base oci sif image" ;;
		rootless) allowed="base mount rootless" ;;
		gpu) allowed="base mount rootless gpu" ;;
		slurm-plugin) allowed="base rootless" ;;
		*) allowed=$folders ;;
		esac
		while read -r h; do
			[[ " $allowed " == *" $h "* ]] || echo "$f: <vial/$h.h> is not for $folder/"
		done < <(sed -n 's/^# *include <vial\/\(.*\)\.h>.*/\1/p' "$f")
		while read -r h; do
			[ -e "$folder/$h" ] || echo "$f: \"$h\" is no header of $folder/"
		done < <(sed -n 's/^# *include "\(.*\)".*/\1/p' "$f")
	done
	# header, and the files that may include it
	while read -r h want; do
		# shellcheck disable=SC2086 # a list of folders
		for f in $(git grep -lE "^# *include <$h" -- $folders); do
			[[ $f =~ ^($want)$ ]] || echo "$f: <$h> is wrapped by $want"
		done
	done <<-'EOT'
		jansson\.h              base/json\.c
		openssl/                base/(hash|sha256)\.c|sif/(crypto|dsse|integrity|keys|keyring|sign|verify|cert|unlock|token|keyfile|ocsp|pgp|encrypted|encrypt|gcf)\.[ch]
		yaml\.h                 gpu/yaml(_out)?\.c
		curl/                   oci/http\.c
		archive                 oci/archive\.c|image/tarball\.c
		sqfs/                   image/(squash|unsquash(_[a-z]+)?|codec)\.[ch]
		isa-l                   image/inflate\.c
		zlib\.h                 image/(inflate|gzip_head|gzip_out)\.c
		zstd\.h                 image/inflate\.c|mount/squash_srv_unpack\.c
		fuse                    mount/squash_srv[a-z_]*\.[ch]
		sqlite3\.h              image/packages_rpm\.c
		seccomp\.h              rootless/seccomp_profile\.c
		squashfuse              mount/squash_srv[a-z_]*\.[ch]
		rnp/                    sif/pgp\.c
		slurm/                  slurm-plugin/spank_vial\.c
	EOT
}

# Exported names carry their folder's prefix; everything else is static.
check_prefixes() {
	local lib prefix
	while read -r lib prefix; do
		[ -e "$O/lib$lib.a" ] || continue
		nm --defined-only --extern-only "$O/lib$lib.a" 2>/dev/null |
			awk -v l="$lib" -v p="^($prefix)" 'NF == 3 && $2 ~ /[TDBRCVW]/ && $3 !~ p && $3 !~ /^(__asan|__ubsan|__odr|__sanitizer|__sancov|___asan)/ { print "lib" l ".a: " $3 }'
	done <<-'EOT'
		base     vl_
		policy   pol_
		sif      sif_
		oci      oci_
		image    img_
		mount    vmnt_
		rootless ctr_
		gpu      gpu_
		cmd      cmd_|opt_|help_|main$|global_opts$
	EOT
}

# Every descriptor is close-on-exec from its first moment. A place that must not be says why in
# a comment on the same line: /* not close-on-exec: ... */
check_cloexec() {
	local f
	for f in $(sources | grep -vE '^tests/'); do
		awk -v f="$f" '
			{ text = text " " $0 }
			# a call may go over several lines: wait for its brackets to close
			{ t = text; gsub(/"([^"\\]|\\.)*"/, "\"\"", t); if (gsub(/\(/, "", t) > gsub(/\)/, "", t)) { if (!start) start = NR; next } }
			{
				call = "[^a-z_>.](open|openat|creat|socket|socketpair|pipe|pipe2|dup|dup2|dup3|memfd_create|accept|accept4|epoll_create|epoll_create1|inotify_init|inotify_init1|eventfd|signalfd|timerfd_create|fopen|fdopen_new|mkostemp|mkstemp|fsopen|fsmount|open_tree|fspick)\\("
				if (text ~ call && text !~ /CLOEXEC/ && text !~ /not close-on-exec: / && text !~ /fopen\([^)]*"[^"]*e[^"]*"/ && text !~ /^ *(\/?\*|int [a-z_]*open\()/)
					print f ":" (start ? start : NR) ": no O_CLOEXEC: " text
				text = ""; start = 0
			}' "$f"
	done
}

# Only cmd/ talks to the user or ends the program. _exit stays: a forked child has to.
check_noexit() {
	git grep -nE '(^|[^a-z_>.])(printf|puts|putchar|perror|exit|err|errx|warn|warnx|syslog)\(|fprintf\(std(out|err)|fput[sc]\(.*std(out|err)\)' \
		-- base policy sif oci image mount rootless gpu slurm-plugin | grep -vE '^[^:]*:[0-9]+: ?(	| )*(/?\*)'
}

# Help of every command works by both ways and names every option it takes.
check_help() {
	local tab words text option
	tab=$(printf '\t')
	while IFS=$tab read -r words _; do
		# shellcheck disable=SC2086 # "sif list" is two words
		text=$("$O/vial" help $words) || echo "vial help $words: status $?"
		[[ $text == "Usage: vial $words"* ]] || echo "vial help $words: no usage line"
		# shellcheck disable=SC2086
		"$O/vial" $words --help >/dev/null || echo "vial $words --help: status $?"
		# shellcheck disable=SC2086
		while IFS=$tab read -r option _; do
			grep -qE -- "$option( |$)" <<<"$text" || echo "vial help $words: $option is missing"
		done < <("$O/vial" help --words $words)
		# shellcheck disable=SC2086
		"$O/vial" help --words $words | awk -F'\t' -v c="$words" '$2 == "" { print "vial help " c ": " $1 " has no text" }'
	done < <("$O/vial" help --words)
}

# The manual pages are sound roff, one for each command.
check_man() {
	local page
	${MAKE:-make} -s O="$O" man | grep -v '^  '
	"$O/vial" help --words | cut -f1 | tr ' ' - | while read -r page; do
		[ -s "$O/man/vial-$page.1" ] || echo "no manual page for $page"
	done
	for page in "$O"/man/*.[158]; do
		MANWIDTH=100 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null | sed "s|^|${page##*/}: |"
	done
}

# What install puts there, uninstall takes away; and the installed program finds its other half.
check_uninstall() {
	local dest
	dest=$(mktemp -d)
	${MAKE:-make} -s O="$O" install DESTDIR="$dest" >/dev/null || echo "make install: status $?"
	[ -x "$dest/usr/local/bin/vial" ] || echo "install put no program"
	[ -e "$dest/usr/local/share/man/man1/vial.1" ] || echo "install put no manual page"
	grep -q '^required /usr/local/lib/slurm/spank_vial.so' "$dest/usr/local/share/doc/vial/examples/plugstack.conf" || echo "install put no plugstack.conf"
	[ -s "$dest/usr/local/share/doc/vial/examples/policy.toml" ] || echo "install put no policy"
	${MAKE:-make} -s O="$O" uninstall DESTDIR="$dest" >/dev/null || echo "make uninstall: status $?"
	find "$dest" ! -type d -printf 'left behind: %P\n'
	find "$dest" -name 'vial*' -type d -printf 'left behind: %P\n'
	rm -rf "$dest"
}

# What is committed builds by itself, without a warning, and into its own directory only.
# A file at the top is there on purpose.
check_rooms() {
	git ls-tree --name-only HEAD | grep -vxE '\.(ci|clang-format|clang-tidy|gitignore|shellcheckrc)|CHANGELOG\.md|LICENSE|Makefile|README\.md|SECURITY\.md|bootstrap|docs|include|tests|base|policy|sif|oci|image|mount|rootless|gpu|cmd|slurm-plugin'
}

check_untracked() {
	local clone
	clone=$(mktemp -d)
	git clone --quiet --no-hardlinks . "$clone/tree" 2>&1
	env -u MAKEFLAGS -u MAKELEVEL make -s -C "$clone/tree" O=build CFLAGS=-O0 -j "$(nproc)" all man 2>&1 | grep -v '^  '
	[ -x "$clone/tree/build/vial" ] || echo "HEAD does not build"
	git -C "$clone/tree" status --porcelain --ignored --untracked-files=normal | grep -vx '!! build/'
	rm -rf "$clone"
}

check_format() {
	sources | xargs clang-format --dry-run --Werror 2>&1 | sed -n 's/^\([^:]*\):.*error:.*/\1 is not formatted: make format/p; /not found/p' | uniq
}

check_shellcheck() {
	git ls-files -z | while IFS= read -r -d '' f; do
		case $f in
		*.sh | *.bash | *.bats) echo "$f" ;;
		*) if head -c 64 "$f" 2>/dev/null | head -n 1 | grep -aqE '^#!.*[ /](sh|bash)$'; then echo "$f"; fi ;;
		esac
	done | xargs shellcheck -f gcc 2>&1
}

# ctuuninitvar takes a buffer that is received into for one that is read.
check_cppcheck() {
	# shellcheck disable=SC2046,SC2086
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --template=gcc \
		--suppress=missingIncludeSystem --suppress=ctuuninitvar -D_GNU_SOURCE -Iinclude $(sources | grep '\.c$' | grep -v '^tests/') 2>&1
}

# The analyzer takes nearly all of the time, most of it in few functions whose paths it would follow to 225000 states:
# here it follows a third of them, its own measure for a quick look.
check_tidy() {
	sources | grep '\.c$' | grep -v '^tests/' | xargs -P "$(nproc)" -n 4 sh -c '
		flags=$1; shift
		clang-tidy --quiet "$@" -- $flags -DVIAL_VERSION=\"0\" -DVIAL_LIBEXEC=\"/x\" \
			-Xclang -analyzer-config -Xclang max-nodes=75000 2>/dev/null' sh "$c_flags" | grep -E 'error|warning'
}

# Nothing in the tree speaks of one machine, of one mirror, or of work left undone.
check_words() {
	git grep -nIE '/work/|[a-z0-9.]*(deb|snapshot|security)\.debian\.org|\b(TODO|FIXME|XXX|HACK)\b' -- . ':!tests/checks.sh'
}

names=$(sed -n 's/^check_\([a-z]*\)() {$/\1/p' "tests/checks.sh")
tap=
[ "${1:-}" = --tap ] && tap=1 && shift
[ $# -gt 0 ] || set -- help
if [ "$1" = list ]; then
	echo "$names"
	exit 0
fi

bad=0
for name; do
	if ! grep -qx -- "$name" <<<"$names"; then
		echo "tests/checks.sh: no check named '$name'; there are: $(tr '\n' ' ' <<<"$names")" >&2
		exit 2
	fi
	found=$("check_$name")
	[ -z "$found" ] || bad=1
	if [ -n "$tap" ]; then
		[ -z "$found" ] || printf '# %s\n' "${found//$'\n'/$'\n'# }"
		echo "$([ -z "$found" ] || echo 'not ')ok 1 - $name"
	else
		echo "$name: $([ -z "$found" ] && echo ok || echo FAILED)"
		[ -z "$found" ] || echo "$found"
	fi
done
exit $bad
