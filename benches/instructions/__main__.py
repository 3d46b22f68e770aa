"""User instructions per request (callgrind) and system calls per request (strace), for Plimsoll and its peers.

Unlike times these hardly depend on what else the machine does: they repeat to about 3 %. Each proxy handles a small and
a large number of requests; the difference of the two counts, divided by the difference of the numbers, has neither
start nor connection set-up in it. See benches/README.md.
"""

import argparse
import collections
import json
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import client, proxies, tools  # noqa: E402
from lab.processes import Process, free_ports  # noqa: E402
from lab.requests import PLAIN, chosen  # noqa: E402

# Caches, pools and connections are filled before anything is counted.
WARM_UP = 500
GOAL_INSTRUCTIONS = 13_000
GOAL_CALLS = 4.3


def arguments():
    parser = argparse.ArgumentParser(prog="benches/instructions", description=__doc__)
    parser.add_argument("--proxies", nargs="+", choices=proxies.USUAL, default=proxies.USUAL)
    parser.add_argument("--scenarios", nargs="+", choices=PLAIN, default=["get-1k", "browser-1k"])
    parser.add_argument("--counts", nargs="+", choices=["instructions", "calls"], default=["instructions", "calls"])
    parser.add_argument("--few", type=int, default=1000, help="requests of the small run")
    parser.add_argument("--many", type=int, default=5000, help="requests of the large run")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--plimsoll", metavar="FILE", help="a binary to measure instead of building one")
    parser.add_argument("--functions", type=int, metavar="N", help="also list the N costliest places in the code of each run")
    parser.add_argument("--json", metavar="FILE", help="also write the figures here; - is stdout")
    return parser.parse_args()


def difference(few, many, options):
    """Counts per request by name, from the counts of the two runs."""
    extra = options.many - options.few
    return {name: (many[name] - few.get(name, 0)) / extra for name in many}


def dump(pid, folder):
    """Makes callgrind write what it has counted since its last dump, and start anew; returns the new file."""
    before = set(folder.glob("counts*"))
    subprocess.run(["callgrind_control", "--dump", str(pid)], check=True, capture_output=True)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in sorted(set(folder.glob("counts*")) - before):
            # The last line, so the file is whole.
            if re.search(rb"^totals: \d+$", path.read_bytes(), re.MULTILINE):
                return path
        time.sleep(0.05)
    raise RuntimeError("callgrind wrote no dump within 30 s")


def total(path):
    return int(re.search(rb"^totals: (\d+)$", path.read_bytes(), re.MULTILINE)[1])


def functions(path, requests, count):
    """The costliest places of a dump, each with its own instructions per request: source file, and the function that its
    code was compiled into (what is inlined stands in the file that it comes from)."""
    costs = collections.Counter()
    function = file = ""
    called = False
    for line in path.read_text(errors="replace").splitlines():
        kind, _, value = line.partition("=")
        if kind in ("fl", "fi", "fe"):
            file = value
        elif kind == "fn":
            function = value
        elif kind == "calls":
            # The next line has the cost of what was called, which stands there already.
            called = True
        elif line[:1].isdigit():
            if not called:
                costs[file, function] += int(line.split()[-1])
            called = False
    return [
        f"{cost / requests:9.1f}  {shortened(file)}  {function[:100]}"
        for (file, function), cost in costs.most_common(count)
    ]


def shortened(file):
    """A path without the folders that all have in common."""
    return re.sub(r"^.*/(?:registry/src/[^/]*|library)/|^.*/sysdeps/", "", file)


def instructions(process, port, scenario, folder, options):
    """User instructions per request."""
    client.send(port, scenario, WARM_UP, options.connections)
    dump(process.pid, folder)
    totals = []
    for count in (options.few, options.many):
        client.send(port, scenario, count, options.connections)
        path = dump(process.pid, folder)
        totals.append({"instructions": total(path)})
    if options.functions:
        print("\n".join(functions(path, options.many, options.functions)))
    return difference(*totals, options)


def traced_calls(process, port, scenario, folder, options, count):
    """System calls by name while `count` requests are sent."""
    table = folder / "calls"
    command = [tools.find("strace"), "-f", "-c", "-U", "calls,name", "-o", table]
    for task in sorted(Path(f"/proc/{process.pid}/task").iterdir()):
        command += ["-p", task.name]
    with Process(command, folder / "strace.log") as strace:
        strace.wait_for(lambda: "attached" in strace.tail(), 10, "strace")
        client.send(port, scenario, count, options.connections)
    rows = re.findall(r"^ *(\d+) +(\w+)$", table.read_text(), re.MULTILINE)
    return {name: int(calls) for calls, name in rows if name != "total"}


def calls(process, port, scenario, folder, options):
    """System calls per request, by name."""
    client.send(port, scenario, WARM_UP, options.connections)
    counted = [traced_calls(process, port, scenario, folder, options, count) for count in (options.few, options.many)]
    return difference(*counted, options)


def measure(name, count, scenario, instances, binary, folder, options):
    """Starts one proxy, under callgrind where instructions are counted, and counts."""
    folder.mkdir(parents=True)
    port, admin_port = free_ports(2)
    command = proxies.command(name, folder, proxies.Job(port, instances, admin_port), binary, traced=True)
    if count == "instructions":
        # Names in full: short forms are explained only in the first dump.
        form = ["--compress-strings=no", "--compress-pos=no", f"--callgrind-out-file={folder}/counts"]
        command = [tools.find("valgrind"), "--tool=callgrind", *form, *command]
    with Process(command, folder / "log") as process:
        proxies.start(process, port, scenario, seconds=60)
        return (instructions if count == "instructions" else calls)(process, port, scenario, folder, options)


def report(count, scenario, figures):
    print(f"\n{count} per request, {scenario.name}: {scenario.about}")
    sums = {name: sum(by_name.values()) for name, by_name in figures.items()}
    best = min((value for name, value in sums.items() if name in proxies.PEERS), default=None)
    for name, by_name in figures.items():
        shown = f"{sums[name]:10.0f}" if count == "instructions" else f"{sums[name]:10.2f}"
        line = f"{name:10}{shown}" + (f"   ÷ the best peer {sums[name] / best:.2f}" if best else "")
        if count == "calls":
            parts = sorted(by_name.items(), key=lambda part: -part[1])
            line += "   " + ", ".join(f"{call} {value:.2f}" for call, value in parts if value >= 0.005)
        print(line)
    if "plimsoll" in sums and scenario.name == "get-1k":
        goal = GOAL_INSTRUCTIONS if count == "instructions" else GOAL_CALLS
        print(f"goal {goal}: {'reached' if sums['plimsoll'] <= goal else 'missed'}")


def run(options, folder, stack):
    binary = options.plimsoll
    if "plimsoll" in options.proxies and not binary:
        binary = proxies.build_plimsoll()
    instances = free_ports(proxies.INSTANCES)
    started = stack.enter_context(proxies.start_instances(instances, folder))
    started.wait_for(lambda: all(map(client.listens, instances)), 10, "instances")
    everything = {}
    for count in options.counts:
        for scenario in chosen(options.scenarios):
            figures = {}
            for name in options.proxies:
                place = folder / count / scenario.name / name
                figures[name] = measure(name, count, scenario, instances, binary, place, options)
            report(count, scenario, figures)
            everything.setdefault(count, {})[scenario.name] = figures
    return everything


def main():
    options = arguments()
    if options.many <= options.few:
        tools.fail("--many must be larger than --few")
    wanted = {"instructions": "valgrind", "calls": "strace"}
    tools.need(*(wanted[count] for count in options.counts))
    tools.need(*(name for name in options.proxies if name in proxies.PEERS))
    with tempfile.TemporaryDirectory(prefix="instructions.") as folder, ExitStack() as stack:
        try:
            everything = run(options, Path(folder), stack)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            tools.fail(error)
    if options.json:
        text = json.dumps({"options": vars(options), **everything}, indent=1)
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n")


main()
