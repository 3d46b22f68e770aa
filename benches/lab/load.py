"""Load by wrk, as fast as the proxy takes it; figures and errors come back as numbers, not as text to guess from."""

import json
import re
import subprocess
import time

from lab import tools


def script(scenario):
    """What tells wrk the request, and makes it print its figures as one line of JSON."""
    fields = "\n".join(f'wrk.headers["{name}"] = {json.dumps(value)}' for name, value in scenario.fields.items())
    body = f'wrk.body = string.rep("x", {scenario.body_bytes})' if scenario.body_bytes else ""
    return f"""\
wrk.method = "{scenario.method}"
{fields}
{body}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'figures {{"requests":%d,"micros":%d,"bytes":%d,"p50_micros":%d,"p99_micros":%d,"max_micros":%d,"errors":%d}}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def by_h2load(port, scenario, folder, connections, seconds, core):
    """HTTP/2 with ten requests at a time on each connection, of which there are fewer."""
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["taskset", "-c", str(core), tools.find("h2load"), "-t1", f"-c{max(1, connections // 4)}", "-m10", f"-D{seconds}"]
    command += [f"--log-file={log}", f"https://127.0.0.1:{port}{scenario.path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
    if done.returncode != 0 or not counts or "Application protocol: h2" not in done.stdout:
        raise RuntimeError(f"h2load failed:\n{done.stdout}{done.stderr}")
    requests, *wrong = map(int, counts.groups())
    times = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
    if any(wrong) or not requests or not times:
        raise RuntimeError(f"{scenario.name} on port {port}: wrong or missing answers: {counts.group()}")
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    return {"requests": requests, "micros": seconds * 1e6, "p50_micros": at(0.5), "p99_micros": at(0.99), "max_micros": times[-1]}


# Clients that shake hands beside each other: one alone would leave the proxy waiting.
SHAKERS = 4


def by_handshakes(port, scenario, seconds, core):
    """Connections that ask once, by `openssl s_time`; it tells no times of single ones, so the mean stands for all."""
    command = ["taskset", "-c", str(core), tools.find("openssl"), "s_time", "-connect", f"127.0.0.1:{port}"]
    command += ["-tls1_3"] if "-tls1_3" in s_time_options() else []
    command += ["-www", scenario.path, "-time", str(seconds), "-new" if scenario.edge == "full" else "-reuse"]
    began = time.monotonic()
    shakers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(SHAKERS)]
    outputs = [shaker.communicate()[0] for shaker in shakers]
    micros = (time.monotonic() - began) * 1e6
    found = [re.search(r"(\d+) connections in \d+ real seconds, (\d+) bytes read", output) for output in outputs]
    if not all(match and int(match.group(2)) > scenario.answer_bytes for match in found) or any(shaker.returncode for shaker in shakers):
        raise RuntimeError(f"openssl s_time failed on port {port}:\n{outputs[0][-2000:]}")
    requests = sum(int(match.group(1)) for match in found)
    mean = micros * SHAKERS / max(1, requests)
    return {"requests": requests, "micros": micros, "p50_micros": mean, "p99_micros": mean, "max_micros": mean}


def s_time_options():
    done = subprocess.run([tools.find("openssl"), "s_time", "-help"], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def run(port, scenario, folder, connections, seconds, core):
    """One run; raises if anything was not answered right."""
    if scenario.edge == "h2":
        return by_h2load(port, scenario, folder, connections, seconds, core)
    if scenario.edge in ("full", "resumed"):
        return by_handshakes(port, scenario, seconds, core)
    path = folder / f"{scenario.name}.lua"
    path.write_text(script(scenario))
    command = ["taskset", "-c", str(core), tools.find("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["--timeout", "10s", "-s", str(path), f"{scenario.edge}://127.0.0.1:{port}{scenario.path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.removeprefix("figures ") for line in done.stdout.splitlines() if line.startswith("figures ")]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"wrk failed:\n{done.stdout}{done.stderr}")
    figures = json.loads(lines[0])
    if figures["errors"] or not figures["requests"]:
        raise RuntimeError(f"{scenario.name} on port {port}: wrong or missing answers: {figures}")
    if figures["bytes"] < figures["requests"] * scenario.answer_bytes:
        raise RuntimeError(f"{scenario.name} on port {port}: answers are too short: {figures}")
    return figures
