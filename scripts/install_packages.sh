#!/usr/bin/env bash
# Installs those packages of docker/packages.txt that this machine lacks: all, or those of the groups and names given.
# Where nothing is missing it needs neither the network nor root. With --list it prints the names only.
source "$(dirname "$0")/common.sh"

list=
if [ "${1:-}" = --list ]; then
  list=yes
  shift
fi

# "group name", a line for each package
mapfile -t known < <(awk '{ sub(/#.*/, "") } /^\[/ { group = substr($1, 2, length($1) - 2); next } NF { print group, $1 }' \
  docker/packages.txt)
wanted=()
for choice in "${@:-all}"; do
  mapfile -t chosen < <(printf '%s\n' "${known[@]}" | awk -v choice="$choice" \
    'choice == "all" || $1 == choice || $2 == choice { print $2 }')
  [ "${#chosen[@]}" -gt 0 ] || die "docker/packages.txt has neither a group nor a package called $choice"
  wanted+=("${chosen[@]}")
done
if [ -n "$list" ]; then
  printf '%s\n' "${wanted[@]}"
  exit 0
fi
command -v dpkg-query >/dev/null || die "this is no Debian; install by hand what docker/packages.txt names"

# dpkg-query fails when it has never heard of a package, which is no failure here.
installed=$({ dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true; } |
  sed -n 's/^installed //p')
mapfile -t missing < <(printf '%s\n' "${wanted[@]}" | sort -u | comm -23 - <(sort -u <<<"$installed"))
[ "${#missing[@]}" -gt 0 ] || exit 0

say "installing ${#missing[@]} system packages: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || die "not root and no sudo: run as root: apt-get install ${missing[*]}"
  as_root=(sudo)
fi
"${as_root[@]}" apt-get -qq -o Acquire::Retries=3 update </dev/null
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
  install --no-install-recommends "${missing[@]}" </dev/null >&2
