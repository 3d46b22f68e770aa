"""Plimsoll beside nginx, HAProxy, and others where asked for: the same job, the same machine, the same minute. See README.md."""

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import client, load, proxies, tools  # noqa: E402
from lab.processes import Process, core_busy_seconds, free_ports  # noqa: E402
from lab.requests import SCENARIOS, chosen  # noqa: E402

# Below this share of its core a proxy waited for the load generator, and requests per second say little about it.
SATURATED = 0.95
# More than this share of the proxy's core used by others makes a round doubtful.
DISTURBED = 0.03


def arguments():
    parser = argparse.ArgumentParser(prog="benches/side_by_side", description=__doc__)
    parser.add_argument("--proxies", nargs="+", choices=proxies.NAMES, default=proxies.USUAL)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=5, help="of load per proxy, scenario and round")
    parser.add_argument("--connections", type=int, default=64, help="of the load generator")
    parser.add_argument("--proxy-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1, help="for load generator and instances")
    parser.add_argument("--big-buffers", action="store_true", help="give the peers buffers for a whole 64 KiB body")
    parser.add_argument("--plimsoll", metavar="FILE", help="a binary to measure instead of building one")
    parser.add_argument("--json", metavar="FILE", help="also write every figure of every round here; - is stdout")
    return parser.parse_args()


def measure(process, port, scenario, folder, options):
    """One run against one proxy."""
    others = core_busy_seconds(options.proxy_core)
    began = time.monotonic()
    user, system = process.cpu_seconds()
    figures = load.run(port, scenario, folder, options.connections, options.seconds, options.load_core)
    user, system = (after - before for after, before in zip(process.cpu_seconds(), (user, system)))
    wall = time.monotonic() - began
    others = core_busy_seconds(options.proxy_core) - others - user - system
    requests = figures["requests"]
    return {
        "requests": requests,
        "requests_per_second": requests / (figures["micros"] / 1e6),
        "p50_ms": figures["p50_micros"] / 1e3,
        "p99_ms": figures["p99_micros"] / 1e3,
        "max_ms": figures["max_micros"] / 1e3,
        "cpu_seconds_per_100k": (user + system) / requests * 1e5,
        "user_seconds_per_100k": user / requests * 1e5,
        "busy": (user + system) / wall,
        "others": max(0.0, others / wall),
    }


def counted(admin_port):
    """Requests that Plimsoll's metrics tell of: they are on, and right, while it is measured."""
    with client.connect(admin_port) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(client.PIECE), b"")).decode()
    lines = [line for line in text.splitlines() if line.startswith("plimsoll_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def await_counts(admin_port, requests):
    """A request is counted after its last byte is written, so the last ones may be a moment late."""
    deadline = time.monotonic() + 2
    while (count := counted(admin_port)) < requests:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the metrics count {count:.0f} requests, but {requests:.0f} were answered")
        time.sleep(0.01)


def ratio(rounds, name, peer, figure):
    """Median of the ratios within each round: what disturbs a round disturbs both alike."""
    return statistics.median(mine[figure] / theirs[figure] for mine, theirs in zip(rounds[name], rounds[peer]))


def report(scenario, rounds):
    """Medians and ratios of one scenario, as text."""
    median = {
        name: {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}
        for name, runs in rounds.items()
    }
    peers = [name for name in rounds if name in proxies.PEERS]
    figures = {"requests_per_second": "req/s", "p50_ms": "p50", "p99_ms": "p99", "cpu_seconds_per_100k": "cpu"}
    lines = [f"\n{scenario.name}: {scenario.about}"]
    head = f"{'':10}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'cpu s/100k':>12}{'of it user':>12}{'busy':>7}{'others':>8}"
    lines.append(head + "".join(f"   ÷ {peer}: " + " ".join(f"{label:>6}" for label in figures.values()) for peer in peers))
    for name, values in median.items():
        line = (
            f"{name:10}{values['requests_per_second']:9.0f}{values['p50_ms']:9.2f}{values['p99_ms']:9.2f}"
            f"{values['cpu_seconds_per_100k']:12.3f}{values['user_seconds_per_100k']:12.3f}"
            f"{values['busy']:7.0%}{values['others']:8.0%}"
        )
        for peer in peers:
            line += " " * (len(peer) + 7) + " ".join(f"{ratio(rounds, name, peer, figure):6.2f}" for figure in figures)
        lines.append(line)
    if "plimsoll" in rounds and peers:
        better = min(peers, key=lambda peer: median[peer]["cpu_seconds_per_100k"])
        reached = ratio(rounds, "plimsoll", better, "cpu_seconds_per_100k")
        goal = f", goal {scenario.goal:.2f}: {'reached' if reached <= scenario.goal else 'missed'}" if scenario.goal else ""
        lines.append(f"cpu per request ÷ the better peer ({better}): {reached:.3f}{goal}")
    for name, values in median.items():
        if values["busy"] < SATURATED:
            lines.append(f"note: {name} used {values['busy']:.0%} of its core; the load was the limit, compare cpu only")
        if values["others"] > DISTURBED:
            lines.append(f"note: others used {values['others']:.0%} of the core while {name} ran; measure when it is quiet")
    return "\n".join(lines)


def run(options, folder, stack):
    """All rounds; figures by scenario, proxy, round."""
    binary = options.plimsoll
    if "plimsoll" in options.proxies and not binary:
        binary = proxies.build_plimsoll()
    scenarios = chosen(options.scenarios)
    ports = free_ports(proxies.INSTANCES + 3 * len(options.proxies))
    instances, ports = ports[: proxies.INSTANCES], ports[proxies.INSTANCES :]
    started = stack.enter_context(proxies.start_instances(instances, folder, options.load_core))
    started.wait_for(lambda: all(map(client.listens, instances)), 10, "instances")
    running = {}
    certificate = proxies.certificate(folder)
    for name in options.proxies:
        job = proxies.Job(ports.pop(), instances, ports.pop(), ports.pop(), certificate, big_buffers=options.big_buffers)
        command = proxies.command(name, folder / name, job, binary)
        process = Process(command, folder / name / "log", options.proxy_core)
        running[name] = (stack.enter_context(process), job)
        proxies.start(process, job.port, scenarios[0])
    rounds = {scenario.name: {name: [] for name in running} for scenario in scenarios}
    for number in range(options.rounds):
        for scenario in scenarios:
            # Whoever comes first in one round comes last in another.
            order = list(running)
            order = order[number % len(order) :] + order[: number % len(order)]
            for name in order:
                process, job = running[name]
                client.verify(job.port, scenario, len(instances))
                before = counted(job.admin_port) if name == "plimsoll" else 0
                port = job.port if scenario.edge == "http" else job.tls_port
                figures = measure(process, port, scenario, folder, options)
                if name == "plimsoll":
                    await_counts(job.admin_port, before + figures["requests"])
                rounds[scenario.name][name].append(figures)
            print(f"round {number + 1} of {options.rounds}: {scenario.name}", file=sys.stderr)
    return rounds


def main():
    options = arguments()
    tools.need("taskset", "wrk", "openssl", "h2load", *(name for name in options.proxies if name in proxies.PEERS))
    with tempfile.TemporaryDirectory(prefix="side_by_side.") as folder, ExitStack() as stack:
        try:
            rounds = run(options, Path(folder), stack)
        except (RuntimeError, OSError) as error:
            tools.fail(error)
    if options.json:
        text = json.dumps({"options": vars(options), "scenarios": rounds}, indent=1)
        if options.json == "-":
            print(text)
            return
        Path(options.json).write_text(text + "\n")
    for name, figures in rounds.items():
        print(report(SCENARIOS[name], figures))


main()
