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
    # A port for TLS 1.3, with h2 and http/1.1 by ALPN; and a PEM file with certificate and key.
    tls_port: int = 0
    certificate: Path | None = None
    connections_max: int = 4096
    # Whether the peers get more buffer than by default, so that a 64 KiB body fits.
    big_buffers: bool = False


def plimsoll(folder, job, binary):
    """Plimsoll with metrics on."""
    instances = ", ".join(f'"127.0.0.1:{port}"' for port in job.instances)
    secure = f"""
[[listener]]
name = "secure"
bind = "127.0.0.1:{job.tls_port}"
keep_alive_timeout = "{KEEP_ALIVE_SECONDS}s"
connections_max = {job.connections_max}
[listener.tls]
minimum_version = "1.3"
certificates = [{{ certificate = "{job.certificate}" }}]
"""
    (folder / "plimsoll.toml").write_text(f"""\
[[listener]]
bind = "127.0.0.1:{job.port}"
keep_alive_timeout = "{KEEP_ALIVE_SECONDS}s"
connections_max = {job.connections_max}
{secure if job.tls_port else ""}
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
    secure = f"""
    listen 127.0.0.1:{job.tls_port} ssl http2 backlog=4096;
    ssl_certificate {job.certificate};
    ssl_certificate_key {job.certificate};
    ssl_protocols TLSv1.3;
    ssl_session_cache shared:bench:10m;
"""
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
    {secure if job.tls_port else ""}
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
    secure = f"  bind 127.0.0.1:{job.tls_port} ssl crt {job.certificate} alpn h2,http/1.1 ssl-min-ver TLSv1.3 backlog 4096"
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
{secure if job.tls_port else ""}
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


def envoy(folder, job):
    """Envoy with one worker, and active checks as Plimsoll has them."""
    pem = {"filename": str(job.certificate)}
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    routes = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "bench"}}]}]}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "use_remote_address": True,
        # `openssl s_time` speaks it.
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "bench"},
        "route_config": routes,
        "http_filters": [{"name": "router", "typed_config": router}],
    }
    protocols = {"alpn_protocols": ["h2", "http/1.1"], "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}}
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {**protocols, "tls_certificates": [{"certificate_chain": pem, "private_key": pem}]},
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    secure = {**chain, "transport_socket": {"name": "tls", "typed_config": tls}}
    at = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listeners = [{"name": "front", "address": at(job.port), "filter_chains": [chain]}]
    if job.tls_port:
        listeners.append({"name": "secure", "address": at(job.tls_port), "filter_chains": [secure]})
    check = {"timeout": "2s", "interval": "5s", "unhealthy_threshold": 3, "healthy_threshold": 2, "http_health_check": {"path": "/health"}}
    cluster = {
        "name": "bench",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "health_checks": [check],
        "circuit_breakers": {"thresholds": [{"max_connections": job.connections_max, "max_requests": job.connections_max, "max_pending_requests": job.connections_max}]},
        "load_assignment": {
            "cluster_name": "bench",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(port)}} for port in job.instances]}],
        },
    }
    (folder / "envoy.json").write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": [cluster]}}))
    return [tools.find("envoy"), "-c", folder / "envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


def traefik(folder, job):
    """Traefik; of its strategies the one that is there by default (in turn)."""
    points = {"front": {"address": f"127.0.0.1:{job.port}"}}
    routers = {"front": {"rule": "PathPrefix(`/`)", "service": "bench", "entryPoints": ["front"]}}
    if job.tls_port:
        points["secure"] = {"address": f"127.0.0.1:{job.tls_port}"}
        routers["secure"] = {**routers["front"], "entryPoints": ["secure"], "tls": {}}
    pem = {"certFile": str(job.certificate), "keyFile": str(job.certificate)}
    servers = [{"url": f"http://127.0.0.1:{port}"} for port in job.instances]
    dynamic = {
        "http": {"routers": routers, "services": {"bench": {"loadBalancer": {"servers": servers}}}},
        "tls": {"certificates": [pem], "stores": {"default": {"defaultCertificate": pem}}, "options": {"default": {"minVersion": "VersionTLS13"}}},
    }
    (folder / "dynamic.yml").write_text(json.dumps(dynamic if job.tls_port else {"http": dynamic["http"]}))
    static = {"entryPoints": points, "providers": {"file": {"filename": str(folder / "dynamic.yml")}}, "global": {"sendAnonymousUsage": False, "checkNewVersion": False}, "log": {"level": "ERROR"}}
    (folder / "traefik.yml").write_text(json.dumps(static))
    return ["env", "GOMAXPROCS=1", tools.find("traefik"), f"--configFile={folder}/traefik.yml"]


def caddy(folder, job):
    """Caddy with active checks."""
    to = " ".join(f"127.0.0.1:{port}" for port in job.instances)
    serve = f"""{{
  bind 127.0.0.1
  reverse_proxy {to} {{
    lb_policy least_conn
    health_uri /health
    health_interval 5s
  }}
"""
    secure = f"""https://:{job.tls_port} {serve}
  tls {job.certificate} {job.certificate} {{
    protocols tls1.3
  }}
}}
"""
    (folder / "Caddyfile").write_text(f"""{{
  admin off
  auto_https off
  log {{
    level ERROR
  }}
  servers {{
    protocols h1 h2
  }}
}}
http://:{job.port} {serve}}}
{secure if job.tls_port else ""}""")
    return ["env", "GOMAXPROCS=1", f"HOME={folder}", tools.find("caddy"), "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]


PEERS = ("nginx", "haproxy", "envoy", "traefik", "caddy")
# Those that are measured unless more are asked for.
USUAL = ("plimsoll", "nginx", "haproxy")
NAMES = ("plimsoll", *PEERS)


def certificate(folder):
    """A PEM file with a certificate for 127.0.0.1, signed by itself, and its key (P-256)."""
    path = folder / "certificate.pem"
    command = [tools.find("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "30", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", path]
    command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "key.pem").read_text())
    path.chmod(0o600)
    return path


def command(name, folder, job, binary=None, traced=False):
    """Writes the proxy's configuration into a folder; returns what starts it in the foreground."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "plimsoll":
        return plimsoll(folder, job, binary)
    if name == "nginx":
        return nginx(folder, job, traced)
    return {"haproxy": haproxy, "envoy": envoy, "traefik": traefik, "caddy": caddy}[name](folder, job)


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
