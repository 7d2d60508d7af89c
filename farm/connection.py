"""How the operator's commands reach Redis: they talk to it, not to the API."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from redis import Redis
from redis.exceptions import RedisError

from client.exit_codes import ExitCode
from client.terminal import fail
from farm.datadir import DataDir
from farm.errors import FarmError
from shared.accounts import Accounts
from shared.redis_client import connect
from shared.settings import PREFIX

REDIS_URL = f"{PREFIX}REDIS_URL"

DataDirOption = Annotated[
    Path | None,
    typer.Option(help=f"Data directory of a running embedded farm; without it {REDIS_URL}, else .rendermill."),
]


@contextmanager
def farm_redis(data_dir: Path | None) -> Iterator[Redis]:
    """The farm's Redis; what goes wrong with it, or is wrong with the command, ends the command with one line."""
    try:
        with connect(_redis_url(data_dir)) as redis:
            yield redis
    except RedisError as error:
        fail(f"Redis cannot be reached: {error}", ExitCode.UNAVAILABLE)
    except FarmError as error:
        fail(str(error), ExitCode.UNAVAILABLE)
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)


def account_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of accounts for the shell to complete; none where there is no farm to ask."""
    try:
        with connect(_redis_url(ctx.params.get("data_dir"))) as redis:
            return [name for name in Accounts(redis).names() if name.startswith(incomplete)]
    except (RedisError, FarmError):
        return []


def _redis_url(data_dir: Path | None) -> str:
    if data_dir is None and REDIS_URL in os.environ:
        return os.environ[REDIS_URL]
    root = data_dir or Path(".rendermill")
    running = DataDir(root).running()
    if running is None:
        raise FarmError(
            f"No farm runs in {root}. Start one with 'rendermill up', give its --data-dir, or set {REDIS_URL}."
        )
    return running.redis_url
