# vial: everything lands in $(O); `make help` lists the targets.
VERSION  := 0.1.0
PREFIX   ?= /usr/local
BINDIR   ?= $(PREFIX)/bin
LIBEXEC  ?= $(PREFIX)/libexec/vial
MANDIR   ?= $(PREFIX)/share/man
DATADIR  ?= $(PREFIX)/share
O        ?= build

CC       ?= cc
CFLAGS   ?= -O2 -g
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE -fvisibility=hidden
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
            -Wvla -Wformat=2 -Wno-format-nonliteral $(if $(WERROR),-Werror)
# sanitizer builds set SAN; _FORTIFY_SOURCE would hide accesses from them
SAN      ?=
ALL_CFLAGS  := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -pthread $(WARN) \
               $(if $(SAN),$(SAN) -fPIE,$(HARDEN)) $(CFLAGS) \
               -DVIAL_VERSION='"$(VERSION)"' -DVIAL_LIBEXEC='"$(LIBEXEC)"'
ALL_LDFLAGS := -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed $(SAN) $(LDFLAGS)

# Every folder is an archive: a program takes from it what it names, so `vial` never links
# what only building needs. Later archives serve earlier ones.
FOLDERS  := cmd image oci rootless mount sif base
DIRS     := $(foreach f,$(FOLDERS),$(if $(wildcard $(f)/*.c),$(f)))
LIBS     := $(DIRS:%=$(O)/lib%.a)
SRC      := $(filter-out cmd/table.c,$(wildcard $(DIRS:%=%/*.c)))

# Wrapped libraries; pkg-config where the package ships a file for it.
pkg       = $(shell pkg-config --libs $(1) 2>/dev/null || echo $(2))
PKG_CFLAGS := $(shell pkg-config --cflags fuse3 2>/dev/null)
ISAL     := $(if $(wildcard /usr/include/isa-l.h /usr/local/include/isa-l.h),yes)
ALL_CFLAGS += $(PKG_CFLAGS) $(if $(ISAL),-DHAVE_ISAL)
EXT_VIAL  := -lsquashfuse $(call pkg,fuse3,-lfuse3) -lcap -luuid -ljansson -lz -llzma -llzo2 -llz4 -lzstd
EXT_IMAGE := -lsquashfs $(call pkg,libarchive,-larchive) $(if $(ISAL),-lisal) -lz -lzstd -ljansson -lcrypto -luuid -lcap

# V=1 shows the commands
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)")

PROGRAMS := $(O)/vial $(O)/vial-image

.PHONY: all
all: $(PROGRAMS)

$(O)/vial: $(O)/cmd/table.o $(LIBS)
	$(call say,LD    $@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(EXT_VIAL)
$(O)/vial-image: $(O)/cmd/table-image.o $(LIBS)
	$(call say,LD    $@)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(EXT_IMAGE) $(EXT_VIAL)

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

# rebuilt when compiler or flags change
$(O)/flags: FORCE
	@mkdir -p $(O)
	@echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(EXT_VIAL) $(EXT_IMAGE))' | cmp -s - $@ || \
	 echo '$(subst ','\'',$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(EXT_VIAL) $(EXT_IMAGE))' > $@
.PHONY: FORCE
FORCE:

-include $(wildcard $(O)/*/*.d $(O)/*/*/*.d)

# ---- tests: a test is a file, there is no list ------------------------------------------
UNIT := $(patsubst tests/unit/%.c,$(O)/tests/unit/%,$(wildcard tests/unit/test_*.c))
$(O)/tests/%: tests/%.c $(LIBS) $(O)/flags
	@mkdir -p $(@D)
	$(call say,CC    $@)
	$(Q)$(CC) $(ALL_CFLAGS) -I. -Itests/unit -MMD -MP $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(LIBS) -Wl,--end-group $(EXT_IMAGE) $(EXT_VIAL)

.PHONY: unit-programs
unit-programs: $(UNIT)

.PHONY: test
test: all unit-programs
	O=$(O) tests/run $(T)

.PHONY: clean
clean:
	rm -rf $(O)
