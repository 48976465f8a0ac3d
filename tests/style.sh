#!/bin/sh
# House rules a machine can check: sizes, words that must not occur, intrinsics and conditions in their place.
set -u
. tests/support/check.sh

compiler=$(command -v gcc || command -v clang || command -v cc)
sources=$(find src include -name '*.[ch]' -o -path 'src/*' -name '*.inc')

# The file without comments and without the content of strings; line numbers are lost.
bare() { "$compiler" -fpreprocessed -dD -E -P -x c "$1" 2>/dev/null | sed -E 's/"([^"\\]|\\.)*"/""/g'; }

# bad_words REGEX FILE...: prints the occurrences, fails if there are any.
bad_words() {
  words=$1
  shift
  found=0
  for file in "$@"; do
    bare "$file" | grep -nE "(^|[^A-Za-z0-9_])($words)[[:space:]]*\\(" | sed "s|^|$file: |" | grep . && found=1
  done
  [ $found -eq 0 ]
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

library=$(echo "$sources" | grep -v '^src/cli/')
# shellcheck disable=SC2086  # lists of files
{
  check "nothing but cli ends the process or prints" \
    bad_words 'abort|assert|exit|_exit|_Exit|quick_exit|printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror|signal|sigaction|setlocale' $library
  check "no longjmp, alloca or system" bad_words 'longjmp|setjmp|alloca|system|popen|strtok|gets|sprintf|strcpy|strcat' $sources
  check "memory comes through one gate" bad_words 'malloc|calloc|realloc|free|aligned_alloc|posix_memalign|strdup|mmap' \
    $(echo "$sources" | grep -vE '^src/base/(memory|os)\.c$')
  check "the environment is read in cli/args.c" bad_words 'getenv|secure_getenv' $(echo "$sources" | grep -v '^src/cli/args\.c$')
  check "intrinsics stay under src/device" [ -z "$(grep -lE 'immintrin|_mm(256|512)?_|arm_neon' $(echo "$sources" | grep -v '^src/device/'))" ]
}

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
paths() { ! grep -rnIE '/(work|home|root)/[a-z]' --exclude-dir=.git --exclude-dir='build*' --exclude=style.sh . | grep -vE '/home/\.\.\.'; }
check "no paths of a machine" paths
spaces() { ! grep -rnE '[[:space:]]+$' --include='*.[ch]' --include='*.sh' --include='*.cmake' --include='*.md' --include=Makefile \
  --exclude-dir=.git --exclude-dir='build*' . ; }
check "no space at the end of a line" spaces
finish
