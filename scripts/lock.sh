#!/usr/bin/env bash
# Resolves the newest versions of everything that pyproject.toml and requirements/dev.in ask for into
# requirements/dev.txt, for every platform that we build on.
source "$(dirname "$0")/common.sh"

"$venv/bin/uv" pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate --no-emit-index-url \
  --custom-compile-command "make lock" --extra gateway --extra notebook --extra agent \
  pyproject.toml requirements/dev.in --output-file requirements/dev.txt
