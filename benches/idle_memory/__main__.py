"""Memory per idle client connection, for Plimsoll and its peers: each connection has done one request and waits.

Counted is the growth of the resident memory of the proxy's processes from a few connections to all of them; the
kernel's own memory for sockets is the same for everybody and not in it. See benches/README.md.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import client, proxies, tools  # noqa: E402
from lab.processes import Process, allow_descriptors, free_ports  # noqa: E402
from lab.requests import SCENARIOS  # noqa: E402

SCENARIO = SCENARIOS["get-1k"]
GOAL_BYTES = 4096
# Buffers that are freed a little later than the answer, and idle upstream connections, are not the client's.
SETTLE_SECONDS = 2


def arguments():
    parser = argparse.ArgumentParser(prog="benches/idle_memory", description=__doc__)
    parser.add_argument("--proxies", nargs="+", choices=proxies.USUAL, default=proxies.USUAL)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=100, help="requests in flight at a time while they are opened")
    parser.add_argument("--plimsoll", metavar="FILE", help="a binary to measure instead of building one")
    parser.add_argument("--json", metavar="FILE", help="also write the figures here; - is stdout")
    return parser.parse_args()


def open_used(port, count, at_once):
    """Connections that have each done one request; so many are in flight together."""
    connections = []
    while len(connections) < count:
        batch = [client.connect(port) for _ in range(min(at_once, count - len(connections)))]
        for connection in batch:
            connection.sendall(SCENARIO.bytes(port))
        for connection in batch:
            answer = client.Answer(SCENARIO.answer_bytes)
            while not answer.feed(connection.recv(client.PIECE)):
                pass
        connections += batch
    return connections


def still_serve(port, connections):
    """Every connection must really have been kept: a proxy that closes idle ones would need little memory for them."""
    for connection in connections:
        client.ask(connection, SCENARIO.bytes(port), SCENARIO.answer_bytes)


def measure(name, instances, binary, folder, options):
    """Bytes per idle connection, and what is left of them when they are gone."""
    folder.mkdir()
    port, admin_port = free_ports(2)
    job = proxies.Job(port, instances, admin_port, connections_max=options.connections + 1000)
    with Process(proxies.command(name, folder, job, binary), folder / "log") as process:
        proxies.start(process, port, SCENARIO)
        # One batch beforehand: what is allocated once for any number of connections is not theirs.
        for connection in open_used(port, options.at_once, options.at_once):
            connection.close()
        time.sleep(SETTLE_SECONDS)
        before = process.resident_bytes()
        connections = open_used(port, options.connections, options.at_once)
        time.sleep(SETTLE_SECONDS)
        idle = process.resident_bytes()
        still_serve(port, connections)
        for connection in connections:
            connection.close()
        time.sleep(SETTLE_SECONDS)
        after = process.resident_bytes()
    return {
        "resident_before": before,
        "resident_idle": idle,
        "resident_after": after,
        "bytes_per_connection": (idle - before) / options.connections,
    }


def run(options, folder, stack):
    allow_descriptors(options.connections + 2000)
    binary = options.plimsoll
    if "plimsoll" in options.proxies and not binary:
        binary = proxies.build_plimsoll()
    instances = free_ports(proxies.INSTANCES)
    started = stack.enter_context(proxies.start_instances(instances, folder))
    started.wait_for(lambda: all(map(client.listens, instances)), 10, "instances")
    return {name: measure(name, instances, binary, folder / name, options) for name in options.proxies}


def main():
    options = arguments()
    tools.need(*(name for name in options.proxies if name in proxies.PEERS))
    with tempfile.TemporaryDirectory(prefix="idle_memory.") as folder, ExitStack() as stack:
        try:
            figures = run(options, Path(folder), stack)
        except (RuntimeError, OSError) as error:
            tools.fail(error)
    if options.json == "-":
        print(json.dumps(figures, indent=1))
        return
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{'':10}{'bytes each':>11}{'MiB before':>12}{'idle':>8}{'after':>8}   ({options.connections} connections)")
    for name, row in figures.items():
        sizes = [row[key] / 2**20 for key in ("resident_before", "resident_idle", "resident_after")]
        print(f"{name:10}{row['bytes_per_connection']:11.0f}{sizes[0]:12.1f}{sizes[1]:8.1f}{sizes[2]:8.1f}")
    if "plimsoll" in figures:
        reached = figures["plimsoll"]["bytes_per_connection"] <= GOAL_BYTES
        print(f"goal {GOAL_BYTES} bytes: {'reached' if reached else 'missed'}")


main()
