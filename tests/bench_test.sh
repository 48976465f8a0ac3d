#!/bin/sh
# The programs of bench/: models of known shapes are the same bytes wherever they are made, and can be run.
set -u
. tests/support/check.sh
build=${1:-build}
model=$build/bench_model
tandem=$build/tandem
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -x "$model" ] || [ ! -x "$tandem" ]; then
  skip "bench: the programs are not built"
  finish
  exit
fi

# refuses CODE TEXT ARGUMENT...: ends with CODE, says TEXT and leaves no file.
refuses() {
  code=$1 said=$2
  shift 2
  "$model" "$@" >"$work/said" 2>&1
  got=$?
  check "bench_model $*: exit $got, $code expected" test $got -eq "$code"
  check "bench_model $*: '$said' expected: $(head -c 300 "$work/said")" grep -q "$said" "$work/said"
  check "bench_model $*: leaves no file" test ! -e "$work/none.gguf"
}
refuses 2 "llama-1b *llama *1235.8 M *1235.8 M"
refuses 2 "usage" tiny "$work/none.gguf" --vocab
refuses 2 "usage" tiny "$work/none.gguf" q4_K q6_K more
refuses 1 "'llama-2b' is unknown, there are:.* llama-1b" llama-2b "$work/none.gguf"
refuses 1 "'q9' is unknown.* q4_K" tiny "$work/none.gguf" q9
refuses 1 "'q2_K'.*cannot be encoded" tiny "$work/none.gguf" q4_K q2_K
refuses 1 "no-such.gguf" tiny "$work/none.gguf" --vocab "$work/no-such.gguf"
refuses 1 "no-such/out.gguf" tiny "$work/no-such/out.gguf"

# Weights are the last bytes of a file, after keys and names: N of them have this checksum.
weights() { tail -c "$1" "$2" | cksum | cut -d ' ' -f 1; }
one="taskset -c 0" # a single thread
$one true 2>/dev/null || one=""
printf '5\n100\n200\n300\n' >"$work/ids"
# makes SHAPE N CHECKSUM [TYPE...]
makes() {
  shape=$1 n=$2 sum=$3
  shift 3
  "$model" "$shape" "$work/a.gguf" "$@" && $one "$model" "$shape" "$work/b.gguf" "$@"
  check "$shape $*: two runs, one of them of one thread, give one file" cmp "$work/a.gguf" "$work/b.gguf"
  check "$shape $*: weights $(weights "$n" "$work/a.gguf"), $sum expected" test "$(weights "$n" "$work/a.gguf")" = "$sum"
  check "$shape $*: is padded with unused tokens" grep -q '<unused4607>' "$work/a.gguf"
  "$tandem" logits -m "$work/a.gguf" -c 64 --tokens "$work/ids" -o "$work/logits" 2>"$work/said"
  # Of normal logits 4 x 4608 hardly any are above 6, and about a third are above 1.
  check "$shape $*: logits are normal: $(head -c 300 "$work/said")" sh -c "od -An -v -tf4 '$work/logits' | awk '
    { for (i = 1; i <= NF; i++) { n++; v = \$i < 0 ? -\$i : \$i; if (\$i !~ /^[-+.0-9e]+\$/ || v > 8) bad++; big += v > 1 } }
    END { exit !(n == 4 * 4608 && !bad && big > n / 4 && big < n / 2.5) }'"
}
makes tiny 4157440 3268287613
makes tiny-moe 15625216 4010202054 q8_0 f16
finish
