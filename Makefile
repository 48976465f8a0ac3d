# A thin front of CMake: short names for what people do most.
#   make                    build/tandem
#   make run                the same, installing missing packages first, and tell a tale with the pair in models/
#   make test               all tests; the last line counts them
#   make test-asan          the same tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   make test-tsan          ... under ThreadSanitizer
#   make test-clang         ... built by clang
#   make test-valgrind      the test programs under valgrind
#   make fuzz               every fuzz target for FUZZ_SECONDS
#   make bench              speed of the program, beside others' if LLAMA_BENCH= or IK_BENCH= name them (tools/bench_peers.sh has more,
#                           such as MODEL= and THREADS=), and of every kernel
#   make install            PREFIX=/usr/local, DESTDIR= and LIBDIR=lib are honoured; uninstall takes the files away again
MAKEFLAGS += --no-print-directory
BUILD := build
PREFIX := /usr/local
LIBDIR := lib
FUZZ_SECONDS := 60
PROMPT := Once upon a time there was a king who
JOBS := $(shell nproc 2>/dev/null || echo 2)
# Ninja is used if it is there; a build folder keeps the generator it was made with.
NINJA := $(shell command -v ninja 2>/dev/null)
generator = $(if $(NINJA),$(if $(wildcard $(1)/CMakeCache.txt),,-G Ninja),)
# $(call make_build,PRESET,FOLDER)
define make_build
@cmake --preset $(1) $(call generator,$(2)) --log-level=WARNING >/dev/null
@cmake --build $(2) -j $(JOBS)
endef

.PHONY: all run test test-asan test-tsan test-clang test-valgrind fuzz bench install uninstall clean
all:
	$(call make_build,release,$(BUILD))

run:
	@sh tools/setup.sh build
	$(call make_build,release,$(BUILD))
	$(BUILD)/tandem run -m models/tales.gguf -p "$(PROMPT)" -n 160 --display-prompt --spec-depth 2 --show-draft

test:
	@sh tools/setup.sh test
	$(call make_build,release,$(BUILD))
	@sh tests/run.sh $(BUILD)

test-asan:
	@sh tools/setup.sh test
	$(call make_build,asan,build-asan)
	@sh tests/run.sh build-asan

test-tsan:
	@sh tools/setup.sh test
	$(call make_build,tsan,build-tsan)
	@sh tests/run.sh build-tsan

test-clang:
	@sh tools/setup.sh test clang
	$(call make_build,clang-release,build-clang)
	@sh tests/run.sh build-clang

test-valgrind:
	@sh tools/setup.sh test valgrind
	$(call make_build,release,$(BUILD))
	@sh tests/run.sh --valgrind $(BUILD)

fuzz:
	@sh tools/setup.sh build clang
	$(call make_build,fuzz,build-fuzz)
	@sh tests/fuzz/run.sh build-fuzz $(FUZZ_SECONDS)

bench:
	$(call make_build,release,$(BUILD))
	@sh tools/bench_peers.sh $(BUILD)
	$(BUILD)/kernels_check --bench

install:
	@cmake --preset release $(call generator,$(BUILD)) --log-level=WARNING -DCMAKE_INSTALL_LIBDIR=$(LIBDIR) >/dev/null
	@cmake --build $(BUILD) -j $(JOBS)
	DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix "$(PREFIX)"

uninstall:
	sed 's|^|$(DESTDIR)|' $(BUILD)/install_manifest.txt | xargs -r -d '\n' rm -f --

clean:
	rm -rf build build-*
