#!/bin/sh
# What is installed can be used: a program is built against it through pkg-config and through CMake, shared and static.
set -u
. tests/support/check.sh
build=${1:-build}
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc=$(command -v cc || command -v gcc || command -v clang)

if [ ! -x "$build/tandem" ]; then
  skip "install: there is no program yet"
  finish
  exit
fi
check "cmake --install" sh -c "cmake --install '$build' --prefix '$work/p' >'$work/log' 2>&1 || { cat '$work/log'; false; }"
prefix=$work/p
pc=$(find "$prefix" -name tandem.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH

there() { check "installs $1" test -e "$prefix/$1"; }
there bin/tandem
there include/tandem.h
there share/man/man1/tandem.1
there share/bash-completion/completions/tandem
there share/zsh/site-functions/_tandem
there share/fish/vendor_completions.d/tandem.fish
check "names no build folder" sh -c "! grep -rlI '$root' '$prefix'"

run_minimal() { # run_minimal PROGRAM: it tells something, and the same twice
  LD_LIBRARY_PATH=$libdir "$1" models/tales.gguf "Once upon a time" >"$work/a" && LD_LIBRARY_PATH=$libdir "$1" models/tales.gguf "Once upon a time" >"$work/b" &&
    [ "$(wc -c <"$work/a")" -gt 20 ] && cmp "$work/a" "$work/b"
}
if command -v pkg-config >/dev/null 2>&1; then
  libdir=$(pkg-config --variable=libdir tandem)
  check "pkg-config knows the version" test "$(pkg-config --modversion tandem)" = "$("$build/tandem" version | sed -E 's/^tandem ([0-9.]+).*/\1/')"
  check "pkg-config names the instruction sets" test -n "$(pkg-config --variable=isa tandem)"
  # shellcheck disable=SC2046  # lists of flags
  check "examples/minimal.c against the shared library" \
    "$cc" -std=c17 -Wall -Wextra -Werror examples/minimal.c $(pkg-config --cflags --libs tandem) -o "$work/shared"
  check "it runs" run_minimal "$work/shared"
  # shellcheck disable=SC2046
  check "examples/minimal.c against the static library" \
    "$cc" -std=c17 examples/minimal.c $(pkg-config --cflags tandem) "$libdir/libtandem.a" $(pkg-config --libs-only-l --static tandem | sed 's/-ltandem//') -o "$work/static"
  check "it runs, too" run_minimal "$work/static"
  check "and no library of checksums" sh -c "! ldd '$work/static' '$libdir/libtandem.so' | grep -q xxhash"
  check "and needs no libtandem.so" sh -c "! ldd '$work/static' | grep -q libtandem"
else
  skip "pkg-config: not installed"
  libdir=$(dirname "$(find "$prefix" -name libtandem.a)")
fi

mkdir "$work/c"
cat >"$work/c/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C)
find_package(tandem 0.1 REQUIRED)
add_executable(shared $root/examples/minimal.c)
target_link_libraries(shared tandem::tandem)
add_executable(static $root/examples/minimal.c)
target_link_libraries(static tandem::static)
END
check "find_package(tandem)" sh -c "cmake -S '$work/c' -B '$work/c/build' -DCMAKE_PREFIX_PATH='$prefix' >'$work/log' 2>&1 &&
  cmake --build '$work/c/build' >>'$work/log' 2>&1 || { cat '$work/log'; false; }"
check "tandem::tandem runs" run_minimal "$work/c/build/shared"
check "tandem::static runs" run_minimal "$work/c/build/static"

check "bash accepts the completions" bash -n "$prefix/share/bash-completion/completions/tandem"
for shell in zsh fish; do
  file=$prefix/share/zsh/site-functions/_tandem
  [ $shell = fish ] && file=$prefix/share/fish/vendor_completions.d/tandem.fish
  if command -v $shell >/dev/null 2>&1; then check "$shell accepts the completions" $shell -n "$file"; else skip "completions of $shell: it is not installed"; fi
done
if command -v man >/dev/null 2>&1; then
  check "man reads the page" sh -c "man -l '$prefix/share/man/man1/tandem.1' 2>&1 </dev/null | grep -q 'EXIT STATUS'"
else
  skip "man: not installed"
fi
finish
