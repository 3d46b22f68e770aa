"""Load by wrk, as fast as the proxy takes it; figures and errors come back as numbers, not as text to guess from."""

import json
import subprocess

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


def run(port, scenario, folder, connections, seconds, core):
    """One run; raises if anything was not answered right."""
    path = folder / f"{scenario.name}.lua"
    path.write_text(script(scenario))
    command = ["taskset", "-c", str(core), tools.find("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["--timeout", "10s", "-s", str(path), f"http://127.0.0.1:{port}{scenario.path}"]
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
