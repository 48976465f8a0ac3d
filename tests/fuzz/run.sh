#!/bin/sh
# Runs every fuzz target for some seconds: sh tests/fuzz/run.sh BUILD SECONDS
# What is found new is kept under BUILD/corpus, crashes under BUILD; seeds are in tests/fuzz/corpus/TARGET/.
set -u
build=$1
seconds=$2
bad=0
for source in tests/fuzz/*_fuzz.c; do
  [ -f "$source" ] || continue
  name=$(basename "$source" .c)
  subject=${name%_fuzz}
  mkdir -p "$build/corpus/$subject"
  seeds=""
  [ -d "tests/fuzz/corpus/$subject" ] && seeds=tests/fuzz/corpus/$subject
  echo "fuzz $subject"
  ASAN_OPTIONS=allocator_may_return_null=1 "$build/$name" -max_total_time="$seconds" -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$build/" "$build/corpus/$subject" ${seeds:+"$seeds"} 2>"$build/$name.log" || {
    bad=1
    tail -n 40 "$build/$name.log"
  }
  grep -E 'stat::number_of_executed_units|BINGO|SUMMARY' "$build/$name.log"
done
exit $bad
