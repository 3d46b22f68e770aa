#!/usr/bin/env bash
# Builds Plimsoll for Windows (x86_64-pc-windows-gnu) and runs it under Wine, on Debian with rustup's stable cargo, from
# Debian's packages and crates.io alone.
#
#   toolchain.sh setup              once per machine: some 300 MB of downloads, 2.5 GB on disk, 3 to 6 minutes on two
#                                   cores; later calls return at once. Exits 77 where it cannot be done, and says why
#   toolchain.sh cargo ARGUMENTS    cargo for Windows
#   toolchain.sh wine EXE …         one program under Wine
#   toolchain.sh keep               holds a Wine session open: services end with the last ordinary program
#   toolchain.sh stop               ends the Wine session
#   toolchain.sh env                what to export for all of that, for a shell
#
# Everything lies in $WINDOWS_ROOT (~/.cache/windows-cross unless set); remove the folder to start anew. What cargo builds
# lies in its `target-plimsoll`, or in $WINDOWS_TARGET_DIR.
set -euo pipefail
root=${WINDOWS_ROOT:-$HOME/.cache/windows-cross}
target=x86_64-pc-windows-gnu
toolchain=windows-cross
# The package puts neither on PATH.
wine=/usr/lib/wine/wine64 server=/usr/lib/wine/wineserver64
export CARGO_TARGET_DIR=${WINDOWS_TARGET_DIR:-$root/target-plimsoll} CARGO_BUILD_TARGET=$target
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$wine
export WINEPREFIX=$root/prefix WINEARCH=win64 WINEDEBUG=${WINEDEBUG:--all} WINEDLLOVERRIDES='mscoree,mshtml='
unset DISPLAY WAYLAND_DISPLAY

# No output but the last line is looked at by tests/all.sh.
give_up() { echo "$*"; exit 77; }

packages() {
    local version=$1 series=$2 llvm
    llvm=$(apt-cache show "libstd-rust-web-$series=$version" | grep -o 'libllvm[0-9]*' | head -1)
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gcc-mingw-w64-x86-64-win32 wine64 cmake nasm "$llvm" >"$root/apt.log" 2>&1
}

# Debian's compiler, unpacked and not installed: its packages refuse to stand beside a packaged rustup. rustup's own
# standard library for Windows would need another download site than crates.io and Debian's.
compiler() {
    local version=$1 series=$2 deb
    mkdir -p debs tc
    (cd debs && apt-get download -qq "rustc-web=$version" "libstd-rust-web-$series=$version" \
        "libstd-rust-web-dev=$version" "rust-web-src=$version" 2>/dev/null)
    for deb in debs/rustc-web_* debs/libstd-rust-web-*; do dpkg -x "$deb" tc; done
    dpkg-deb --fsys-tarfile debs/rust-web-src_* |
        tar -x -C tc --wildcards './usr/src/rustc-*/library' './usr/lib/rustlib/src/rust'
    # rustup looks for the driver in lib/, Debian keeps it in the folder of the architecture; Debian's cargo wants
    # libraries that are not here, rustup's does not.
    ln -sf x86_64-linux-gnu/"$(basename tc/usr/lib/x86_64-linux-gnu/librustc_driver-*.so)" tc/usr/lib/
    ln -sf "$(rustup which cargo --toolchain stable)" tc/usr/bin/cargo
    rustup toolchain link "$toolchain" "$root/tc/usr"
}

# The standard library for Windows, built once from Debian's sources.
standard_library() {
    mkdir -p stdbuild/src && : >stdbuild/src/lib.rs
    # With bitcode: a project with LTO needs it.
    cat >stdbuild/Cargo.toml <<'TOML'
[package]
name = "stdbuild"
version = "0.0.0"
edition = "2021"
[workspace]
[profile.release]
debug = 0
TOML
    (cd stdbuild && RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes CARGO_TARGET_DIR=$root/target-std \
        cargo "+$toolchain" build -q --release -Zbuild-std=std,panic_unwind,test --target $target)
    local lib=tc/usr/lib/rustlib/$target/lib
    rm -rf "$lib" && mkdir -p "$lib"
    cp target-std/$target/release/deps/*.rlib "$lib/"
    rm -rf "$lib"/libstdbuild-* target-std
}

prefix() {
    mkdir -p shim
    # Wine 8 lacks bcryptprimitives.dll, from which Rust's standard library takes its random bytes.
    cat >shim/bcryptprimitives.c <<'C'
__declspec(dllimport) unsigned char __stdcall SystemFunction036(void *, unsigned long);
__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *bytes, unsigned long long count) {
  while (count) {
    unsigned long part = count > 0x10000000ULL ? 0x10000000UL : (unsigned long)count;
    if (!SystemFunction036(bytes, part)) return 0;
    bytes += part; count -= part;
  }
  return 1;
}
C
    printf '#include <windows.h>\nint main(void){Sleep(INFINITE);return 0;}\n' >shim/keeper.c
    x86_64-w64-mingw32-gcc -O2 -s -shared -o shim/bcryptprimitives.dll shim/bcryptprimitives.c -ladvapi32
    x86_64-w64-mingw32-gcc -O2 -s -o shim/keeper.exe shim/keeper.c
    # The 32-bit half that is not there complains; nothing needs it.
    timeout 300 $wine wineboot -i >wineboot.log 2>&1 || true
    timeout 60 $server -w || true
    cp shim/bcryptprimitives.dll "$WINEPREFIX/drive_c/windows/system32/"
}

setup() {
    [ -f "$root/ready" ] && return
    [ "$(uname -m)" = x86_64 ] || give_up "only tried on x86_64"
    local command
    for command in apt-get dpkg rustup cargo; do
        command -v $command >/dev/null || give_up "no $command: needs Debian, and Rust by rustup"
    done
    [ "$(id -u)" -eq 0 ] || give_up "not root: run \`sudo bash tests/windows/toolchain.sh setup\`"
    mkdir -p "$root" && cd "$root"
    local version series
    apt-cache policy rustc-web | grep -q 'Candidate: [0-9]' || apt-get update -qq || true
    version=$(apt-cache policy rustc-web | awk '/Candidate/{print $2}')
    [ -n "$version" ] && [ "$version" != "(none)" ] || give_up "no package rustc-web: needs Debian 12 with security updates"
    series=$(cut -d. -f1,2 <<<"$version")
    packages "$version" "$series" || give_up "packages cannot be installed, see $root/apt.log"
    # Whether a step went well shows in what it leaves: on the left of `||` no failure within it would end it.
    compiler "$version" "$series" || true
    [ -x tc/usr/bin/rustc ] && [ -x tc/usr/bin/cargo ] || give_up "the compiler cannot be unpacked"
    standard_library || true
    compgen -G "tc/usr/lib/rustlib/$target/lib/libstd-*.rlib" >/dev/null ||
        give_up "the standard library for Windows cannot be built"
    prefix || true
    [ -f "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll" ] ||
        give_up "Wine cannot be set up, see $root/wineboot.log"
    echo "rustc $series, $($wine --version)" >"$root/ready"
}

call=${1:-help}
shift || true
case $call in
    setup) setup ;;
    cargo) exec cargo "+$toolchain" "$@" ;;
    wine) exec $wine "$@" ;;
    keep) exec $wine "$root/shim/keeper.exe" ;;
    stop) timeout 20 $server -k || true ;;
    env)
        echo "export WINEPREFIX='$WINEPREFIX' WINEARCH=win64 WINEDEBUG='$WINEDEBUG' WINEDLLOVERRIDES='$WINEDLLOVERRIDES'"
        echo "export PLIMSOLL_TEST_RUNNER=$wine PLIMSOLL_TEST_BINARY='$CARGO_TARGET_DIR/$target/debug/plimsoll.exe'"
        echo "unset DISPLAY WAYLAND_DISPLAY"
        ;;
    *) sed -n '2,15p' "$0"; exit 64 ;;
esac
