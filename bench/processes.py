"""The servers of a benchmark: those of the embedded farm, and what a peer is made of, run the same way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from farm import parts
from shared.redis_client import connect
from shared.settings import PREFIX

#: Far beyond what a start takes on a loaded machine.
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Broker:
    """A Valkey as the embedded farm runs it. Ours and the peer each have a database of it to themselves."""

    url: str
    peer_url: str

    @property
    def redis(self) -> Redis:
        return connect(self.url)

    @property
    def peer_redis(self) -> Redis:
        return connect(self.peer_url)


@contextmanager
def broker(scratch: Path) -> Iterator[Broker]:
    """Run a Valkey that keeps its data in `scratch`."""
    port, password = parts.free_port(), "bench"
    with running(parts.valkey(scratch / f"valkey-{port}", port, password), {}, scratch):
        url = parts.valkey_url(port, password)
        wait_until(lambda: _answers(url), "Valkey")
        yield Broker(url, f"{url.removesuffix('/0')}/1")


def _answers(url: str) -> bool:
    try:
        with Redis.from_url(url) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def python(name: str, *arguments: str) -> parts.Program:
    """A Python program."""
    return parts.Program(name=name, command=(sys.executable, *arguments))


@contextmanager
def running(program: parts.Program, environment: dict[str, str], scratch: Path) -> Iterator[None]:
    """Run a program with these settings of Rendermill and no others; its output goes to a file in `scratch`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with (scratch / f"{program.name}.log").open("ab") as log:
        process = subprocess.Popen(
            program.bound_command,
            env={**inherited, **program.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(program.stop_wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready: Callable[[], object], what: str) -> None:
    """Poll until `ready`. Raises TimeoutError, naming `what`, where that takes too long."""
    deadline = time.monotonic() + _START_S
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} does not answer after {_START_S:.0f} s")
        time.sleep(0.05)
