# vial: everything lands in $(O); `make help` lists the targets.
VERSION  := 0.1.0
PREFIX   ?= /usr/local
BINDIR   ?= $(PREFIX)/bin
LIBEXEC  ?= $(PREFIX)/libexec/vial
MANDIR   ?= $(PREFIX)/share/man
DATADIR  ?= $(PREFIX)/share
SYSCONFDIR ?= /etc
O        ?= build

CC       ?= cc
CFLAGS   ?= -O2 -g
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE -fvisibility=hidden
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
            -Wvla -Wformat=2 -Wno-format-nonliteral $(if $(WERROR),-Werror)
# sanitizer builds set SAN; _FORTIFY_SOURCE would hide accesses from them
SAN      ?=
ALL_CFLAGS  := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -pthread $(WARN) \
               $(if $(SAN),$(SAN) -fPIE,$(HARDEN)) $(CFLAGS)
ALL_LDFLAGS := -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed $(SAN) $(LDFLAGS)

# Every folder is an archive: a program takes from it what it names, so `vial` never links
# what only building needs. Later archives serve earlier ones.
FOLDERS  := cmd gpu image oci rootless mount sif policy base
DIRS     := $(foreach f,$(FOLDERS),$(if $(wildcard $(f)/*.c),$(f)))
LIBS     := $(DIRS:%=$(O)/lib%.a)
SRC      := $(filter-out cmd/table.c cmd/verifier.c,$(wildcard $(DIRS:%=%/*.c)))

# Wrapped libraries; pkg-config where the package ships a file for it.
pkg       = $(shell pkg-config --libs $(1) 2>/dev/null || echo $(2))
PKG_CFLAGS := $(shell pkg-config --cflags fuse3 2>/dev/null)
ISAL     := $(if $(wildcard /usr/include/isa-l.h /usr/local/include/isa-l.h),yes)
ALL_CFLAGS += $(PKG_CFLAGS) $(if $(ISAL),-DHAVE_ISAL)
EXT_SHARED := -lsquashfuse $(call pkg,fuse3,-lfuse3) -lcap -ljansson -lyaml -lz -llzma -llzo2 -llz4 -lzstd -lcrypto
# Loading nine libraries is a quarter of a start whose image is mounted already: `vial` takes its own from their archives,
# as far as those are installed. STATIC_LIBS=0 for who replaces libraries under programs. Never the C library: NSS needs it.
STATIC_LIBS ?= 1
archive   = $(if $(filter /%,$(shell $(CC) -print-file-name=lib$(1).a)),-l:lib$(1).a,-l$(1))
EXT_VIAL  := $(if $(filter 0,$(STATIC_LIBS)),$(EXT_SHARED),$(filter-out -l%,$(EXT_SHARED)) \
             $(foreach l,$(patsubst -l%,%,$(filter-out -lpthread,$(filter -l%,$(EXT_SHARED)))),$(call archive,$(l))) -ldl)
EXT_IMAGE := -lsquashfs $(call pkg,libarchive,-larchive) $(call pkg,libcurl,-lcurl) $(if $(ISAL),-lisal) -lz -lzstd -ljansson -lyaml -lcrypto -lcap -lsqlite3 \
            $(call pkg,libseccomp,-lseccomp)

# Checks signatures while a start waits: of libraries, only these, and from their archives too.
EXT_VERIFY := $(if $(filter 0,$(STATIC_LIBS)),-lcrypto -ljansson -lcap,$(foreach l,crypto jansson cap,$(call archive,$(l))) -ldl)

# V=1 shows the commands, make -s nothing
Q := $(if $(V),,@)
say = $(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),@:,@echo "  $(1)")

PROGRAMS := $(O)/vial $(O)/vial-image $(O)/vial-verify

# The Slurm plugin, where Slurm's header is. It is loaded into slurmstepd: few objects, of their own, position-independent.
SPANK     := $(if $(wildcard /usr/include/slurm/spank.h $(SLURM_INCLUDE)/slurm/spank.h),$(O)/spank_vial.so)
SPANK_SRC := $(wildcard slurm-plugin/*.c) rootless/enter.c rootless/narrow.c rootless/caps.c rootless/emulate.c \
             rootless/emulate_ids.c mount/api.c base/err.c base/mem.c base/str.c base/fd.c base/proc.c base/apart.c
SPANKDIR  ?= $(PREFIX)/lib/slurm

.PHONY: all
all: $(PROGRAMS) $(SPANK) ## the programs, and the Slurm plugin where its header is installed

$(O)/vial: $(O)/cmd/table.o $(LIBS)
	$(call say,LD    $@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(EXT_VIAL)
$(O)/vial-image: $(O)/cmd/table-image.o $(LIBS)
	$(call say,LD    $@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(EXT_IMAGE) $(EXT_SHARED)

$(O)/vial-verify: $(O)/cmd/verifier.o $(LIBS)
	$(call say,LD    $@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(EXT_VERIFY)

define archive
$(O)/lib$(1).a: $$(patsubst %.c,$(O)/%.o,$$(filter $(1)/%,$$(SRC)))
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$^
endef
$(foreach d,$(DIRS),$(eval $(call archive,$(d))))

$(O)/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC    $@)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(O)/cmd/table-image.o: cmd/table.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC    $@)
	$(Q)$(CC) $(ALL_CFLAGS) -DVIAL_IMAGE -MMD -MP -c -o $@ $<

# Only the front door knows version and place: `make install PREFIX=/usr` rebuilds three files.
PLACE := -DVIAL_VERSION='"$(VERSION)"' -DVIAL_LIBEXEC='"$(LIBEXEC)"' -DVIAL_CONFIG='"$(SYSCONFDIR)/vial/vial.conf"' -DVIAL_SITE='"$(SYSCONFDIR)/vial"'
PLACE_PLUGIN := -DVSP_VIAL='"$(BINDIR)/vial"'
$(O)/cmd/main.o $(O)/cmd/opts_global.o $(O)/cmd/dirs.o: ALL_CFLAGS += $(PLACE)
$(O)/cmd/main.o $(O)/cmd/opts_global.o $(O)/cmd/dirs.o: $(O)/place

$(O)/pic/%.o: %.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC    $@)
	$(Q)$(CC) $(filter-out -fPIE -fvisibility=hidden,$(ALL_CFLAGS)) -fPIC $(if $(SLURM_INCLUDE),-I$(SLURM_INCLUDE)) -MMD -MP -c -o $@ $<
# nodelete: the thread of slurm-plugin/guard.c ends with the process
$(O)/spank_vial.so: $(SPANK_SRC:%.c=$(O)/pic/%.o) slurm-plugin/plugin.map
	$(call say,LD    $@)
	$(Q)$(CC) $(filter-out -fPIE,$(ALL_CFLAGS)) -shared -pthread -Wl,-z,relro,-z,now,-z,nodelete -Wl,--as-needed \
	 -Wl,--version-script=slurm-plugin/plugin.map $(SAN) $(LDFLAGS) -o $@ $(filter %.o,$^) -lcap
$(O)/pic/slurm-plugin/site.o: ALL_CFLAGS += $(PLACE_PLUGIN)
$(O)/pic/slurm-plugin/site.o $(O)/pic/slurm-plugin/spank_vial.o: $(O)/place

# No release of Slurm needs other code than another, as yet: this shows it. What did would go into a header of the plugin's.
SLURM_INCLUDES ?= /usr/include
.PHONY: slurm-headers
slurm-headers: ## the Slurm plugin's only user of Slurm's headers, against those in SLURM_INCLUDES="DIR..."
	@for d in $(SLURM_INCLUDES); do [ -e "$$d/slurm/spank.h" ] || { echo "$$d: no slurm/spank.h" >&2; exit 1; }; \
	 v=$$(printf '#include <slurm/slurm.h>\nversion SLURM_VERSION_NUMBER\n' | $(CC) -E -P -I"$$d" - | sed -n 's/^version //p') && \
	 printf '%s: Slurm %d.%02d\n' "$$d" $$((v >> 16)) $$((v >> 8 & 255)) && \
	 $(CC) $(ALL_CFLAGS) -Werror -fPIC -I"$$d" -fsyntax-only slurm-plugin/spank_vial.c || exit 1; done

# rebuilt when compiler or flags change
$(O)/flags: STAMP = $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(EXT_VIAL) $(EXT_SHARED) $(EXT_IMAGE) $(EXT_VERIFY)
$(O)/place: STAMP = $(PLACE) $(PLACE_PLUGIN) $(SLURM_INCLUDE)
$(O)/flags $(O)/place: FORCE
	@mkdir -p $(O)
	@echo '$(subst ','\'',$(STAMP))' | cmp -s - $@ || echo '$(subst ','\'',$(STAMP))' > $@
.PHONY: FORCE
FORCE:

-include $(wildcard $(O)/*/*.d $(O)/*/*/*.d)

# ---- tests: a test is a file, there is no list ------------------------------------------
UNIT := $(patsubst tests/unit/%.c,$(O)/tests/unit/%,$(wildcard tests/unit/test_*.c))
$(O)/tests/%: tests/%.c $(LIBS) $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC    $@)
	$(Q)$(CC) $(ALL_CFLAGS) -I. -Itests/unit -MMD -MP $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(EXT_IMAGE) $(EXT_SHARED) $(TEST_LIBS)
$(O)/tests/unit/test_sif_pgp: TEST_LIBS := -lrnp

# a file system with latency, for tests that count reads; not of ours, so without our libraries
SLOWFS := $(O)/tests/slowfs/slowfs
$(SLOWFS): tests/slowfs/slowfs.c $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC    $@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(call pkg,fuse3,-lfuse3)

FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_SECONDS ?= 10

.PHONY: check test checks unit-programs bench demo interop
check: all unit-programs ## all checks and tests: what CI runs
	@O=$(O) tests/run checks unit e2e
test: all unit-programs ## unit and e2e tests, or T='checks', T=tests/e2e/cli.bats ...
	@O=$(O) tests/run $(T)
checks: all ## the named checks of tests/checks.sh only
	@O=$(O) tests/run checks
unit-programs: $(UNIT) $(FUZZ:%=$(O)/tests/fuzz/%) $(SLOWFS)
bench: all $(SLOWFS) $(O)/tests/perf/launch ## our figures beside the peers' that are installed
	@O=$(O) tests/perf/bench
demo: all ## build, sign, verify and run an image made of this machine's own programs
	@O=$(O) ./bootstrap --built demo
interop: all ## both directions with Apptainer, fetched from Debian into $(O)/interop
	@O=$(O) tests/interop/run

# The whole suite under a sanitizer, in a build directory of its own.
.PHONY: asan ubsan tsan clang
asan: ## the tests under AddressSanitizer and its leak check
	+@$(MAKE) O=build/asan SAN='-fsanitize=address -fno-omit-frame-pointer' CFLAGS='-O1 -g' test
ubsan: ## the tests under UndefinedBehaviorSanitizer
	+@$(MAKE) O=build/ubsan SAN='-fsanitize=undefined -fno-sanitize-recover=undefined' CFLAGS='-O1 -g' test
# Its fork() starts a thread in the child, and a process of two threads gets no user namespace, joins no mount
# namespace and keeps the old one, with all that is mounted there. The C library's _Fork() is not wrapped.
# An image server's report has nowhere to go: the server ends with it, and a test sees that.
tsan: ## the tests under ThreadSanitizer
	+@TSAN_OPTIONS=halt_on_error=1 $(MAKE) O=build/tsan SAN='-fsanitize=thread -Dfork=_Fork' CFLAGS='-O1 -g' test
clang: ## the tests, built by clang with warnings as errors
	+@$(MAKE) O=build/clang CC=clang WERROR=1 test

# ---- fuzzing: one target per parser, tests/fuzz/fuzz_*.c; the tests replay its corpus ------
.PHONY: fuzz fuzz-programs
fuzz: ## every fuzz target for FUZZ_SECONDS=10 each, with clang
	+@$(MAKE) --no-print-directory O=build/fuzz CC=clang CFLAGS='-O2 -g -DFUZZ_ENGINE' \
	 SAN='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined' fuzz-programs
	@O=build/fuzz tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ)
fuzz-programs: $(FUZZ:%=$(O)/tests/fuzz/%)
$(O)/tests/fuzz/%: ALL_LDFLAGS += $(if $(findstring fuzzer,$(SAN)),-fsanitize=fuzzer)

# ---- static analysis and format -------------------------------------------------------------
.PHONY: analyze format format-check
analyze: ## cppcheck and clang-tidy
	@O=$(O) tests/run check:cppcheck check:tidy
format: ## rewrites the C files in the project's style
	git ls-files '*.c' '*.h' | xargs clang-format -i
format-check: ## tells which C files are not
	@O=$(O) tests/run check:format

# ---- manual pages and completion: made from the command table, by the programs themselves ---
.PHONY: man
man: $(O)/man/stamp
$(O)/man/stamp: $(PROGRAMS) docs/man/make-man $(wildcard docs/man/*.md)
	$(call say,MAN   $(O)/man)
	@rm -rf $(O)/man
	$(Q)docs/man/make-man $(O)/vial $(O)/man
	$(Q)for sh in bash zsh fish; do $(O)/vial completion $$sh > $(O)/man/completion.$$sh; done
	@touch $@

# ---- install: a run-singularity of somebody else stays, at install and at uninstall -----------
BASHCOMP ?= $(DATADIR)/bash-completion/completions
ZSHCOMP  ?= $(DATADIR)/zsh/site-functions
FISHCOMP ?= $(DATADIR)/fish/vendor_completions.d
EXAMPLES ?= $(DATADIR)/doc/vial/examples
.PHONY: install uninstall
install: all man ## into DESTDIR and PREFIX
	install -d $(foreach d,$(BINDIR) $(LIBEXEC) $(MANDIR)/man1 $(MANDIR)/man5 $(BASHCOMP) $(ZSHCOMP) $(FISHCOMP) $(EXAMPLES),'$(DESTDIR)$(d)')
	install -m 755 $(O)/vial '$(DESTDIR)$(BINDIR)/vial'
	[ -e '$(DESTDIR)$(BINDIR)/run-singularity' ] || ln -s vial '$(DESTDIR)$(BINDIR)/run-singularity'
	install -m 755 $(O)/vial-image $(O)/vial-verify '$(DESTDIR)$(LIBEXEC)/'
	install -m 644 $(O)/man/*.1 '$(DESTDIR)$(MANDIR)/man1/'
	install -m 644 $(O)/man/*.5 '$(DESTDIR)$(MANDIR)/man5/'
	if [ -n '$(SPANK)' ]; then install -d '$(DESTDIR)$(SPANKDIR)' '$(DESTDIR)$(MANDIR)/man8' && \
	 install -m 755 $(O)/spank_vial.so '$(DESTDIR)$(SPANKDIR)/' && install -m 644 $(O)/man/spank_vial.8 '$(DESTDIR)$(MANDIR)/man8/'; fi
	install -m 644 $(O)/man/completion.bash '$(DESTDIR)$(BASHCOMP)/vial'
	install -m 644 $(O)/man/completion.zsh '$(DESTDIR)$(ZSHCOMP)/_vial'
	install -m 644 $(O)/man/completion.fish '$(DESTDIR)$(FISHCOMP)/vial.fish'
	install -m 644 docs/policy-example.toml '$(DESTDIR)$(EXAMPLES)/policy.toml'
	sed 's|/usr/local/lib/slurm|$(SPANKDIR)|' docs/plugstack-example.conf >'$(DESTDIR)$(EXAMPLES)/plugstack.conf'
	chmod 644 '$(DESTDIR)$(EXAMPLES)/plugstack.conf'
uninstall: ## takes away what install put there
	if [ "$$(readlink '$(DESTDIR)$(BINDIR)/run-singularity')" = vial ]; then rm '$(DESTDIR)$(BINDIR)/run-singularity'; fi
	rm -f '$(DESTDIR)$(BINDIR)/vial' '$(DESTDIR)$(LIBEXEC)/vial-image' '$(DESTDIR)$(LIBEXEC)/vial-verify' '$(DESTDIR)$(BASHCOMP)/vial' \
	 '$(DESTDIR)$(ZSHCOMP)/_vial' '$(DESTDIR)$(FISHCOMP)/vial.fish' \
	 '$(DESTDIR)$(EXAMPLES)/policy.toml' '$(DESTDIR)$(EXAMPLES)/plugstack.conf' \
	 '$(DESTDIR)$(SPANKDIR)/spank_vial.so' '$(DESTDIR)$(MANDIR)/man8/spank_vial.8' \
	 '$(DESTDIR)$(MANDIR)/man1/vial.1' '$(DESTDIR)$(MANDIR)/man1'/vial-*.1 '$(DESTDIR)$(MANDIR)/man5/vial.conf.5' '$(DESTDIR)$(MANDIR)/man5/vial-policy.5'
	-rmdir '$(DESTDIR)$(LIBEXEC)' '$(DESTDIR)$(EXAMPLES)' '$(DESTDIR)$(DATADIR)/doc/vial' 2>/dev/null

.PHONY: clean help
clean: ## removes the build directory
	rm -rf $(O)
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1 \2/p' Makefile | sort | while read -r t d; do printf '  %-14s %s\n' "$$t" "$$d"; done
