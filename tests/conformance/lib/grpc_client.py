"""Calls of all kinds through the proxy. Arguments: port, port with TLS, certificate, admin port, process of server `one`."""
import os
import queue
import signal
import sys
import time
import urllib.request

import grpc

PLAIN, SECURE, CERTIFICATE, ADMIN, ONE = sys.argv[1:6]
CASES = 0


def holds(what, condition, shown=""):
    global CASES
    CASES += 1
    if not condition:
        sys.exit(f"{what}: {shown}")


def outcome(call):
    """The status and the details of a call that fails."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def calls(channel, service, what):
    unary = channel.unary_unary(f"/{service}/Unary")
    answer, call = unary.with_call(b"hello", metadata=(("x-echo", "seen"),), timeout=10)
    holds(f"{what}: unary", answer == b"hello", answer)
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
    holds(f"{what}: initial metadata", initial.get("x-server") in ("one", "two"), initial)
    holds(f"{what}: trailing metadata", trailing["x-echo"] == "seen" and trailing["x-blob-bin"] == b"\x00\xff", trailing)
    big = os.urandom(3_000_000)
    holds(f"{what}: a large message", unary(big, timeout=30) == big)
    holds(f"{what}: an empty message", unary(b"", timeout=10) == b"")
    text = b"x" * 100_000
    holds(f"{what}: compression", unary(text, timeout=10, compression=grpc.Compression.Gzip) == text)

    out = list(channel.unary_stream(f"/{service}/Out")(b"500", timeout=20))
    holds(f"{what}: server streaming", out == [b"%d" % index * 100 for index in range(500)], len(out))
    total = channel.stream_unary(f"/{service}/In")((b"x" * 1000 for _ in range(500)), timeout=20)
    holds(f"{what}: client streaming", total == b"500000", total)

    requests = queue.SimpleQueue()
    both = channel.stream_stream(f"/{service}/Both")(iter(requests.get, None), timeout=20)
    for index in range(20):
        requests.put(b"ping%d" % index)
        holds(f"{what}: both ways, one by one", next(both) == b"PING%d" % index)
    requests.put(None)
    holds(f"{what}: both ways, the end", list(both) == [] and both.code() == grpc.StatusCode.OK)

    code, details = outcome(lambda: channel.unary_unary(f"/{service}/Fails")(b"", timeout=10))
    holds(f"{what}: an error with its text", (code, details) == (grpc.StatusCode.FAILED_PRECONDITION, "not now: 100 % sure, grüße"), (code, details))
    code, _ = outcome(lambda: channel.unary_unary(f"/{service}/Missing")(b"", timeout=10))
    holds(f"{what}: an unknown method", code == grpc.StatusCode.UNIMPLEMENTED, code)
    code, details = outcome(lambda: channel.unary_unary("/nowhere.Service/Method")(b"", timeout=10))
    holds(f"{what}: no route", code == grpc.StatusCode.UNIMPLEMENTED and "no_route" in details, (code, details))

    begun = time.monotonic()
    code, _ = outcome(lambda: channel.unary_unary(f"/{service}/Slow")(b"", timeout=0.5))
    took = time.monotonic() - begun
    holds(f"{what}: deadline", code == grpc.StatusCode.DEADLINE_EXCEEDED and took < 3, (code, took))
    left = float(channel.unary_unary(f"/{service}/Left")(b"", timeout=5))
    holds(f"{what}: the rest of the deadline", 3 < left < 5.2, left)
    holds(f"{what}: no deadline", channel.unary_unary(f"/{service}/Left")(b"") == b"none")

    running = channel.unary_unary(f"/{service}/Slow").future(b"", timeout=10)
    time.sleep(0.3)
    running.cancel()
    pending = [unary.future(b"%d" % index, timeout=20) for index in range(300)]
    answers = [future.result() for future in pending]
    holds(f"{what}: 300 at once", answers == [b"%d" % index for index in range(300)])


def metric(name, *labels):
    text = urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics").read().decode()
    lines = [line for line in text.splitlines() if line.startswith(name) and all(label in line for label in labels)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def within(what, look):
    deadline = time.monotonic() + 20
    while not look():
        holds(what, time.monotonic() < deadline)
        time.sleep(0.05)


def health(channel):
    """One server says that it does not serve, and gets no calls; the other one dies, and no call fails by that."""
    unary = channel.unary_unary("/conformance.Plain/Unary")
    server = lambda: dict(unary.with_call(b"", timeout=10)[1].initial_metadata())["x-server"]
    within("both servers get calls", lambda: {server() for _ in range(20)} == {"one", "two"})
    stopped = channel.unary_unary("/conformance.Plain/StopServing")(b"", timeout=10).decode()
    down = lambda: metric("plimsoll_instance_state", 'pool="plain"', f'instance="{stopped}"', 'state="down"')
    within("who does not serve is ejected", lambda: down() == 1)
    seen = {server() for _ in range(50)}
    holds("calls go to the other one", seen == {"one", "two"} - {stopped}, seen)
    # Nobody is left: if it is `one` that serves, it dies.
    if stopped == "two":
        os.kill(int(ONE), signal.SIGKILL)
        codes = {outcome(lambda: unary(b"", timeout=5))[0] for _ in range(20)}
        holds("nobody is left", codes == {grpc.StatusCode.UNAVAILABLE}, codes)


def main():
    within("all servers serve", lambda: metric("plimsoll_pool_eligible_instances") == 4)
    with grpc.insecure_channel(f"127.0.0.1:{PLAIN}") as channel:
        calls(channel, "conformance.Plain", "h2c to h2c")
        calls(channel, "conformance.Over", "h2c to TLS")
    credentials = grpc.ssl_channel_credentials(open(CERTIFICATE, "rb").read())
    with grpc.secure_channel(f"localhost:{SECURE}", credentials) as channel:
        calls(channel, "conformance.Plain", "TLS to h2c")
        calls(channel, "conformance.Over", "TLS to TLS")
    opened = metric("plimsoll_upstream_connections_opened_total")
    holds("connections are shared", opened <= 2 * 4 * 4, opened)
    with grpc.insecure_channel(f"127.0.0.1:{PLAIN}") as channel:
        health(channel)
    print(f"{CASES} checks hold")


main()
