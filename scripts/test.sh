#!/usr/bin/env bash
# What `make test` and CI run, stage by stage, ending at the first stage that fails. Arguments name the stages to run;
# without any, all run but `nightly`. Needs no terminal and no standard input.
source "$(dirname "$0")/common.sh"
exec </dev/null

stage_setup() { scripts/setup.sh; }

stage_build() { scripts/build.sh; }

# C++ unit tests and golden scripts, optimised
stage_unit() { ctest --preset release --parallel "$jobs" --no-tests=error; }

stage_lint() { scripts/lint.sh; }

# the Python packages, the gateway's routes, and the examples of the documents
stage_python() {
  "$venv/bin/pytest" -p tests.no_skips -p tests.no_secrets --quiet --durations=5 -n "$jobs" tests/python tests/gateway tests/docs
}

stage_page() {
  "$venv/bin/python" scripts/page.py --script check
  "$venv/bin/python" scripts/page.py --script test
}

# C++ tests and a short run of each fuzzer under AddressSanitizer and UndefinedBehaviorSanitizer
stage_asan() { sanitized asan; }

stage_tsan() { sanitized tsan; }

sanitized() {
  [ -f "build/$1/build.ninja" ] || cmake --preset "$1"
  cmake --build --preset "$1" --parallel "$jobs"
  ctest --preset "$1" --parallel "$jobs" --no-tests=error
}

# a wheel made by the machine's default compiler, repaired for other Linuxes, in a fresh environment
stage_wheel() { scripts/wheel.sh; }

# real services: Prometheus, node_exporter, Chromium, kill -9
stage_e2e() {
  "$venv/bin/python" -m tests.services.artifacts
  # Each file by one process: its tests share the services that it starts.
  "$venv/bin/pytest" -p tests.no_skips -p tests.no_secrets --quiet --durations=10 -n "$jobs" --dist loadfile tests/e2e
}

# each source compiled by itself, and clients that take minutes to build; by name only: make test STAGES="build nightly"
stage_nightly() {
  cmake --preset dev
  cmake --build --preset dev --parallel "$jobs"
  "$venv/bin/pytest" -p tests.no_skips -p tests.no_secrets --quiet -s tests/nightly
}

stages=(setup build unit lint python page asan tsan wheel e2e)
[ $# -eq 0 ] || stages=("$@")
times=()
began=$SECONDS
summary() {
  say ""
  printf '  %-8s %s\n' "${times[@]}" >&2
  say "  total    $((SECONDS - began)) s"
}

for stage in "${stages[@]}"; do
  declare -F "stage_$stage" >/dev/null || die "no stage is called '$stage'"
done
for stage in "${stages[@]}"; do
  say "=== $stage ($(date -u +%H:%M:%S))"
  start=$SECONDS
  # `set -e` is off inside whatever a condition calls, so the stage is no condition.
  set +e
  (set -e; "stage_$stage")
  status=$?
  set -e
  if [ $status -ne 0 ]; then
    times+=("$stage" "FAILED after $((SECONDS - start)) s")
    summary
    die "stage '$stage' failed; run it alone with: make test STAGES=$stage"
  fi
  times+=("$stage" "$((SECONDS - start)) s")
  say "=== $stage took $((SECONDS - start)) s"
done
summary
say "all passed"
