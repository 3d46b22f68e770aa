#!/usr/bin/env bash
# h2spec, all of its cases, plain and by TLS. It is in no package index, so it must be there already: on PATH, or its path
# in H2SPEC. `http2/public_list.rs` has a case of our own for each of its cases.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib/setup.sh"
need curl curl
h2spec=${H2SPEC:-$(command -v h2spec)}
[ -n "$h2spec" ] || skip "h2spec is not there (set H2SPEC to its path)"
proxy

for url in "${h2[@]}"; do
    where=(-h 127.0.0.1 -p "$plain")
    [ "${url#https}" = "$url" ] || where=(-t -k -h localhost -p "$secure")
    "$h2spec" "${where[@]}" -P /1000 -o 5 >"$folder/h2spec.log" 2>&1
    tail -n 1 "$folder/h2spec.log"
    grep -q '^146 tests, 146 passed' "$folder/h2spec.log" || { cat "$folder/h2spec.log"; fail "h2spec at $url"; }
done
