#!/bin/sh
# Every header compiles alone; the public one in C and in C++.
set -u
. tests/support/check.sh

flags="-D_GNU_SOURCE -fsyntax-only -Wall -Wextra -Wshadow -Werror -Isrc -Iinclude"
compile() { # compile COMPILER LANGUAGE STANDARD HEADER
  # shellcheck disable=SC2086  # a list of options
  printf '#include "%s"\nextern int unused;\n' "$4" | "$1" -x "$2" -std="$3" $flags -
}
for compiler in gcc clang; do
  if ! command -v $compiler >/dev/null 2>&1; then
    skip "headers with $compiler: not installed"
    continue
  fi
  for header in src/*/*.h src/device/cpu/*.h; do
    check "$header alone ($compiler)" compile $compiler c c17 "${header#src/}"
  done
  check "tandem.h in C17 ($compiler)" compile $compiler c c17 tandem.h
done
for compiler in g++ clang++; do
  if command -v $compiler >/dev/null 2>&1; then
    check "tandem.h in C++17 ($compiler)" compile $compiler c++ c++17 tandem.h
  else
    skip "tandem.h in C++17 with $compiler: not installed"
  fi
done
finish
