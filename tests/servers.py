"""Run real servers for a test, and wait for what they do."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3
from minio import Minio
from redis import Redis
from redis.exceptions import RedisError
from urllib3.exceptions import HTTPError

from farm import parts
from shared.settings import Settings

#: Far beyond what anything waited for takes, even on a loaded machine with two cores: a limit for hangs, not a timing.
PATIENCE_S = 180.0


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Poll `condition` until it holds; fail the test, naming `what` was waited for, when it does not in time.

    A condition that cannot hold any more fails the test itself, and so spares it the wait.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.02)


@contextmanager
def running(program: parts.Program, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `program`, bound to this process, with its output in `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            program.bound_command,
            env={**os.environ, **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def tail(log: Path, lines: int = 40) -> str:
    """The last lines of a log, for the message of a failure."""
    return "\n".join(log.read_text().splitlines()[-lines:])


def valkey_answers(url: str) -> bool:
    """Whether a Valkey at `url` serves commands."""
    try:
        with Redis.from_url(url) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def s3_answers(settings: Settings) -> bool:
    """Whether the S3 server of `settings` serves requests that bear its key."""
    try:
        minio_client(settings).list_buckets()
    except HTTPError:
        return False
    return True


def minio_client(settings: Settings) -> Minio:
    """A plain client of the S3 server of `settings`, which gives up at once."""
    return Minio(
        settings.s3_endpoint.removeprefix("http://"),
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        region=settings.s3_region,
        secure=False,
        http_client=urllib3.PoolManager(retries=False, timeout=10),
    )
