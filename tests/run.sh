#!/bin/sh
# Runs all tests of a build folder and closes with "N passed, N failed, N skipped".
#   sh tests/run.sh [--valgrind] BUILD
# A test program counts with each of its cases, a shell test with the counts of its own last line, any other program as one.
set -u
valgrind=""
if [ "${1:-}" = "--valgrind" ]; then
  valgrind=1
  shift
fi
build=${1:-build}
jobs=$(nproc 2>/dev/null || echo 2)
log=$build/Testing/Temporary/LastTest.log

# What looks only at the sources or at the shipped libraries is tested once, in the plain build.
ctest_failed=0
only=""
[ "$build" = build ] || only="-LE plain"
if [ -n "$valgrind" ]; then
  log=$build/valgrind.log
  : >"$log"
  for program in "$build"/*_test; do
    echo "1/1 Testing: $(basename "$program")" >>"$log"
    echo "valgrind $program"
    valgrind -q --error-exitcode=9 --leak-check=full "$program" >>"$log" 2>&1 && echo "Test Passed." >>"$log" || echo "Test Failed." >>"$log"
  done
else
  rm -f "$log"
  # shellcheck disable=SC2086  # an option and its value
  ctest --test-dir "$build" --output-on-failure --no-tests=error -j "$jobs" $only || ctest_failed=1
fi
[ -f "$log" ] || { echo "run.sh: $log: the tests did not run" >&2; echo "0 passed, 1 failed, 0 skipped"; exit 1; }

awk -v ctest_failed=$ctest_failed '
  function close_program() {
    if (name == "") return
    if (good && passed + failed + skipped == 0) passed = 1
    if (!good && failed == 0) failed = 1 # crashed, timed out, never built
    if (failed) printf "FAILED %s: %d\n", name, failed
    all_passed += passed; all_failed += failed; all_skipped += skipped
    name = ""
  }
  / Testing: / { close_program(); name = $NF; passed = failed = skipped = good = missing = 0 }
  /\[  PASSED  \] [0-9]+ test/ { match($0, /\[  PASSED  \] [0-9]+/); passed += substr($0, RSTART + 13, RLENGTH - 13) }
  /\[  FAILED  \] [0-9]+ test/ { match($0, /\[  FAILED  \] [0-9]+/); failed += substr($0, RSTART + 13, RLENGTH - 13) }
  /\[  SKIPPED \] [0-9]+ test/ { match($0, /\[  SKIPPED \] [0-9]+/); skipped += substr($0, RSTART + 13, RLENGTH - 13) }
  /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ { passed += $1; failed += $3; skipped += $5 }
  /^\[  SKIPPED \] [^0-9]/ && !(($0, name) in seen) { seen[$0, name] = 1; print "skipped " name ": " $NF }
  /^skipped: / { print "skipped " name ": " substr($0, 10) }
  /^Test Passed/ { good = !missing }
  /^Command: ""/ { missing = 1 } # ctest calls a program that was not built passed
  /^Test (Failed|Passed)/ { close_program() }
  END {
    close_program()
    if (ctest_failed && !all_failed) all_failed = 1
    printf "%d passed, %d failed, %d skipped\n", all_passed, all_failed, all_skipped
    exit all_failed > 0
  }' "$log"
