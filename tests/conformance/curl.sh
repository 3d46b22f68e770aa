#!/usr/bin/env bash
# curl over HTTP/1.0, 1.1 and 2, plain and by TLS 1.2 and 1.3: status, version and length of each answer.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib/setup.sh"
need curl curl
proxy

# expect RESULT ARGUMENT…: "version status bytes", as curl saw them.
expect() {
    local wanted=$1 got
    shift
    got=$(curl -s -o /dev/null -m 20 --cacert "$folder/tls.pem" -w '%{http_version} %{response_code} %{size_download}' "$@")
    [ "$got" = "$wanted" ] || fail "curl $*: $got instead of $wanted"
}

http=http://127.0.0.1:$plain https=https://localhost:$secure
head -c 300000 /dev/zero >"$folder/body"

for url in "$http" "$https"; do
    expect "1.1 200 1000" --http1.1 "$url/1000"
    expect "1.1 200 1000" --http1.0 "$url/1000"
    expect "1.1 200 0" --http1.1 --head "$url/1000"
    expect "1.1 200 2000000" --http1.1 "$url/2000000"
    expect "1.1 200 10" --http1.1 --data-binary "@$folder/body" -H "Expect: 100-continue" "$url/10"
    expect "1.1 200 10" --http1.1 --upload-file "$folder/body" "$url/10"
    expect "1.1 200 10" --http1.1 --upload-file "$folder/body" -H "Transfer-Encoding: chunked" "$url/10"
    expect "1.1 400 $(curl -sk --path-as-is "$url/../x" --http1.1 | wc -c)" --http1.1 --path-as-is "$url/../x"
done
expect "1.1 200 10" --http1.1 --tls-max 1.2 "$https/10"
expect "1.1 200 10" --http1.1 --tlsv1.3 "$https/10"
for url in "${h2[@]}"; do
    version=--http2
    [ "${url#https}" != "$url" ] || version=--http2-prior-knowledge
    expect "2 200 1000" "$version" "$url/1000"
    expect "2 200 2000000" "$version" "$url/2000000"
    expect "2 200 10" "$version" --data-binary "@$folder/body" "$url/10"
    expect "2 200 10" "$version" --upload-file "$folder/body" "$url/10"
done
