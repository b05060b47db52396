#!/usr/bin/env bash
# Rewrites the C++ and Python sources in the project's format, and mends what ruff can mend by itself.
source "$(dirname "$0")/common.sh"

git ls-files -z -- '*.cc' '*.h' | xargs -0 -r clang-format-19 -i
"$venv/bin/ruff" check --fix --quiet . || true
"$venv/bin/ruff" format --quiet .
