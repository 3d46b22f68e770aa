"""The proxies under measurement: each with the same job, in its own words.

The job: one listener, four instances, least connections, one worker, keep-alive on both sides, forwarded-for set, no
access log. The peers keep their default buffers unless asked otherwise, and do a little less than Plimsoll: no `Via`,
no trace ids, no histograms.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import client, tools
from lab.processes import Process

PROJECT = Path(__file__).resolve().parents[2]
INSTANCES = 4
# Idle connections must outlive the measurement.
KEEP_ALIVE_SECONDS = 900


@dataclass(frozen=True)
class Job:
    """What a proxy is to do."""

    port: int
    instances: list
    # Where a proxy has one, a port for its metrics.
    admin_port: int
    connections_max: int = 4096
    # Whether the peers get more buffer than by default, so that a 64 KiB body fits.
    big_buffers: bool = False


def plimsoll(folder, job, binary):
    """Plimsoll with metrics on."""
    instances = ", ".join(f'"127.0.0.1:{port}"' for port in job.instances)
    (folder / "plimsoll.toml").write_text(f"""\
[[listener]]
bind = "127.0.0.1:{job.port}"
keep_alive_timeout = "{KEEP_ALIVE_SECONDS}s"
connections_max = {job.connections_max}

[pool.bench]
instances = [{instances}]
balance = "least_connections"

[admin]
bind = "127.0.0.1:{job.admin_port}"

[log]
access = false

[runtime]
workers = 1
connections_max = {job.connections_max}
""")
    return [binary, "run", "--config", folder / "plimsoll.toml"]


def nginx(folder, job, traced=False):
    """nginx; one process without a master where a tool follows it."""
    servers = "\n".join(f"    server 127.0.0.1:{port};" for port in job.instances)
    buffers = "proxy_buffer_size 16k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;" if job.big_buffers else ""
    (folder / "nginx.conf").write_text(f"""\
daemon off;
master_process {"off" if traced else "on"};
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections {job.connections_max}; multi_accept on; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  tcp_nodelay on;
  keepalive_timeout {KEEP_ALIVE_SECONDS};
  keepalive_requests 1000000000;
  upstream bench {{
    least_conn;
{servers}
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_timeout {KEEP_ALIVE_SECONDS};
  }}
  server {{
    listen 127.0.0.1:{job.port} backlog=4096;
    client_body_buffer_size 64k;
    location / {{
      proxy_pass http://bench;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_max_temp_file_size 0;
      {buffers}
    }}
  }}
}}
""")
    # nginx opens its compiled-in error log before it reads the configuration.
    return [tools.find("nginx"), "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"]


def haproxy(folder, job):
    """HAProxy with its own health checks, as Plimsoll has them."""
    servers = "\n".join(f"  server s{n} 127.0.0.1:{port} check" for n, port in enumerate(job.instances))
    (folder / "haproxy.cfg").write_text(f"""\
global
  nbthread 1
  maxconn {job.connections_max}
  # It asks for two descriptors for each connection; idle ones need one.
  no strict-limits
{"  tune.bufsize 131072" if job.big_buffers else ""}

defaults
  mode http
  timeout connect 2s
  timeout client {KEEP_ALIVE_SECONDS}s
  timeout server 60s
  timeout http-request 10s
  timeout http-keep-alive {KEEP_ALIVE_SECONDS}s

frontend front
  bind 127.0.0.1:{job.port} backlog 4096
  default_backend bench

backend bench
  balance leastconn
  http-reuse always
  option forwardfor
  option httpchk GET /health
  default-server inter 5s fall 3 rise 2
{servers}
""")
    return [tools.find("haproxy"), "-db", "-f", folder / "haproxy.cfg"]


PEERS = ("nginx", "haproxy")
NAMES = ("plimsoll", *PEERS)


def command(name, folder, job, binary=None, traced=False):
    """Writes the proxy's configuration into a folder; returns what starts it in the foreground."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "plimsoll":
        return plimsoll(folder, job, binary)
    if name == "nginx":
        return nginx(folder, job, traced)
    return haproxy(folder, job)


def start(process, port, scenario, seconds=15):
    """Waits until a started proxy serves the scenario."""
    process.wait_for(lambda: client.serves(port, scenario), seconds, str(process.command[0]))


def built(target, *arguments):
    """Builds a target of this project and returns its executable."""
    run = ["cargo", "build", "--message-format=json-render-diagnostics", *target, *arguments]
    done = subprocess.run(run, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        tools.fail(f"`{' '.join(run)}` failed")
    artifacts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    found = [part["executable"] for part in artifacts if part.get("executable")]
    return found[-1]


def build_plimsoll(*arguments):
    """The proxy itself, as users build it."""
    return built(["--bin", "plimsoll"], "--release", *arguments)


def start_instances(ports, folder, core=None):
    """The instances of the benches, as a process that is not started yet."""
    from email.utils import formatdate

    binary = built(["--example", "bench_instances"], "--release")
    return Process([binary, formatdate(usegmt=True), *ports], folder / "instances.log", core)
