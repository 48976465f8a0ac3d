# Helpers of the shell tests: count, name what fails, close with the counts. Source it, call check..., end with finish.
passed=0
failed=0
skipped=0
pass() { passed=$((passed + 1)); }
fail() {
  failed=$((failed + 1))
  echo "FAILED: $*"
}
skip() {
  skipped=$((skipped + 1))
  echo "skipped: $*"
}
# check NAME COMMAND...: passes if the command succeeds.
check() {
  check_name=$1
  shift
  if "$@"; then pass; else fail "$check_name"; fi
}
finish() {
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
}
