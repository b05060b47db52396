#!/usr/bin/env bash
# Runs the benchmarks on an optimised build and prints medians with commit and machine. What the Python benchmarks and
# the ones of Google Benchmark found is also in build/bench. Arguments go to the Python benchmarks.
source "$(dirname "$0")/common.sh"

scripts/build.sh millstream_python promql_bench tsdb_bench log_bench checkpoint_bench
out=build/bench
cpp=build/release/benchmarks/cpp
mkdir -p "$out"

for bench in append_bench http_bench; do
  "$venv/bin/python" -m "benchmarks.python.$bench" --output "$out/$bench.json" "$@"
done

"$venv/bin/python" -m benchmarks.python.machine
for bench in promql_bench tsdb_bench; do
  "$cpp/$bench" --benchmark_repetitions=5 --benchmark_report_aggregates_only=true \
    --benchmark_out="$out/$bench.json" --benchmark_out_format=json
done
"$cpp/log_bench" "$out/log"
"$cpp/checkpoint_bench" "$out/checkpoint" 100000
