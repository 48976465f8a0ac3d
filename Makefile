# A thin front of CMake: short names for what people do most.
#   make          build/tandem
#   make test     build and run all tests
BUILD := build
JOBS := $(shell nproc 2>/dev/null || echo 2)
# Ninja is used if it is there; a build folder keeps the generator it was made with.
NINJA := $(shell command -v ninja 2>/dev/null)
generator = $(if $(NINJA),$(if $(wildcard $(1)/CMakeCache.txt),,-G Ninja),)
configure = cmake --preset $(1) $(call generator,$(2)) --log-level=WARNING
build = cmake --build $(1) -j $(JOBS)

.PHONY: all clean
all:
	@$(call configure,release,$(BUILD)) >/dev/null
	@$(call build,$(BUILD))

clean:
	rm -rf build build-*
