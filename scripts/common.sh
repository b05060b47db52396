# Sourced by the other scripts: strict mode, the repository's root as the working directory, and stages with times.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=$root/.venv

# Objects are shared between checkouts: ccache sees paths relative to the root and no working directory.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONUNBUFFERED=1
jobs=${JOBS:-$(nproc)}

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
