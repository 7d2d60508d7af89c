"""The servers of a benchmark: those of the embedded farm, and what a peer is made of, run the same way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from farm import parts
from shared.redis_client import connect
from shared.settings import PREFIX, Settings
from shared.storage import Storage, StorageError

#: Far beyond what a start takes on a loaded machine.
_START_S = 180.0


@dataclass(frozen=True, slots=True)
class Broker:
    """A Valkey as the embedded farm runs it. Ours and the peer each have a database of it to themselves."""

    url: str
    peer_url: str
    pid: int

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
    with running(parts.valkey(scratch / f"valkey-{port}", port, password), {}, scratch) as pid:
        url = parts.valkey_url(port, password)
        wait_until(lambda: _answers(url), "Valkey")
        yield Broker(url, f"{url.removesuffix('/0')}/1", pid)


def cpu_s(redis: Redis) -> float:
    """CPU time that Valkey has used to serve its clients."""
    used = cast(dict[str, float], redis.info("cpu"))
    return used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"]


def cpu_clock(redis: Redis) -> Callable[[], float]:
    """Counts the CPU time of this process and of Valkey: others who use the machine take none of it."""
    return lambda: time.process_time() + cpu_s(redis)


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 server as the embedded farm runs it, and settings that lead to it."""

    settings: Settings
    pid: int


@contextmanager
def s3(scratch: Path) -> Iterator[S3]:
    """Run an S3 server that keeps its objects in `scratch`, with a bucket."""
    port, secret_key = parts.free_port(), "bench-secret-key"
    config = Settings(
        s3_endpoint=f"http://{parts.LOOPBACK}:{port}",
        s3_access_key=parts.S3_ACCESS_KEY,
        s3_secret_key=secret_key,
        s3_region=parts.S3_REGION,
    )
    with running(parts.s3(scratch / f"s3-{port}", port, secret_key), {}, scratch) as pid:
        wait_until(lambda: _stores(config), "S3")
        yield S3(config, pid)


def _stores(config: Settings) -> bool:
    try:
        Storage(config).ensure_bucket()
    except StorageError:
        return False
    return True


def environment(config: Settings) -> dict[str, str]:
    """The environment of a process with these settings."""
    values = ((field, getattr(config, field.name)) for field in fields(config))
    return {PREFIX + field.name.upper(): str(value) for field, value in values if value != field.default}


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
def running(program: parts.Program, environment: Mapping[str, str], scratch: Path) -> Iterator[int]:
    """Run a program with these settings of Rendermill and no others; its process id.

    Its output goes to a file in `scratch`.
    """
    with (scratch / f"{program.name}.log").open("ab") as log:
        process = subprocess.Popen(
            program.bound_command,
            env={**_inherited(), **program.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(program.stop_wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answer_of(program: parts.Program, environment: Mapping[str, str]) -> str:
    """What a program prints that ends by itself, run with these settings and no others."""
    ended = subprocess.run(
        program.bound_command, env={**_inherited(), **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return ended.stdout


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def wait_until(ready: Callable[[], object], what: str, timeout_s: float = _START_S) -> None:
    """Poll until `ready`. Raises TimeoutError, naming `what`, where that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not ready after {timeout_s:.0f} s")
        time.sleep(0.05)
