#!/usr/bin/env bash
# Builds Plimsoll for Windows, without a warning, and runs it under Wine: the black-box tests that need nothing of Unix,
# against the Windows binary. Called by tests/all.sh.
#
# What Wine shows, and what it doesn't: sockets, TLS, files, watching, Ctrl-C and services are real programs on a real
# network; accounts, ACLs, Preshutdown and the counters of some handles are not there. What only a Windows Server can
# prove is not gated on.
#
# Exits 77 (skipped), with the reason in the last line, where the toolchain cannot be set up, or not in the time that is
# left: TESTS_END, in seconds since 1970, is when the whole run has to have ended.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
toolchain=tests/windows/toolchain.sh

# A cold set-up, a cold build, and the tests, on two cores.
setup_seconds=420 build_seconds=300 test_seconds=240

left() { echo $((${TESTS_END:-$(($(date +%s) + 3600))} - $(date +%s))); }
skip() { echo "$*"; exit 77; }

if ! [ -f "${WINDOWS_ROOT:-$HOME/.cache/windows-cross}/ready" ] &&
    [ "$(left)" -lt $((setup_seconds + build_seconds + test_seconds)) ]; then
    skip "no time left to set up Wine and a cross compiler; run \`bash $toolchain setup\` once"
fi
said=$(timeout $setup_seconds bash $toolchain setup 2>&1)
case $? in
    0) ;;
    77) skip "no toolchain for Windows: ${said##*$'\n'}" ;;
    124) skip "the toolchain for Windows was not set up within $setup_seconds s" ;;
    *) echo "$said"; skip "no toolchain for Windows: ${said##*$'\n'}" ;;
esac
# With what an earlier run has built it takes a minute.
[ "$(left)" -ge $((test_seconds + 60)) ] || skip "no time left for a build and the tests under Wine"

log=$(mktemp)
timeout "$(left)" bash $toolchain cargo build --locked --color never >"$log" 2>&1
code=$?
[ $code -ne 124 ] || skip "no time left for the build for Windows"
if [ $code -ne 0 ] || grep -q '^warning' "$log"; then
    cat "$log"
    echo "the build for Windows fails or warns"
    exit 1
fi

eval "$(bash $toolchain env)"
# A copy, since another checkout may build its own meanwhile.
scratch=$(mktemp -d)
cp "$PLIMSOLL_TEST_BINARY" "$scratch/plimsoll.exe" || exit 1
export PLIMSOLL_TEST_BINARY=$scratch/plimsoll.exe PLIMSOLL_TEST_CONTROL=$scratch/control.exe
# Without a session that stays, each program starts one of its own, which takes seconds.
bash $toolchain keep &
keeper=$!
trap 'kill $keeper 2>/dev/null; rm -rf "$log" "$scratch"' EXIT

x86_64-w64-mingw32-gcc -O1 -s -o "$PLIMSOLL_TEST_CONTROL" tests/windows/control.c || exit 1
echo "the service:"
timeout $test_seconds cargo test --locked --quiet --test black_box -- --ignored windows_service:: || exit 1

# By the promises of a proxy on Windows; left out are those that send signals which only Unix has.
promises=(
    admin:: commands:: end:: failover:: health:: http2:: logs:: metrics:: proxying:: reload:: spread:: tls:: upgrade::
)
only_unix=(
    with_nginx
    reload::sighup_reloads
    reload::listener_that_goes_serves_what_its_queue_holds
)
# Whose time limits Wine, all of whose programs share one server, does not keep on a busy machine.
too_quick=(
    health::failures_in_traffic_eject_for_a_time_and_leave_the_verdict_alone
)
# Fails each time under Wine, and is not understood: a client's reset of an HTTP/2 connection is not noticed within 10 s
# while its requests are at an instance. To be tried on a Windows Server.
open=(
    http2::client_that_leaves_cancels_its_requests_and_each_is_logged
)
skipped=()
for name in "${only_unix[@]}" "${too_quick[@]}" "${open[@]}"; do skipped+=(--skip "$name"); done
# All programs share one Wine server, so few at a time are faster than many.
RUST_TEST_THREADS=3 timeout $((test_seconds * 2)) cargo test --locked --quiet --test black_box -- "${skipped[@]}" "${promises[@]}"
