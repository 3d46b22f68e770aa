#!/usr/bin/env bash
# sslscan finds TLS 1.2 and 1.3 alone, no weak cipher and no weak group.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib/setup.sh"
need curl curl
need sslscan sslscan
proxy

sslscan --no-colour "localhost:$secure" >"$folder/sslscan.log" 2>&1 || fail "sslscan"
has() { grep -qE "$1" "$folder/sslscan.log" || fail "sslscan: not found: $1"; }
has_not() { ! grep -E "$1" "$folder/sslscan.log" || fail "sslscan: found: $1"; }
for old in SSLv2 SSLv3 TLSv1.0 TLSv1.1; do has "^$old +disabled"; done
for new in TLSv1.2 TLSv1.3; do has "^$new +enabled"; done
has 'not vulnerable to heartbleed'
has_not 'Compression enabled|insecure session renegotiation supported'
has_not '(Accepted|Preferred).*( RC4|3DES|DES-CBC|NULL|EXPORT|anon|ADH|AECDH|MD5|CBC)'
has_not '(Accepted|Preferred) .* (40|56|64|80|112) bits'
grep -E 'Accepted|Preferred' "$folder/sslscan.log"
