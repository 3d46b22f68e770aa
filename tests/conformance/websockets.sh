#!/usr/bin/env bash
# WebSocket: the library `websockets` from PyPI on both sides, plain and by TLS, and then the list of cases that the Autobahn
# suite has (which itself needs Python 2), by a client of our own: through the proxy the server must answer each of them
# byte for byte as it does directly.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib/setup.sh"
need curl curl
python websockets
instance=$(free_port)
start server "$python" tests/conformance/lib/websocket_server.py "$instance"
proxy
"$python" tests/conformance/lib/websocket_client.py "$instance" "$plain" "$secure" "$folder/tls.pem" || fail "see above"
