#!/usr/bin/env bash
# nghttp2's own client and load generator over HTTP/2, plain and by TLS: every request is answered, whole.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib/setup.sh"
need curl curl
need nghttp nghttp2-client
need h2load nghttp2-client
proxy

head -c 200000 /dev/zero >"$folder/body"
for url in "${h2[@]}"; do
    nghttp -nv -t 20s "$url/1000" "$url/2000" >"$folder/nghttp.log" 2>&1 || fail "nghttp $url"
    [ "$(grep -c ':status: 200' "$folder/nghttp.log")" -eq 2 ] || fail "nghttp $url: not two answers"
    nghttp -nv -t 20s -d "$folder/body" "$url/10" >"$folder/nghttp.log" 2>&1 || fail "nghttp -d $url"
    grep -q ':status: 200' "$folder/nghttp.log" || fail "nghttp -d $url: no answer"
    h2load -n 5000 -c 10 -m 50 "$url/1000" >"$folder/h2load.log" 2>&1
    grep -q ' 5000 succeeded, 0 failed, 0 errored, 0 timeout' "$folder/h2load.log" || fail "h2load $url"
    h2load -n 500 -c 5 -m 10 -d "$folder/body" "$url/10" >"$folder/h2load.log" 2>&1
    grep -q ' 500 succeeded, 0 failed, 0 errored, 0 timeout' "$folder/h2load.log" || fail "h2load -d $url"
done
