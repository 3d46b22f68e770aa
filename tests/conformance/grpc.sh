#!/usr/bin/env bash
# gRPC: grpcio and grpcio-health-checking from PyPI on both sides. Calls of all four kinds, plain and by TLS, with metadata,
# compression, errors, deadlines and cancellation; two servers, of which one stops serving by its health service and one dies.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib/setup.sh"
need curl curl
python grpcio grpcio-health-checking
cargo build --locked --quiet --bin plimsoll || fail "no build"
one=$(free_port) two=$(free_port) plain=$(free_port) secure=$(free_port) admin=$(free_port)
certificate
# Each ends TLS itself at a second port.
one_tls=$(free_port) two_tls=$(free_port)
start one "$python" tests/conformance/lib/grpc_server.py one "$one" "$one_tls" "$folder"
one_pid=${started[-1]}
start two "$python" tests/conformance/lib/grpc_server.py two "$two" "$two_tls" "$folder"
cat >"$folder/plimsoll.toml" <<END
[admin]
bind = "127.0.0.1:$admin"
[log]
level = "debug"
[runtime]
workers = 2
[[listener]]
name = "plain"
bind = "127.0.0.1:$plain"
h2c = true
[[listener]]
name = "tls"
bind = "127.0.0.1:$secure"
tls.certificates = [{ certificate = "tls.pem", key = "tls.key" }]
[[route]]
path = "/conformance.Over"
pool = "over_tls"
[[route]]
path = "/conformance.Plain"
pool = "plain"
[pool.plain]
protocol = "h2c"
instances = [{ name = "one", address = "127.0.0.1:$one" }, { name = "two", address = "127.0.0.1:$two" }]
probe = { kind = "grpc", service = "conformance.Plain", interval = "200ms", timeout = "190ms", fall = 1 }
[pool.over_tls]
protocol = "auto"
tls = { enabled = true, roots = "$folder/tls.pem", server_name = "localhost" }
instances = ["127.0.0.1:$one_tls", "127.0.0.1:$two_tls"]
probe = { kind = "grpc", interval = "500ms", timeout = "490ms" }
END
start plimsoll "$target/debug/plimsoll" run --config "$folder/plimsoll.toml"
wait_for "plimsoll is ready" curl -sf "http://127.0.0.1:$admin/ready"
"$python" tests/conformance/lib/grpc_client.py "$plain" "$secure" "$folder/tls.pem" "$admin" "$one_pid" || fail "see above"
