#!/usr/bin/env bash
# wrk, plain and by TLS: no answer is wrong, none is missing.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib/setup.sh"
need curl curl
need wrk wrk
proxy

for url in "http://127.0.0.1:$plain" "https://localhost:$secure"; do
    wrk -t 1 -c 100 -d 3s "$url/1000" >"$folder/wrk.log" 2>&1 || fail "wrk $url"
    grep -qE 'Socket errors|Non-2xx' "$folder/wrk.log" && fail "wrk $url"
    grep -qE '[1-9][0-9]* requests in' "$folder/wrk.log" || fail "wrk $url: no requests"
done
exit 0
