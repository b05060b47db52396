#!/usr/bin/env bash
# `make run`: prepares what is missing, then becomes the server. What the server prints passes through here, so that
# the address it is ready at can be followed by things to try there.
source "$(dirname "$0")/common.sh"

things_to_try() {
  trap '' INT  # Ctrl-C is for the server; this ends when the server's output does
  local line url
  while IFS= read -r line; do
    printf '%s\n' "$line"
    if [[ $line =~ (https?://[^ ]+) ]]; then
      url=${BASH_REMATCH[1]%/}
      cat <<END

  1. See this machine:      open $url/ and pick host_cpu_seconds_total or host_memory_bytes
  2. Ask from a shell:      .venv/bin/millstream query 'sum by (mode) (rate(host_cpu_seconds_total[1m]))' --server $url
  3. Send something:        curl $url/metrics -H 'Content-Type: application/json' \\
                              -d '{"metrics":[{"name":"room_celsius","value":21.5,"labels":{"room":"kitchen"}}]}'

Ctrl-C stops the server; the data stays in ./data.
END
    fi
  done
}

scripts/setup.sh build
scripts/build.sh millstream_python >&2
exec "$venv/bin/millstream" serve --data ./data --sample-host "$@" > >(things_to_try)
