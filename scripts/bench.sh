#!/usr/bin/env bash
# Runs the benchmarks on an optimised build and prints medians with commit and machine; --output files go to
# build/bench.
source "$(dirname "$0")/common.sh"

scripts/build.sh millstream_python tsdb_bench
mkdir -p build/bench
for bench in append_bench http_bench; do
  "$venv/bin/python" -m "benchmarks.python.$bench" --output "build/bench/$bench.json" "$@"
done
build/release/benchmarks/cpp/tsdb_bench --benchmark_out=build/bench/tsdb_bench.json --benchmark_out_format=json
