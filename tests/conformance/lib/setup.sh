# What the scripts beside this folder share: a proxy with a plain and a TLS listener in front of an instance of its own.
# Sourced by each; exit code 77 means "skipped", and the last line says why.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/../../.." || exit 1
target=${CARGO_TARGET_DIR:-target}
tools=$target/tools
folder=$(mktemp -d)
started=()

end() {
    local pid
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
    rm -rf "$folder"
}
trap end EXIT

skip() { echo "$*"; exit 77; }
fail() { echo "FAILED: $*"; tail -n 20 "$folder"/*.log; exit 1; }

# need COMMAND PACKAGE: installs a Debian package, where this may use apt.
need() {
    command -v "$1" >/dev/null && return
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo -n)
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y --no-install-recommends "$2" >/dev/null 2>&1
    command -v "$1" >/dev/null || skip "\`$1\` (package $2) is not there and could not be installed"
}

# python PACKAGE…: a Python with these packages from PyPI, as $python.
python() {
    need python3 python3
    python=$tools/python/bin/python3
    { [ -x "$python" ] || python3 -m venv "$tools/python"; } >/dev/null 2>&1 || skip "no venv: install python3-venv"
    "$python" -m pip install --quiet "$@" >"$folder/pip.log" 2>&1 || skip "pip cannot install $*"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for WHAT COMMAND…: until the command succeeds, at most 20 seconds.
wait_for() {
    local what=$1 deadline=$((SECONDS + 20))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "$what"
        sleep 0.1
    done
}

# start NAME COMMAND…: in the background; its output is $folder/NAME.log.
start() {
    local name=$1
    shift
    "$@" >"$folder/$name.log" 2>&1 &
    started+=($!)
}

# A certificate for `localhost`, as $folder/tls.pem with its key in $folder/tls.key, signed by itself.
certificate() {
    need openssl openssl
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
        -addext extendedKeyUsage=serverAuth -keyout "$folder/tls.key" -out "$folder/tls.pem" 2>/dev/null
}

# proxy: serves at http://127.0.0.1:$plain (h2c, too) and https://localhost:$secure what listens at port $instance. Without
# one, `/N` answers N bytes.
proxy() {
    cargo build --locked --quiet --bin plimsoll --example bench_instances || fail "no build"
    plain=$(free_port) secure=$(free_port) admin=$(free_port)
    if [ -z "${instance:-}" ]; then
        instance=$(free_port)
        start instance "$target/debug/examples/bench_instances" "$(date -uR | sed s/+0000/GMT/)" "$instance"
    fi
    certificate
    cat >"$folder/plimsoll.toml" <<END
[admin]
bind = "127.0.0.1:$admin"
[log]
access = false
[[listener]]
name = "plain"
bind = "127.0.0.1:$plain"
h2c = true
[[listener]]
name = "secure"
bind = "127.0.0.1:$secure"
[listener.tls]
certificates = [{ certificate = "tls.pem", key = "tls.key" }]
[pool.api]
instances = ["127.0.0.1:$instance"]
probe = { kind = "tcp" }
END
    start proxy "$target/debug/plimsoll" run --config "$folder/plimsoll.toml"
    wait_for "the proxy is ready" curl -sf "http://127.0.0.1:$admin/ready"
    # Where HTTP/2 is spoken: by prior knowledge, and by TLS where that agrees on it.
    h2=("http://127.0.0.1:$plain")
    if openssl s_client -connect "localhost:$secure" -alpn h2 </dev/null 2>/dev/null | grep -q 'ALPN protocol: h2'; then
        h2+=("https://localhost:$secure")
    else
        echo "the TLS listener does not offer h2: not tried there"
    fi
}
