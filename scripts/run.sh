#!/usr/bin/env bash
# `make run`: prepares what is missing, then becomes the server.
source "$(dirname "$0")/common.sh"

scripts/setup.sh
scripts/build.sh millstream_python >&2
exec "$venv/bin/millstream" serve --data ./data --sample-host "$@"
