#!/bin/sh
# The command line as scripts and people meet it: exit codes, contracts, messages, help.
set -u
. tests/support/check.sh
build=${1:-build}
tandem=$build/tandem
model=models/tales.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset NO_COLOR CLICOLOR_FORCE
for name in $(env | sed -nE 's/^((TANDEM|LLAMA_ARG)_[A-Z_]+)=.*/\1/p'); do
  case $name in TANDEM_S*) ;; *) unset "$name" ;; esac
done

if [ ! -x "$tandem" ]; then
  skip "cli: there is no program yet"
  finish
  exit
fi
if command -v python3 >/dev/null 2>&1; then python=python3; else python=""; fi

# exits CODE TEXT ARGUMENT...: the program ends with CODE and says TEXT (a pattern; "" = anything) on stderr.
exits() {
  code=$1 said=$2
  shift 2
  "$tandem" "$@" >"$work/out" 2>"$work/err" </dev/null
  got=$?
  if [ "$got" -ne "$code" ]; then fail "tandem $*: exit $got, $code expected: $(head -c 300 "$work/err")"
  elif [ -n "$said" ] && ! grep -qiE -- "$said" "$work/err"; then fail "tandem $*: '$said' expected on stderr: $(head -c 300 "$work/err")"
  elif [ "$code" -ne 0 ] && ! grep -q '^tandem: ' "$work/err" && [ "$code" -ne 130 ]; then fail "tandem $*: stderr does not begin with 'tandem: '"
  else pass; fi
}
# value KEY FILE: a number or string of a flat JSON object.
value() { sed -nE "s/.*\"$1\": ?\"?([^,\"}]*)\"?.*/\\1/p" "$2"; }
is_json() {
  [ -n "$python" ] || return 0
  $python -m json.tool "$1" >/dev/null
}
greedy() { "$tandem" run -m $model --temp 0 -n 24 --json "$@" 2>/dev/null; }

# ---- help and names
commands="run tokenize logits bench bench-share inspect explain fit pack version help"
"$tandem" completion bash >"$work/bash"
"$tandem" man >"$work/man"
for c in $commands; do
  "$tandem" "$c" --help >"$work/help" 2>"$work/err"
  check "tandem $c --help" test $? -eq 0
  check "help of $c has usage and examples" sh -c "grep -q '^Usage: tandem $c' '$work/help' && grep -q '^Examples' '$work/help' && [ ! -s '$work/err' ]"
  "$tandem" help "$c" >"$work/help2"
  check "tandem help $c is the same" cmp "$work/help" "$work/help2"
  # Names stand at the beginning of a line, up to the first word without a dash.
  for option in $(awk '/^  -/ { for (i = 1; i <= NF && $i ~ /^-/; i++) { sub(/,$/, "", $i); print $i } }' "$work/help"); do
    check "$c: $option is completed" grep -qE -- "^ *$c\\).*[ \"]$option " "$work/bash"
    check "$c: $option is in the manual" grep -qF -- "$(printf %s "$option" | sed 's/-/\\-/g')" "$work/man"
  done
done
exits 0 "" --help
exits 0 "" --version
exits 0 "" help
exits 2 "unknown command.*'run'" runn
exits 2 "unknown command.*'bench'" help bensh
exits 2 "unknown command" zzzzzzzzzz
"$tandem" >"$work/out" 2>"$work/err"
check "no command: exit 2 and the list" sh -c "[ $? -eq 2 ] && grep -q Commands '$work/err' && [ ! -s '$work/out' ]"
ln -s "$(cd "$build" && pwd)/tandem" "$work/llama-tokenize"
check "argv[0] selects the command" test "$("$work/llama-tokenize" -m $model -p tale)" = "$("$tandem" tokenize -m $model -p tale)"

# ---- options
exits 2 "unknown option.*--temp" run -m $model -p x --tempp 0
exits 2 "of 'tandem bench'|of 'tandem logits'" tokenize -m $model -p x --output y
exits 2 "unknown option" run -m $model -p x -zzzzzzz
exits 2 "needs a value" run -m
exits 2 "takes no value" run -m $model -p x --json=yes
exits 2 "top-p.*above 0, at most 1" run -m $model -p x --top-p 1.5
exits 2 "top-p" run -m $model -p x --top-p 0
exits 2 "threads.*0 to 1024" run -m $model -p x --threads 2000
exits 2 "-t: 'two'" run -m $model -p x -t two
exits 2 "whole number" run -m $model -p x -n 1e3
exits 2 "a number" run -m $model -p x --temp nan
exits 2 "a number" run -m $model -p x --temp 0x1
exits 2 "f16.f32.bf16.q8_0" run -m $model -p x --kv-type f64
exits 2 "bytes" run -m $model -p x --memory 5Q
exits 2 "bytes" run -m $model -p x --memory 99999999999999999999
exits 2 "seed" run -m $model -p x --seed -2
exits 2 "ID.B" run -m $model -p x --logit-bias 5
exits 2 "one is allowed" inspect $model -m $model
exits 2 "options only" run $model -p x
exits 2 "no model" run -p x
exits 2 "-p and -f" run -m $model -p x -f y
exits 2 "missing" logits -m $model --tokens x
exits 2 "missing" logits -m $model -o x
exits 2 "unknown shell" completion tcsh
exits 0 "given twice" tokenize -m $model -p x -p y
check "the last one counts" test "$(cat "$work/out")" = "$("$tandem" tokenize -m $model -p y)"
greedy --top_k=5 --no_ignore_eos -p King >"$work/a"
greedy --top-k 5 --no-ignore-eos -p King >"$work/b"
check "--opt=value, and _ for -" test "$(value logits_hash "$work/a")" = "$(value logits_hash "$work/b")"
check "-- ends the options" test "$("$tandem" inspect -- $model | head -n 1)" = "$("$tandem" inspect $model | head -n 1)"

# ---- exit codes
printf 'this is no model' >"$work/bad.gguf"
head -c 5000 $model >"$work/cut.gguf"
exits 66 "nowhere.gguf" run -m "$work/nowhere.gguf" -p x
exits 66 "nowhere" inspect "$work/nowhere.gguf"
exits 66 "nowhere" run -m $model -f "$work/nowhere"
exits 66 "" run -m "$work" -p x
for command in inspect explain "run -p x -m" "tokenize -p x -m" "bench -m"; do
  # shellcheck disable=SC2086  # words
  {
    exits 65 "bad.gguf" $command "$work/bad.gguf"
    exits 65 "cut.gguf" $command "$work/cut.gguf"
  }
done
exits 2 "tokens.*context" run -m $model -c 4 -p "Once upon a time there was a king who had three sons"
printf '1\n2\n3\n' >"$work/ids"
exits 2 "3 token ids, the context holds" logits -m $model -c 1 --tokens "$work/ids" -o "$work/x"
exits 71 "" run -m $model -p x --memory 1K

# ---- pack
exits 2 "name it with -o" pack $model
exits 2 "is the model itself" pack $model -o $model
exits 65 "bad.gguf" pack "$work/bad.gguf" -o "$work/packed.gguf"
exits 66 "nowhere" pack "$work/nowhere.gguf" -o "$work/packed.gguf"
exits 74 "no such place" pack $model -o "$work/no such place/packed.gguf"
check "what fails leaves no file" test ! -e "$work/packed.gguf"
exits 0 "" pack $model -o "$work/packed.gguf"
check "pack says what it did" grep -q 'in 87 tensors, of which .* in 43 lie as they are used' "$work/out"
"$tandem" pack models/tales-assistant.gguf -o "$work/packed-assistant.gguf" --json >"$work/pack.json"
check "pack --json is JSON" is_json "$work/pack.json"
check "of the tensors" grep -q '"packed": 23' "$work/pack.json"
"$tandem" inspect "$work/packed.gguf" >"$work/out"
check "inspect tells panels" grep -qE 'blk.0.attn_q.weight +q8_0 panels' "$work/out"
"$tandem" run -m $model -d models/tales-assistant.gguf -p "The king" -n 60 --seed 5 >"$work/plain" 2>"$work/plain.err"
"$tandem" run -m "$work/packed.gguf" -d "$work/packed-assistant.gguf" -p "The king" -n 60 --seed 5 >"$work/text" 2>"$work/err"
check "a packed pair tells the same tale" cmp "$work/plain" "$work/text"
check "to the last logit, with guesses" sh -c "grep -q 'draft [0-9]*/' '$work/err' && [ \"\$(sed 's/.*logits //' '$work/err')\" = \"\$(sed 's/.*logits //' '$work/plain.err')\" ]"

# ---- fit
"$tandem" fit -m $model --explain >"$work/fit" 2>"$work/err"
check "fit tells a budget, a peak and conditions" sh -c "grep -q '^budget' '$work/fit' && grep -q '^peak while running' '$work/fit' && grep -q 'drafter.s trained length' '$work/fit'"
check "the last line of fit is a list of options" sh -c "tail -1 '$work/fit' | grep -qE '^-c 2048 -ctk f16 -ctv f16 -ub 512\$'"
# shellcheck disable=SC2046  # a list of options
check "which run takes" "$tandem" run -m $model -p x -n 1 $(tail -1 "$work/fit")
smallest=$(awk '/nothing fits/ { printf "%d", $2 + 1 }' "$work/fit")
exits 0 "" fit -m $model --memory $((smallest + 600000))
exits 71 "at least" fit -m $model --memory $((smallest - 600000))
check "what does not fit is told all the same" grep -q 'nothing fits' "$work/out"
exits 71 "context of 2048 does not fit.*-c [0-9]+ would fit" run -m $model -p x -c 2048 --memory $((smallest + 600000))
would=$(sed -nE 's/.*-c ([0-9]+) would fit.*/\1/p' "$work/err")
check "and it does, less a page" "$tandem" run -m $model -p x -n 1 -c $((would - 256)) --memory $((smallest + 600000))
"$tandem" fit -m $model --json >"$work/fit.json" 2>/dev/null
check "fit --json is JSON" is_json "$work/fit.json"
check "with a schema" grep -q '"schema": "fit.v1"' "$work/fit.json"
exits 71 "" fit -m $model --memory 1K --json
check "also when nothing fits" sh -c "grep -q '\"fits\": false' '$work/out'"
check "llama-fit-params is fit" sh -c "ln -s '$(cd "$build" && pwd)/tandem' '$work/llama-fit-params' && '$work/llama-fit-params' -m $model | grep -q '^budget'"
printf '1\n99999999\n' >"$work/ids"
exits 65 "99999999" logits -m $model --tokens "$work/ids" -o "$work/o.f32"
check "and no half file" test ! -e "$work/o.f32"
printf '1\n2x\n' >"$work/ids"
exits 65 "line 2.*2x" logits -m $model --tokens "$work/ids" -o "$work/o.f32"
: >"$work/ids"
exits 65 "no token ids" logits -m $model --tokens "$work/ids" -o "$work/o.f32"
printf '1\n2\n3\n' >"$work/ids"
exits 74 "nowhere" logits -m $model --tokens "$work/ids" -o "$work/nowhere/o.f32"
if [ -w /dev/full ]; then
  exits 74 "full" logits -m $model --tokens "$work/ids" -o /dev/full
  "$tandem" run -m $model -p x -n 4 >/dev/full 2>"$work/err"
  check "a full disk under standard output: exit 74" test $? -eq 74
fi
{ "$tandem" inspect $model; echo $? >"$work/code"; } | head -c 1 >/dev/null
check "nobody reads: exit 0" test "$(cat "$work/code")" = 0
# The first read of a pipe gets what was there by then: not all, unless the reader was late.
early() {
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    n=$("$tandem" run -m $model -p Once -n 400 --temp 0 --ignore-eos 2>/dev/null | dd bs=65536 count=1 2>/dev/null | wc -c)
    [ "$n" -gt 0 ] && [ "$n" -lt 500 ] && return 0
  done
  return 1
}
check "run sends a pipe every piece at once" early
timeout --preserve-status -s INT 1 "$tandem" bench -m $model -r 1000 >"$work/out" 2>"$work/err"
check "Ctrl-C: exit 130" test $? -eq 130
if command -v script >/dev/null 2>&1; then
  script -qec "$tandem run -m $model" "$work/typescript" >/dev/null 2>&1
  check "no prompt on a terminal: exit 2" test $? -eq 2
  check "and says what to do" grep -q -- '-p' "$work/typescript"
else
  skip "terminal: script is not installed"
fi

# ---- environment
(TANDEM_MODEL=$model "$tandem" tokenize -p x >"$work/out")
check "TANDEM_MODEL" test "$(cat "$work/out")" = "$("$tandem" tokenize -m $model -p x)"
export TANDEM_THREADS=many LLAMA_ARG_SHOW_TIMINGS=
exits 78 "TANDEM_THREADS: 'many'" run -m $model -p x
unset TANDEM_THREADS
export LLAMA_ARG_SHOW_TIMINGS=perhaps
exits 78 "LLAMA_ARG_SHOW_TIMINGS: 'perhaps'" run -m $model -p x
unset LLAMA_ARG_SHOW_TIMINGS
(LLAMA_ARG_N_PREDICT=3 "$tandem" run -m $model -p King --temp 0 --ignore-eos --json >"$work/out" 2>/dev/null)
check "LLAMA_ARG_N_PREDICT" test "$(value n_generated "$work/out")" = 3
(LLAMA_ARG_N_PREDICT=3 TANDEM_N_PREDICT=4 "$tandem" run -m $model -p King --temp 0 --ignore-eos --json >"$work/out" 2>/dev/null)
check "TANDEM_X before LLAMA_ARG_X" test "$(value n_generated "$work/out")" = 4
(LLAMA_ARG_N_PREDICT=3 "$tandem" run -m $model -p King --temp 0 --ignore-eos --json -n 5 >"$work/out" 2>/dev/null)
check "the command line before both" test "$(value n_generated "$work/out")" = 5

# ---- tokenize
"$tandem" tokenize -m $model -p "Once upon a time" >"$work/ids.json"
check "tokenize writes a JSON array" sh -c "grep -qE '^\\[[0-9]+(,[0-9]+)*\\]\$' '$work/ids.json'"
printf 'Once upon a time' >"$work/text"
check "the same from a file" test "$("$tandem" tokenize -m $model --file "$work/text")" = "$(cat "$work/ids.json")"
check "and from standard input" test "$("$tandem" tokenize -m $model <"$work/text")" = "$(cat "$work/ids.json")"
check "nothing gives nothing" test "$("$tandem" tokenize -m $model </dev/null)" = "[]"
check "escapes" test "$("$tandem" tokenize -m $model -p 'a\nb\x41')" = "$(printf 'a\nbA' | "$tandem" tokenize -m $model)"
check "no escapes" test "$("$tandem" tokenize -m $model --no-escape -p 'a\nb')" = "$(printf 'a\\nb' | "$tandem" tokenize -m $model)"
check "--special adds BOS" test "$("$tandem" tokenize -m $model --special -p x)" != "$("$tandem" tokenize -m $model -p x)"

# ---- run
greedy -p "Once upon a time" >"$work/a.json"
check "run --json is JSON" is_json "$work/a.json"
for key in text tokens n_prompt n_generated seconds logits_hash stop; do check "run --json has $key" grep -q "\"$key\":" "$work/a.json"; done
check "24 tokens or an end" sh -c "grep -qE '\"n_generated\": ?24,.*\"stop\": ?\"length\"' '$work/a.json' || grep -q '\"stop\": ?\"end\"' '$work/a.json'"
if [ -n "$python" ]; then
  check "as many tokens as counted" $python -c "import json,sys; a=json.load(open('$work/a.json')); sys.exit(len(a['tokens'])!=a['n_generated'] or not a['text'])"
  "$tandem" run -m $model --temp 0 -n 24 -p "Once upon a time" >"$work/out" 2>/dev/null
  check "the text is that of plain output" $python -c "import json,sys; sys.exit(json.load(open('$work/a.json'))['text'].encode()!=open('$work/out','rb').read())"
fi
hash=$(value logits_hash "$work/a.json")
check "the hash is 16 hex digits" sh -c "echo '$hash' | grep -qE '^[0-9a-f]{16}\$'"
for variant in "-t 1" "-t 3" "-ub 1" "--ubatch 3" "--cpu scalar" "-c 512"; do
  # shellcheck disable=SC2086  # words
  greedy -p "Once upon a time" $variant >"$work/b.json"
  check "the same bits with $variant" test "$(value logits_hash "$work/b.json")" = "$hash"
done
printf 'Once upon a time\n' >"$work/text"
greedy -f "$work/text" >"$work/b.json"
check "the same from a file" test "$(value logits_hash "$work/b.json")" = "$hash"
greedy <"$work/text" >"$work/b.json"
check "and from standard input" test "$(value logits_hash "$work/b.json")" = "$hash"
draw() { "$tandem" run -m $model -n 24 --ignore-eos --temp 1.2 -p "Once upon a time" "$@" 2>"$work/err"; }
check "a seed gives the same text" test "$(draw --seed 7)" = "$(draw --seed 7)"
check "another seed another text" test "$(draw --seed 7)" != "$(draw --seed 8)"
first=$(draw)
seed=$(sed -nE 's/.*seed ([0-9]+).*/\1/p' "$work/err")
check "a random seed is reported and reproduces" test "$(draw --seed "$seed")" = "$first"
check "the footer tells speed, memory, hash" grep -qE 'prompt [0-9]+ tok .* t/s .* gen 24 tok .* t/s .* memory .* logits [0-9a-f]{16}$' "$work/err"
draw --no-show-timings >/dev/null
check "--no-show-timings" test ! -s "$work/err"
check "--display-prompt" sh -c "case '$(draw --display-prompt | head -c 16)' in 'Once upon a time') ;; *) false ;; esac"
check "no escape sequences in a pipe" sh -c "! grep -q \"\$(printf '\\033')\" '$work/err'"
id=$("$tandem" run -m $model -p King --temp 0 -n 1 --json 2>/dev/null | sed -nE 's/.*"tokens": ?\[([0-9]+)\].*/\1/p')
check "a banned token is not drawn" sh -c "! '$tandem' run -m $model -p King --temp 0 -n 1 --json --logit-bias $id-inf 2>/dev/null | grep -qE '\"tokens\": ?\\[$id\\]'"
check "-n 0 evaluates the prompt only" sh -c "'$tandem' run -m $model -p King -n 0 --json 2>/dev/null | grep -qE '\"n_generated\": ?0,'"
check "a full context ends it" sh -c "'$tandem' run -m $model -p King -c 32 --ignore-eos --json 2>/dev/null | grep -qE '\"stop\": ?\"context\"'"
check "-c 0 is what fits" sh -c "'$tandem' run -m $model -p King -c 0 -n 1 --json >/dev/null 2>&1"

# ---- logits
n_vocab=$("$tandem" inspect $model | sed -nE 's/.*tokenizer.ggml.tokens +string\[([0-9]+)\].*/\1/p')
printf '2\n10\n\n300\n4\n5' >"$work/ids"
"$tandem" logits -m $model --tokens "$work/ids" -o "$work/a.f32" 2>/dev/null
check "logits: tokens x vocabulary x 4 bytes" test "$(wc -c <"$work/a.f32")" -eq $((5 * n_vocab * 4))
"$tandem" logits -m $model --tokens - -o - <"$work/ids" >"$work/b.f32" 2>/dev/null
check "logits: the same through pipes" cmp "$work/a.f32" "$work/b.f32"
"$tandem" logits -m $model --tokens "$work/ids" -o "$work/b.f32" --ubatch 2 -t 1 2>/dev/null
check "logits: the same in passes of 2" cmp "$work/a.f32" "$work/b.f32"
for type in f32 f16 bf16 q8_0; do
  "$tandem" logits -m $model --tokens "$work/ids" -o "$work/b.f32" --kv-type $type 2>"$work/err"
  check "logits: --kv-type $type" test "$(wc -c <"$work/b.f32")" -eq $((5 * n_vocab * 4))
done
zoo=tests/data/zoo/llama
"$tandem" logits -m $zoo.gguf --tokens tests/data/zoo/tokens.txt -o "$work/z.f32" --kv-type f32
check "logits of a model without a vocabulary" test "$(wc -c <"$work/z.f32")" -eq "$(wc -c <$zoo.f32)"
exits 65 "vocab|tokenizer" run -m $zoo.gguf -p x

# ---- inspect, explain, version, bench
"$tandem" inspect $model --json >"$work/i.json"
check "inspect --json is JSON" is_json "$work/i.json"
"$tandem" inspect $model >"$work/i.txt"
check "inspect names architecture and tensors" sh -c "grep -q general.architecture '$work/i.txt' && grep -q token_embd.weight '$work/i.txt' && grep -q '^total' '$work/i.txt'"
"$tandem" explain $model -n 4 --json >"$work/e.json"
check "explain --json is JSON" is_json "$work/e.json"
check "explain prints something" test "$("$tandem" explain $model | wc -l)" -gt 10
exits 2 "1 to 4096" explain $model -n 0
"$tandem" version --json >"$work/v.json"
check "version --json is JSON" is_json "$work/v.json"

# ---- bench: measured
"$tandem" bench -m $model -p 16,8 -n 4 -d 0,300 --verify 2,3 -r 1 --json --plot "$work/bench.svg" >"$work/bench.json" 2>"$work/err"
check "bench --json is JSON" is_json "$work/bench.json"
is_xml() { # a well-formed picture
  [ -n "$python" ] || { grep -q '^</svg>' "$1"; return; }
  $python -c "import sys, xml.dom.minidom; xml.dom.minidom.parse('$1')"
}
check "the plot is well-formed" is_xml "$work/bench.svg"
if [ -n "$python" ]; then
  check "bench --json has what scripts read" $python -c "
import json
b = json.load(open('$work/bench.json'))
assert b['prefill']['tokens'] == 8 and b['decode']['tokens'] == 4
for part, key in (('prefill', 'tokens_per_second'), ('prefill', 'of_roof'), ('decode', 'tokens_per_second'), ('decode', 'of_roof'), ('decode', 'gb_per_second'),
                  ('ceilings', 'read_gb_per_second'), ('ceilings', 'int8_tops'), ('ceilings', 'f32_gflops'), ('ceilings', 'bf16_gflops')):
    assert b[part][key] > 0, (part, key)
assert [v['n'] for v in b['verify']] == [2, 3] and all(v['cost'] > 0 and v['tokens_per_second'] > 0 for v in b['verify'])
assert b['threads'] >= 1 and b['cpu']
tests = b['tests']
assert [(t['test'], t['n'], t['depth']) for t in tests] == [(k, n, d) for k, n in (('prompt', 8), ('prompt', 16), ('decode', 4), ('verify', 2), ('verify', 3)) for d in (0, 300)]
for t in tests:
    assert t['model'] == 'tales' and t['type'] == 'q8_0' and t['n_params'] > 5e6 and t['threads'] >= 1 and t['tokens_per_second'] > 0 and 0 < t['of_roof'], t
    assert t['roof'] == {'prompt': 'int8', 'decode': 'read'}.get(t['test'], t['roof']) and t['ceiling'] > 0
    assert ('tops' in t) == (t['roof'] != 'read') and ('gb_per_second' in t) == (t['roof'] == 'read') and ('cost' in t) == (t['test'] == 'verify')
    rate = t.get('tops', t.get('gb_per_second')) / t['ceiling']
    assert 0.2 < rate / t['of_roof'] < 5, t # medians of parts, and the part of medians
# What a token reads: all weights, and 2 of 6 layers with 1 head of 64 + 64, 4 with 2 heads through a window of 128; f16.
read = {d: [t['gb_per_second'] * 1e9 / t['tokens_per_second'] for t in tests if t['test'] == 'decode' and t['depth'] == d][0] for d in (0, 300)}
assert abs(read[300] - read[0] - 300 * 512 - (128 - 2.5) * 2048) < 10, read
"
  "$tandem" bench -m tests/data/zoo/mixtral.gguf -p 0 -n 0 --verify 2,3 -r 1 --json >"$work/moe.json" 2>"$work/err"
  check "a pass over more tokens reads more experts" $python -c "
import json
two, three = json.load(open('$work/moe.json'))['verify']
# 2 of 8 for each: 1.75 and 2.31 times as many as for one, where reading is what takes longest.
if 'gb_per_second' in two and 'gb_per_second' in three: assert abs((three['roof_cost'] - 1) / (two['roof_cost'] - 1) - 1.3125 / 0.75) < 0.05, (two, three)
"
else
  skip "contents of JSON: python3 is not installed"
fi
"$tandem" bench --sweep -m models/tales-draft.gguf -m $model -t 2 -p 8 -n 0 -d 16,64,5000 -r 1 >"$work/out" 2>"$work/err"
check "a sweep has models, threads and depths" test "$(grep -cE '^tales(-draft)? +[12]  prompt 8 @ (16|64) ' "$work/out")" -eq 8
check "and how the roofs grow" grep -q 'time x  roof x' "$work/out"
check "what is left out is said" grep -qE 'tales: depth 5000 is left out: .* more than the trained 2048' "$work/err"
check "and nothing of progress, away from a terminal" sh -c "! grep -q 'prompt 8' '$work/err'"
exits 2 "nothing is left to measure" bench -m $model -p 0 -n 0 --verify 0
exits 2 "-p: '1,,2'.*whole numbers" bench -m $model -p 1,,2
exits 2 "-d: '1,'" bench -m $model -d 1,
exits 2 "verify.*0 to 64" bench -m $model --verify 2,65
exits 2 "more than 16" bench -m $model -n 1,2,3,4,5,6,7,8 -n 1,2,3,4,5,6,7,8,9
exits 71 "context" bench -m $model -d 16000000 -p 1 -n 0 --memory 100M

# ---- bench: read
results=tests/data/bench
"$tandem" bench --from $results/tandem.json --compare old=$results/older.json --compare $results/llama-bench.json --compare x=$results/llama-bench.jsonl \
  --compare x=$results/batched-bench.jsonl --plot "$work/from.svg" >"$work/out" 2>"$work/err"
check "bench --from and --compare" test $? -eq 0
# row TEST VALUE...: the line of a test ends in these, two for each file: theirs, and ours over theirs
row() {
  test_name=$1
  shift
  check "compared: $test_name" grep -qE "^$test_name  .* $(echo "$*" | sed 's/ / +/g')\$" "$work/out"
}
row "prompt 512" 160.0 1.25 100.0 2.00 300.0 0.67
row "prompt 512 @ 2048" - - - - - -
row "decode 64" 80.0 0.50 - - - - # the one with 4 threads is not ours
row "decode 64 @ 2048" - - 16.0 2.00 8.0 4.00
row "verify 4 @ 2048" - - - - 48.0 2.00
check "cost grows as the roof" grep -qE '^decode 64 @ 2048 .* 1.25 +1.25 ' "$work/out"
check "a name cannot be markup" is_xml "$work/from.svg"
"$tandem" bench --from $results/tandem.json --from $results/tandem.json --compare "$work/bench.json" --json >"$work/out" 2>"$work/err"
check "medians of several files as JSON" is_json "$work/out"
check "are those of one" sh -c "grep -q '\"test\":\"decode\",\"n\":64,\"depth\":2048,\"roof\":\"read\",\"tokens_per_second\":32,' '$work/out'"
sed 's/"roof":"read","gb_per_second":27.0,"ceiling":33.3/"roof":"int8","tops":0.9,"ceiling":1.0/' $results/tandem.json >"$work/other_roof.json"
"$tandem" bench --from $results/tandem.json --from "$work/other_roof.json" --json >"$work/merged" 2>/dev/null
check "ceilings of two kinds have no median" sh -c "! grep -q '\"ceiling\":17' '$work/merged' && grep -q '\"of_roof\":0.8,\"gb_per_second\":27,\"ceiling\":33' '$work/merged'"
check "nothing in common is said" grep -q "bench: no test in common" "$work/err"
"$tandem" bench --from "$work/bench.json" --compare me="$work/bench.json" >"$work/out" 2>"$work/err"
check "a run is as fast as itself" test "$(grep -cE ' 1\.00$' "$work/out")" -eq 10
broken() { # broken TEXT CONTENT: exit 65 with the name and TEXT
  printf "$2" >"$work/broken.json"
  exits 65 "broken.json: .*$1" bench --from $results/tandem.json --compare x="$work/broken.json"
}
broken "no tests" ''
broken "value 1: .*offset 0x" '{"tests": [1,'
broken "value 2: .*offset 0x29" '{"n_prompt":1,"n_gen":0,"avg_ts":100.0}\nx{'
broken "value 1: maximum parsing depth" "$(head -c 5000 /dev/zero | tr "\\0" "[")"
broken "value 1: " 'this is no JSON \001\377'
broken "value 1: " '{"tests":\000[]}'
broken "no benchmark" '[1, 2]'
broken "no benchmark" '{"a": 1}'
broken '"tests" is missing or wrong' '{"tests": 5}'
broken "no tests" '{"tests": []}'
broken 'test 1: "test" is missing' '{"tests": [5]}'
broken 'test 2: "avg_ts" is missing or wrong' '[{"n_prompt":1,"n_gen":0,"avg_ts":1},{"n_prompt":1,"n_gen":0,"avg_ts":"fast"}]'
broken '"avg_ts" is missing or wrong' '[{"n_prompt":1,"n_gen":0,"avg_ts":-1}]'
broken '"n_gen" is missing or wrong' '[{"n_prompt":1,"n_gen":99999999999,"avg_ts":1}]'
broken '"n_prompt" is missing or wrong' '[{"n_gen":1.5,"n_prompt":1e3,"avg_ts":1}]'
broken '"pl" is missing or wrong' '{"pp":1,"speed_tg":1}'
broken '"roof" is missing or wrong' '{"tests":[{"test":"decode","n":1,"tokens_per_second":1,"roof":"sky"}]}'
exits 66 "nowhere.json" bench --from "$work/nowhere.json"
exits 66 "nowhere.json" bench -m $model --compare x="$work/nowhere.json"
exits 2 "no model" bench --compare $results/older.json
exits 74 "nowhere" bench --from $results/tandem.json --plot "$work/nowhere/p.svg"
printf '#!/bin/sh\ncat %s/llama-bench.json\n' "$(pwd)/$results" >"$work/peer"
chmod +x "$work/peer"
ROUNDS=2 PROMPT=0 PREDICT=64 DEPTH=16 VERIFY=0 THREADS=1 MODEL=models/tales-draft.gguf OUT="$work/rounds" LLAMA_BENCH=false IK_BENCH="$work/peer" \
  sh tools/bench_peers.sh "$build" >"$work/out" 2>"$work/err"
check "tools/bench_peers.sh: by turns" sh -c "grep -qE '^test .* ik_llama.cpp  ratio\$' '$work/out' && [ -s '$work/rounds/tandem.2.json' ] && [ -s '$work/rounds/ik_llama.cpp.2.json' ]"
check "a peer that fails is left out" grep -q 'llama.cpp failed and is left out' "$work/err"

# ---- the README tells the truth
# But for what is said of speed.
awk '/^```/ { inside = 0 } inside; /^\$ build\/tandem run/ && !/2>&1/ { inside = 1 }' README.md >"$work/promised"
arguments=$(sed -nE '/2>&1/d; s/^\$ build\/tandem (run.*)/\1/p' README.md)
{ eval "\"$tandem\" $arguments --no-show-timings"; echo; } >"$work/out" 2>"$work/err"
check "README.md has a run" test -s "$work/promised"
check "and it is what happens" cmp "$work/promised" "$work/out"
# ---- drafters
assistant=models/tales-assistant.gguf
small=models/tales-draft.gguf
greedy --no-draft >"$work/plain"
for how in "" "--spec shared --spec-depth 3" "-d $small --spec model --spec-depth 2" "--spec ngram --spec-ngram-simple-size-n 1 --spec-ngram-mod-n-match 2 --spec-depth 4" "--spec draft-mtp --spec-depth-random 5" \
  "-d $assistant --draft-max 4 --draft-min 2 --draft-p-min 0.3 --spec-depth 4"; do
  # shellcheck disable=SC2086  # options
  greedy $how >"$work/guessed"
  check "the same tokens with: $how" [ "$(sed -E 's/.*("tokens":\[[^]]*\]).*/\1/' "$work/plain")" = "$(sed -E 's/.*("tokens":\[[^]]*\]).*/\1/' "$work/guessed")" ]
  check "the same logits with: $how" [ "$(value logits_hash "$work/plain")" = "$(value logits_hash "$work/guessed")" ]
done
greedy --spec shared --spec-depth 3 >"$work/guessed"
check "run --json tells what was guessed" grep -qE '"draft":\{"type":"shared","drafted":[1-9][0-9]*,"accepted":[0-9]+,"per_position":\[\{' "$work/guessed"
check "without guesses it tells nothing" sh -c "! grep -q '\"draft\"' '$work/plain'"
"$tandem" run -m $model -p "Once upon a time" -n 20 --temp 0 --spec shared --spec-depth 3 2>"$work/err" >/dev/null
check "the footer tells what was guessed" grep -qE 'draft [0-9]+/[1-9][0-9]* accepted .* by position' "$work/err"
"$tandem" run -m $model -p "Once upon a time" -n 40 --temp 0 --spec shared --spec-depth 3 --show-draft --color >"$work/shown" 2>/dev/null
"$tandem" run -m $model -p "Once upon a time" -n 40 --temp 0 --no-draft >"$work/bare" 2>/dev/null
check "--show-draft colours guessed tokens" grep -q "$(printf '\033')\[32m" "$work/shown"
check "and changes nothing else" [ "$(sed "s/$(printf '\033')\[[0-9]*m//g" "$work/shown")" = "$(cat "$work/bare")" ]
exits 2 "no drafter, there are auto, off" run -m $model -p x -n 1 --spec shred
greedy --spec ngram --spec-ngram-simple-size-n 1 --spec-depth 4 >"$work/short"
check "a shorter match guesses more" grep -q '"draft":{"type":"ngram-simple","drafted":[1-9]' "$work/short"
exits 2 "spec-ngram-simple-size-n" run -m $model -p x -n 1 --spec-ngram-simple-size-n 65
exits 2 "no drafter beside" run -m $assistant -p x -n 1 --spec on
exits 65 "draft head: it cannot run alone.*-d" run -m $assistant -p x -n 1
exits 65 "vocabularies of target and drafter differ in tokens: 4096 and 288" run -m $model -d tests/data/zoo/llama.gguf -p x -n 1
exits 66 "no-such" run -m $model -d no-such.gguf -p x -n 1
exits 2 "spec-depth|0 to 64|-1..64" run -m $model -p x -n 1 --spec-depth 65
exits 2 "needs a drafter" logits -m $model --tokens tests/data/zoo/tokens.txt -o "$work/rows" --draft-steps 3
"$tandem" logits -m tests/data/zoo/gemma4.gguf -d tests/data/zoo/gemma4-assistant.gguf --draft-steps 5 --tokens tests/data/zoo/gemma4+assistant.tokens \
  -o "$work/rows" --kv-type f32 2>"$work/err"
check "logits -d writes the target's row and the steps'" [ "$(wc -c <"$work/rows")" -eq $((6 * 288 * 4)) ]
check "and says the ids on stderr" grep -qx "draft: $(tr '\n' ' ' <tests/data/zoo/gemma4+assistant.draft | sed 's/ $//')" "$work/err"
"$tandem" bench share -m $model -d $assistant -p 32 -r 1 --json --plot "$work/share.svg" >"$work/share" 2>"$work/err"
check "bench share ends well" [ $? -eq 0 ]
check "bench share --json is JSON" is_json "$work/share"
check "a borrow has no bytes" grep -q '"here":0,' "$work/share"
check "no allocation while tokens come" grep -q '"allocations":0,' "$work/share"
check "no page is lost or unusable" grep -q '"unusable":0,"lost":0,' "$work/share"
check "the plot is a picture" grep -q '^</svg>' "$work/share.svg"
exits 2 "no drafter" bench share -m $model

# ---- sessions on disk
talk() { "$tandem" run -m $model --temp 0.8 --seed 3 --session "$work/talk" "$@" 2>"$work/err"; }
alone() { "$tandem" run -m $model --temp 0.8 --seed 3 "$@" 2>/dev/null; }
talk -p "Once upon a time" -n 30 --ignore-eos >"$work/one"
check "a session is created" test -f "$work/talk"
check "and said to be saved" grep -qE "^session .*talk: 3[0-9] tokens saved\$" "$work/err"
talk -p "" -n 30 --ignore-eos >"$work/two"
check "it is resumed, which is said" grep -qE "^session .*talk: 3[0-9] tokens resumed\$" "$work/err"
cat "$work/one" "$work/two" >"$work/both"
alone -p "Once upon a time" -n 60 --ignore-eos >"$work/whole"
check "the text of two runs is that of one" cmp "$work/both" "$work/whole"
cp "$work/talk" "$work/kept"
talk -p " The king" -n 5 --json >"$work/s.json"
check "a prompt continues the conversation" sh -c "grep -qE '\"n_prompt\":[1-9],\"n_resumed\":6[0-9],' '$work/s.json'"
check "of which --json says nothing else" [ ! -s "$work/err" ]
check "with the same bits from one thread" sh -c "cp '$work/kept' '$work/t1' && '$tandem' run -m $model --temp 0.8 --seed 3 --session '$work/t1' -p ' The king' -n 5 -t 1 --json 2>/dev/null | grep -q '\"logits_hash\":\"$(value logits_hash "$work/s.json")\"'"
check "and leaves the same file" cmp "$work/talk" "$work/t1"
stays() { # stays CODE TEXT ARGUMENT...: refused, and the file is as it was
  cp "$work/kept" "$work/talk"
  exits "$@"
  check "the session stays as it was" cmp "$work/talk" "$work/kept"
  check "nothing lies beside it" [ ! -e "$work/talk.unfinished" ]
}
stays 65 "keys in the cache: f16.*q8_0" run -m $model -p x -n 1 --session "$work/talk" --kv-type q8_0
stays 65 "another model" run -m models/tales-draft.gguf -p x -n 1 --session "$work/talk"
stays 2 "tokens: 6[0-9] are saved, the context holds 40" run -m $model -p x -n 1 -c 40 --session "$work/talk"
stays 2 "after the session's 6.*the context holds 80; -c" run -m $model -c 80 --session "$work/talk" -n 1 -p "a b c d e f g h i j k l m n o p q r s t u v w x y z"
head -c 1000 "$work/talk" >"$work/cut"
exits 65 "cut.*1000, must be [0-9]+ .offset" run -m $model -p x -n 1 --session "$work/cut"
check "a damaged file is left alone" [ "$(wc -c <"$work/cut")" -eq 1000 ]
exits 74 "nowhere" run -m $model -p x -n 1 --session "$work/nowhere/talk"
exits 74 "directory" run -m $model -p x -n 1 --session "$work"
exits 2 "no file" run -m $model -p x -n 1 --session -
printf 'half' >"$work/talk.unfinished" # what a killed run leaves
talk -p "" -n 1 >"$work/out"
check "litter of a killed run goes" [ ! -e "$work/talk.unfinished" ]
rm -f "$work/talk"
talk -p "Once" -n 20 -c 16 --ignore-eos >"$work/out"
check "a full context is saved" grep -q ": 16 tokens saved" "$work/err"
rm -f "$work/talk"
# The watcher interrupts once there is an answer to interrupt.
: >"$work/out"
(
  for i in $(seq 600); do
    [ -s "$work/out" ] && break
    sleep 0.1
  done
  kill -INT "$(cat "$work/pid")"
) &
sh -c 'echo $$ >"$0"; exec "$@"' "$work/pid" "$tandem" run -m $model -t 1 --cpu scalar --no-draft -p "Once" -n -1 -c 4000 --ignore-eos --session "$work/talk" >"$work/out" 2>"$work/err"
code=$?
check "Ctrl-C in an answer: exit 130" test $code -eq 130
check "what was said until then is saved" grep -q "tokens saved" "$work/err"
wait
talk -p "" -n 2 -c 4000 >"$work/out"
check "and can be gone on with" test $? -eq 0

awk '/^```/ { inside = 0 } inside; /^\$ tandem run .*--session/ { inside = 1 }' README.md | grep -v '^\$' >"$work/promised"
sed -nE 's/^\$ tandem (run .*--session tale.*)/\1/p' README.md >"$work/runs"
while read -r arguments; do
  eval "\"$tandem\" $(printf %s "$arguments" | sed "s|--session tale|--session $work/tale|")" </dev/null >"$work/a" 2>"$work/err"
  { grep resumed "$work/err"; cat "$work/a"; echo; grep saved "$work/err"; } | sed "s|$work/||" # as a terminal shows it
done <"$work/runs" >"$work/out"
check "the README's conversation is what happens" cmp "$work/promised" "$work/out"

finish
