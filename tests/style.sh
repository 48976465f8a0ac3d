#!/bin/sh
# House rules a machine can check: sizes, words that must not occur, intrinsics and conditions in their place.
set -u
. tests/support/check.sh

compiler=$(command -v gcc || command -v clang || command -v cc)
sources=$(find src include -name '*.[ch]' -o -path 'src/*' -name '*.inc')

# All files without comments and without the content of strings, as lines "FILE: text".
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for file in $sources; do
  "$compiler" -fpreprocessed -dD -E -P -x c "$file" 2>/dev/null | sed -E "s/\"([^\"\\\\]|\\\\.)*\"/\"\"/g; s|^|$file: |"
done >"$work/bare"

# no_calls FILES WORDS: nothing of that name is called in the files whose name fits (a pattern; !x = does not fit).
no_calls() {
  case $1 in
    !*) grep -vE "^(${1#!}): " "$work/bare" ;;
    *) grep -E "^$1: " "$work/bare" ;;
  esac | grep -E "[^A-Za-z0-9_]($2)[[:space:]]*\\(" >"$work/found"
  cat "$work/found"
  [ ! -s "$work/found" ]
}

bad=0
for file in $sources $(find tests bench examples -name '*.[ch]'); do
  case $file in *table*|*_data.*|*.def) continue ;; esac
  lines=$(wc -l <"$file")
  if [ "$lines" -gt 800 ]; then
    echo "$file: $lines lines, 800 allowed"
    bad=1
  fi
done
check "files of at most 800 lines" [ $bad -eq 0 ]

# A function begins at a line that starts in the first column and ends in "{".
long_functions() {
  # shellcheck disable=SC2086  # a list of files
  awk '
    /^[A-Za-z_].*\) *\{$/ || (/^[A-Za-z_]/ && /\($/) { start = FNR; head = $0 }
    /^\}$/ && start { if (FNR - start + 1 > 150) { printf "%s:%d: %d lines, 150 allowed: %s\n", FILENAME, start, FNR - start + 1, head; bad = 1 } start = 0 }
    FNR == 1 { start = 0 }
    END { exit bad }' $sources
}
check "functions of at most 150 lines" long_functions

check "nothing but cli ends the process or prints" no_calls '!src/cli/[^:]*' \
  'abort|assert|exit|_exit|_Exit|quick_exit|printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror|setlocale'
check "signals are for cli, and for mapped files that change" no_calls '!src/(cli/[^:]*|base/mapped\.c)' 'signal|sigaction'
check "no longjmp, alloca, system or unbounded copies" no_calls '.*' 'longjmp|setjmp|alloca|system|popen|strtok|gets|sprintf|strcpy|strcat'
check "memory comes through one gate" no_calls '!src/base/(memory|os|mapped)\.c' 'malloc|calloc|realloc|free|aligned_alloc|posix_memalign|strdup|mmap'
check "the environment is read in cli/args.c" no_calls '!src/cli/args\.c' 'getenv|secure_getenv'
intrinsics() { ! grep -vE '^src/device/' "$work/bare" | grep -E 'immintrin|_mm(256|512)?_|__m(128|256|512)|arm_neon'; }
check "intrinsics stay under src/device" intrinsics

# Conditions: include guards, C++ in the public header; else only where the machine is met.
conditions() {
  # shellcheck disable=SC2046
  ! grep -nE '^ *# *(if|ifdef|ifndef|elif)' $(echo "$sources" | grep -vE '^(src/device/|src/base/os\.c|include/)') |
    grep -vE ':1?[0-9]?[0-9]: *# *ifndef [A-Z0-9_]+_H$'
}
check "#if only in base/os.c, device and the public header" conditions

# The file begins with a comment of at most 15 lines.
bad=0
for file in $sources; do
  case $(head -c 2 "$file") in
    '/*' | '//') ;;
    *)
      echo "$file: does not begin with a comment"
      bad=1
      ;;
  esac
done
check "every file says what it is" [ $bad -eq 0 ]

# Nothing names the machine it was written on.
paths() { ! grep -rnIE '/(work|home|root)/[a-z]' --exclude-dir=.git --exclude=.git --exclude-dir='build*' --exclude=style.sh . | grep -vE '/home/\.\.\.'; }
check "no paths of a machine" paths
spaces() { ! grep -rnE '[[:space:]]+$' --include='*.[ch]' --include='*.sh' --include='*.cmake' --include='*.md' --include=Makefile \
  --exclude-dir=.git --exclude-dir='build*' . ; }
check "no space at the end of a line" spaces
finish
