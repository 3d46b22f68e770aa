"""Processes: starting one on a core, waiting until it answers, what it has used."""

import os
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def free_ports(count):
    """Ports that nobody listens on now; all are held until the last is found, so that they differ."""
    sockets = []
    for _ in range(count):
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        sockets.append(held)
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def allow_descriptors(count):
    """Raises the limit of open files for this script and all that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, hard), max(count, hard)))
    except (ValueError, OSError) as error:
        raise RuntimeError(f"{count} open files are needed, {hard} allowed: run this as root, or `ulimit -n`") from error


class Process:
    """A child in the foreground; ended with the `with` block, whatever happens in it."""

    def __init__(self, command, log, core=None):
        self.command = (["taskset", "-c", str(core)] if core is not None else []) + [str(part) for part in command]
        self.log = Path(log)

    def __enter__(self):
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, *_):
        # INT is a quick end for all that is started here; what does not listen to it is killed.
        for end in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self.child.poll() is not None:
                return
            self.child.send_signal(end)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                continue

    @property
    def pid(self):
        return self.child.pid

    def tail(self):
        """The end of what it wrote, for error messages."""
        return self.log.read_text(errors="replace")[-2000:]

    def wait_for(self, ready, seconds, what):
        """Waits until `ready()`; a process that ended, or time that ran out, is an error with its output."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.child.poll() is not None:
                raise RuntimeError(f"{what} ended with {self.child.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} was not ready within {seconds} s:\n{self.tail()}")
            time.sleep(0.05)

    def pids(self):
        """This process and all below it (nginx serves from a child)."""
        found = [self.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in children.read_text().split()]
        return found

    def cpu_seconds(self):
        """User and system time so far, of all threads of all its processes."""
        user = system = 0
        for pid in self.pids():
            # The name in brackets may hold blanks, so fields are counted from its end: utime and stime are 14 and 15.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11])
            system += int(fields[12])
        return user / TICKS_PER_SECOND, system / TICKS_PER_SECOND

    def resident_bytes(self):
        """Memory that is really there; pages shared among its processes count once for each."""
        total = 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total


def core_busy_seconds(core):
    """Time that a core has spent on anything but waiting, since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, line.split()[1:])
            return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND
    raise RuntimeError(f"there is no core {core} here")
