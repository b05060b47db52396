#!/usr/bin/env bash
# Every check that reads sources and runs none of them. Needs a configured build/release for clang-tidy, and the
# built extension for the check of its type stubs.
source "$(dirname "$0")/common.sh"

failed=()
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    say "lint: $name ok ($((SECONDS - start)) s)"
  else
    say "lint: $name FAILED ($((SECONDS - start)) s)"
    failed+=("$name")
  fi
}

clang_format() { git ls-files -z -- '*.cc' '*.h' | xargs -0 -r clang-format-19 --dry-run -Werror; }

[ -f build/release/compile_commands.json ] || cmake --preset release >/dev/null
check clang-format clang_format
check ruff "$venv/bin/ruff" check --quiet .
check "ruff format" "$venv/bin/ruff" format --quiet --check .
check mypy "$venv/bin/mypy"
check "_core.pyi" "$venv/bin/python" scripts/stubs.py
check tidy "$venv/bin/pytest" --quiet tests/tidy
check audit "$venv/bin/python" scripts/audit.py
check clang-tidy "$venv/bin/python" scripts/clang_tidy.py --jobs "$jobs"
[ "${#failed[@]}" -eq 0 ] || die "lint failed: ${failed[*]}"
