#!/usr/bin/env bash
# Builds with the release preset: everything, or the targets named. The Python extension, the modules made from
# proto/ and the web page are put into the source tree's packages, where .venv finds them.
source "$(dirname "$0")/common.sh"

[ -f build/release/build.ninja ] || cmake --preset release
cmake --build --preset release --parallel "$jobs" ${1:+--target "$@"}
cmake --install build/release --component python --prefix python >build/release/install.log
"$venv/bin/python" scripts/page.py gateway/millstream_gateway/static
