#!/bin/sh
# Who may include whom: src/LAYERS is the law. Also: a folder shows one header to the others, and no .c is included.
set -u
. tests/support/check.sh

allowed() { # allowed FOLDER: the folders whose header FOLDER may include
  sed -n "s/^$1: *//p" src/LAYERS
}

# Prints the includes of a file, one a line: "LINE HEADER".
includes() { sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$1"; }

check_file() { # check_file FOLDER FILE; FOLDER is "" outside src
  ok=1
  for header in $(includes "$2"); do
    case $header in
      tandem.h) continue ;;
      *.c)
        ok=0
        echo "$2: includes $header; no .c is included"
        continue
        ;;
      */*) ;;
      *)
        [ -n "$1" ] || continue
        ok=0
        echo "$2: includes \"$header\"; write \"folder/file.h\""
        continue
        ;;
    esac
    target=${header%%/*}
    [ "$target" = "$1" ] && continue
    [ -d "src/$target" ] || continue
    case "$2 $header" in
      tests/kernels/*" device/cpu/"* | tests/*" device/cpu/level.def") continue ;;
    esac
    if [ "$header" != "$target/$target.h" ]; then
      ok=0
      echo "$2: includes $header; only $target/$target.h is open to others"
    fi
    if [ -n "$1" ]; then
      case " $(allowed "$1") " in
        *" $target "*) ;;
        *)
          ok=0
          echo "$2: includes $header; src/LAYERS allows $1: $(allowed "$1")"
          ;;
      esac
    fi
  done
  [ $ok -eq 1 ]
}

for folder in src/*/; do
  folder=$(basename "$folder")
  check "src/LAYERS has a line for $folder" grep -q "^$folder:" src/LAYERS
  bad=0
  for file in $(find "src/$folder" -name '*.[ch]' -o -path "src/$folder/*" -name '*.inc'); do
    check_file "$folder" "$file" || bad=1
  done
  check "includes of src/$folder" [ $bad -eq 0 ]
done
bad=0
for file in $(find tests bench examples -name '*.[ch]'); do
  check_file "" "$file" || bad=1
done
check "includes of tests, bench and examples" [ $bad -eq 0 ]

# The strata have no cycle: a folder may only name folders that stand above its own line.
check "src/LAYERS is in the order data flows" awk -F: '
  /^#/ { next }
  { order[$1] = NR; uses[$1] = $2 }
  END {
    for (f in uses) { n = split(uses[f], u, " "); for (i = 1; i <= n; i++) reach[f, u[i]] = 1 }
    for (k in order) for (i in order) for (j in order) if (reach[i, k] && reach[k, j]) reach[i, j] = 1
    for (f in order) if (reach[f, f]) { print f ": includes itself in the end"; bad = 1 }
    exit bad
  }' src/LAYERS
finish
