#!/usr/bin/env bash
# slowhttptest with 1,000 connections each: slow heads, slow bodies, slow readers, all at once. Another client, who asks all
# the while, does not notice: every request is answered, 99 of 100 within 250 ms (on a busy machine: 20 times the quiet
# median).
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib/setup.sh"
need curl curl
need slowhttptest slowhttptest
python pip
ulimit -n "$(ulimit -Hn)"
proxy

seconds=${SLOW_SECONDS:-12}
# ask SECONDS: asks all the while; prints requests, failures, median and 99th of 100 in milliseconds.
ask() {
    "$python" - "$1" "$plain" <<'END'
import http.client, sys, time

seconds, port = float(sys.argv[1]), int(sys.argv[2])
times, failures, end = [], 0, time.monotonic() + seconds
while time.monotonic() < end:
    begin = time.monotonic()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/1000")
        failures += len(connection.getresponse().read()) != 1000
        connection.close()
    except OSError:
        failures += 1
    times.append(time.monotonic() - begin)
    time.sleep(0.01)
times.sort()
print(len(times), failures, round(times[len(times) // 2] * 1000), round(times[len(times) * 99 // 100] * 1000))
END
}

read -r _ _ quiet _ < <(ask 2)
url=http://127.0.0.1:$plain
slowhttptest -H -c 1000 -r 200 -i 2 -l "$seconds" -u "$url/1000" >"$folder/heads.log" 2>&1 &
slow=($!)
slowhttptest -B -c 1000 -r 200 -i 2 -s 8192 -l "$seconds" -u "$url/1000" >"$folder/bodies.log" 2>&1 &
slow+=($!)
slowhttptest -X -c 1000 -r 200 -w 10 -y 20 -n 2 -z 32 -k 1 -l "$seconds" -u "$url/100000" >"$folder/readers.log" 2>&1 &
slow+=($!)
started+=("${slow[@]}")
read -r count failures median worst < <(ask "$seconds")
wait "${slow[@]}" 2>/dev/null
bound=$((quiet * 20 > 250 ? quiet * 20 : 250))
echo "quiet: $quiet ms; meanwhile: $count requests, $failures failures, median $median ms, 99th of 100 $worst ms"
grep -h 'service available' "$folder"/{heads,bodies,readers}.log | sort | uniq -c
[ "$failures" -eq 0 ] || fail "$failures failures"
[ "$worst" -le "$bound" ] || fail "99th of 100: $worst ms, more than $bound"
