#!/bin/sh
# Checks that what is needed is there, and installs Debian packages only if something is missing.
#   sh tools/setup.sh build [test] [clang] [valgrind]
set -u
missing=""
need() { # need PACKAGE CONDITION...
  package=$1
  shift
  "$@" >/dev/null 2>&1 || missing="$missing $package"
}
has() { command -v "$1"; }
has_compiler() { command -v cc || command -v gcc || command -v clang; }
has_header() { printf '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <setjmp.h>\n#include <%s>\n' "$1" | cc -E -x c -; }

need cmake has cmake
need make has make
need gcc has_compiler
need libc6-dev has_header stdlib.h
need libxxhash-dev has_header xxhash.h
need libjansson-dev has_header jansson.h
for what in "$@"; do
  case $what in
    build) ;;
    test)
      need libcmocka-dev has_header cmocka.h
      need pkg-config has pkg-config
      ;;
    clang) need clang has clang ;;
    valgrind) need valgrind has valgrind ;;
    *)
      echo "setup.sh: $what: unknown; build, test, clang, valgrind are known" >&2
      exit 2
      ;;
  esac
done
[ -z "$missing" ] && exit 0

echo "setup: missing packages:$missing" >&2
if ! command -v apt-get >/dev/null 2>&1; then
  echo "setup: this is not Debian; install them with the package manager of this system and try again" >&2
  exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
  root=""
elif command -v sudo >/dev/null 2>&1; then
  root="sudo"
  [ -t 0 ] || root="sudo -n"
else
  echo "setup: run as root: apt-get install$missing" >&2
  exit 1
fi
# shellcheck disable=SC2086  # lists of words
{
  $root apt-get update -q && $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
} >&2 || {
  echo "setup: installation failed; install by hand:$missing" >&2
  exit 1
}
