#!/bin/sh
# The shared library shows what tandem.h declares with TANDEM_API, no more and no less, and needs nothing it does not find.
# The library keeps no mutable globals but the counters of the allocation gate and the ranges a signal handler looks at.
set -u
. tests/support/check.sh
build=${1:-build}
library=$build/libtandem.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -f src/engine/engine.c ]; then
  skip "symbols: there is no engine"
  finish
  exit
fi
nm -D --defined-only "$library" | awk '{ print $3 }' | sed 's/@.*//' | sort >"$work/there"
tr '\n' ' ' <include/tandem.h | grep -oE 'TANDEM_API [^;(]*\(' | grep -oE 'tandem_[a-z0-9_]+\($' | tr -d '(' | sort >"$work/declared"
check "tandem.h declares functions" [ -s "$work/declared" ]
check "exported symbols are those of tandem.h" diff "$work/declared" "$work/there"
ldd -r "$library" 2>&1 | grep 'undefined symbol' >"$work/undefined"
cat "$work/undefined"
check "no undefined symbols" [ ! -s "$work/undefined" ]
check "SONAME carries the major version" sh -c "objdump -p '$library' | grep -qE 'SONAME +libtandem\\.so\\.[0-9]+\$'"
check "no executable stack" sh -c "! objdump -p '$library' | grep -A1 STACK | grep -q 'flags .*x'"

# Constant tables with addresses lie in .data.rel.ro; what is in .data or .bss can change.
objdump -h "$build/libtandem.a" 2>/dev/null | awk '
  /file format/ { object = $1; sub(/:$/, "", object) }
  ($2 == ".data" || $2 == ".bss" || $2 == ".tbss" || $2 == ".tdata") && $3 !~ /^0+$/ { print object, $2, $3 }' |
  grep -vE '^(memory|mapped)\.c\.o ' >"$work/mutable"
cat "$work/mutable"
check "no mutable globals outside base/memory.c and base/mapped.c" [ ! -s "$work/mutable" ]
finish
