#!/usr/bin/env bash
# Runs every test: installs what the tests need (Debian packages, where this may use apt), then the Rust tests, then the
# scripts beside them. What cannot be installed is said loudly, and its tests count as skipped, never as passed.
#
#   bash tests/all.sh          everything that has its place in a few minutes
#   bash tests/all.sh --long   the drills, the fuzzing, and testssl.sh as well (hours)
#
# Output: what fails, and a last line of the form `N passed, N failed`. Logs lie in target/tests/.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

long=no
for argument in "$@"; do
    case "$argument" in
        --long) long=yes ;;
        *) echo "usage: bash tests/all.sh [--long]" >&2; exit 64 ;;
    esac
done

logs=${CARGO_TARGET_DIR:-target}/tests
mkdir -p "$logs"
passed=0 failed=0 skipped=0
skip=()

# needs COMMAND PACKAGE MODULE: tests in modules named MODULE need COMMAND.
needs() {
    command -v "$1" >/dev/null || missing+=("$2")
    wanted+=("$1 $2 $3")
}

install() {
    [ ${#missing[@]} -gt 0 ] || return 0
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo -n)
    if ! command -v apt-get >/dev/null; then
        echo "tests/all.sh: this system has no apt-get; please install: ${missing[*]}" >&2
        return
    fi
    if [ ${#root[@]} -gt 0 ] && ! sudo -n true 2>/dev/null; then
        echo "tests/all.sh: not root, and no sudo without a password; please run: apt-get install ${missing[*]}" >&2
        return
    fi
    {
        DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y --no-install-recommends "${missing[@]}" ||
            { "${root[@]}" apt-get update &&
                DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y --no-install-recommends "${missing[@]}"; }
    } >"$logs/apt.log" 2>&1 || echo "tests/all.sh: apt-get failed, see $logs/apt.log" >&2
}

missing=() wanted=()
needs nginx nginx-light with_nginx
needs promtool prometheus with_promtool
needs curl curl with_curl
needs openssl openssl with_openssl
install
for want in "${wanted[@]}"; do
    read -r command package module <<<"$want"
    if ! command -v "$command" >/dev/null; then
        echo "tests/all.sh: SKIPPED: tests in \`$module\`, because \`$command\` (package $package) is not there" >&2
        skip+=("$module")
    fi
done

# Most tests wait for others and not for the processor, so more of them run at a time than there are cores, each with
# connections on both sides.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-8}
ulimit -n "$(ulimit -Hn)" 2>/dev/null

rust_tests() {
    local name=$1 log=$logs/$1.log
    shift
    local arguments=()
    for module in "${skip[@]}"; do arguments+=(--skip "$module"); done
    if ! cargo test --locked --quiet "$@" -- "${arguments[@]}" "${extra[@]}" >"$log" 2>&1; then
        # The names and messages of what failed, not the dots of what passed.
        if ! grep -A 400 -E '^failures:$|^error' "$log" | head -n 300; then tail -n 60 "$log"; fi
        grep -q '^test result: FAILED' "$log" || failed=$((failed + 1))
    fi
    local counts
    counts=$(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored; [0-9]+ measured; ([0-9]+) filtered out.*/\1 \2 \4/p' "$log" |
        awk '{ passed += $1; failed += $2; filtered += $3 } END { print passed + 0, failed + 0, filtered + 0 }')
    read -r p f s <<<"$counts"
    echo "$name: $p passed, $f failed"
    passed=$((passed + p)) failed=$((failed + f))
    [ "$long" = yes ] && [ "$name" = drills ] || skipped=$((skipped + s))
}

# script NAME COMMAND…: one more test, by its exit code; 77 is "skipped".
script() {
    local name=$1 log=$logs/$1.log code=0
    shift
    "$@" >"$log" 2>&1 || code=$?
    case $code in
        0) passed=$((passed + 1)); echo "$name: passed" ;;
        77) skipped=$((skipped + 1)); echo "tests/all.sh: SKIPPED: $name: $(tail -n 1 "$log")" >&2 ;;
        *) failed=$((failed + 1)); echo "$name: FAILED ($code), the end of $log:"; tail -n 60 "$log" ;;
    esac
}

# fuzz TARGET: 20 minutes by default; what it finds goes to the log's folder, not into the kept corpus.
fuzz() {
    rustup toolchain list 2>/dev/null | grep -q nightly || { echo "no nightly compiler (rustup toolchain install nightly)"; return 77; }
    cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz || { echo "no cargo-fuzz"; return 77; }
    mkdir -p "$logs/corpus/$1"
    cargo +nightly fuzz run --fuzz-dir tests/fuzz "$1" "$logs/corpus/$1" "tests/fuzz/corpus/$1" -- \
        -max_total_time="${FUZZ_SECONDS:-1200}" -dict=tests/fuzz/http.dict -print_final_stats=1
}

extra=()
rust_tests tests --no-fail-fast
for path in tests/scripts/*.sh; do
    [ -e "$path" ] && script "$(basename "$path" .sh)" bash "$path"
done
# Other people's tools; those that take minutes are for --long.
for path in tests/conformance/*.sh; do
    name=$(basename "$path" .sh)
    [ "$long" = yes ] || [ "$name" != testssl ] || continue
    script "$name" timeout -k 10 600 bash "$path"
done
script windows bash tests/windows/run.sh

if [ "$long" = yes ]; then
    extra=(--include-ignored --test-threads=1 drill)
    rust_tests drills --no-fail-fast --test black_box
    for target in tests/fuzz/fuzz_targets/*.rs; do
        script "fuzz-$(basename "$target" .rs)" fuzz "$(basename "$target" .rs)"
    done
fi

[ "$skipped" -eq 0 ] || echo "$skipped skipped (see above)"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
