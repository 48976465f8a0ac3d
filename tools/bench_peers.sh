#!/bin/sh
# Measures tandem and other programs by turns, so that all meet the machine in the same states, and prints medians and ratios.
#   sh tools/bench_peers.sh [BUILD [OPTION...]]      OPTIONs are for the table: --plot FILE, --json
# From the environment:
#   LLAMA_BENCH, IK_BENCH   llama-bench of llama.cpp and of ik_llama.cpp; one that is not named is left out
#   MODEL THREADS           a GGUF file; default models/tales.gguf, all processors
#   PROMPT PREDICT DEPTH    tokens, lists with commas allowed; default 512, 64, 0
#   VERIFY                  tokens of passes, tandem alone; default 2,4,8,16
#   ROUNDS                  default 3
#   OUT                     a folder that keeps what each program wrote; default: a temporary one
set -eu
build=${1:-build}
[ $# -eq 0 ] || shift
tandem=$build/tandem
model=${MODEL:-models/tales.gguf}
threads=${THREADS:-$(getconf _NPROCESSORS_ONLN)}
prompt=${PROMPT:-512} predict=${PREDICT:-64} depth=${DEPTH:-0} verify=${VERIFY:-2,4,8,16} rounds=${ROUNDS:-3}
if [ -n "${OUT:-}" ]; then
  out=$OUT
  mkdir -p "$out"
else
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi

say() { echo "bench_peers: $*" >&2; }
[ -x "$tandem" ] || { say "$tandem: no such program"; exit 1; }
[ -f "$model" ] || { say "$model: no such file"; exit 1; }

# ik_llama.cpp's has no depth for prompts; tokens generated behind a context are its "-gp".
behind=""
for d in $(echo "$depth" | tr ',' ' '); do
  for n in $(echo "$predict" | tr ',' ' '); do
    [ "$d" -eq 0 ] || behind="$behind -gp $d,$n"
  done
done

# measure NAME ROUND COMMAND...: what it says goes to OUT/NAME.ROUND.json; a program that fails is left out from then on.
measure() {
  name=$1 round=$2 file=$out/$1.$2.json
  shift 2
  say "round $round of $rounds: $name"
  "$@" >"$file" 2>"$out/$name.log" && return
  say "$name failed and is left out: $(tail -n 1 "$out/$name.log")"
  rm -f "$out/$name".*.json
  return 1
}

llama=${LLAMA_BENCH:-} ik=${IK_BENCH:-}
[ -n "$llama" ] || say "LLAMA_BENCH is not set: without llama.cpp"
[ -n "$ik" ] || say "IK_BENCH is not set: without ik_llama.cpp"
tests="-t $threads -p $prompt -n $predict -r 1 -fa 1 -o json"
round=1
while [ "$round" -le "$rounds" ]; do
  measure tandem "$round" "$tandem" bench -m "$model" -t "$threads" -p "$prompt" -n "$predict" -d "$depth" --verify "$verify" -r 1 --json || exit 1
  # shellcheck disable=SC2086  # lists of words
  {
    [ -z "$llama" ] || measure llama.cpp "$round" "$llama" -m "$model" $tests -d "$depth" || llama=""
    [ -z "$ik" ] || measure ik_llama.cpp "$round" "$ik" -m "$model" $tests $behind || ik=""
  }
  round=$((round + 1))
done

for file in "$out"/tandem.*.json; do set -- "$@" --from "$file"; done
for name in llama.cpp ik_llama.cpp; do
  for file in "$out/$name".*.json; do [ ! -f "$file" ] || set -- "$@" --compare "$name=$file"; done
done
"$tandem" bench "$@"
