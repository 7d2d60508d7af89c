"""Connections to Redis, and the Lua scripts that make up every change of state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from shared.jobs import PRIORITY_WEIGHTS, TRANSITIONS, WEBHOOK_EVENTS
from shared.tickets import RENDER_QUEUE

#: Every key begins with this, so that Rendermill can share a Redis with others.
PREFIX = "rm:"

#: Long enough for a sweep or a large enqueue on a busy server, short enough that a dead link is noticed.
_SOCKET_TIMEOUT_S = 10.0
#: Tries of one command over about six seconds: a restart of Redis is waited out instead of failing requests.
_RETRIES = 8


def connect(url: str) -> Redis:
    """A client, safe to share between threads, that rides out a restart of Redis. Text in, text out."""
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_SOCKET_TIMEOUT_S,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), _RETRIES),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


def now_ms(redis: Redis) -> int:
    """Unix milliseconds of Redis's own clock, the only one all machines share; as the scripts reckon."""
    seconds, microseconds = redis.time()
    return int(seconds * 1000 + microseconds // 1000)


def _lua_table(entries: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{name} = {value}" for name, value in entries.items()) + " }"


@cache
def _preamble() -> str:
    transitions = {
        status.value: _lua_table({target.value: "true" for target in sorted(targets)})
        for status, targets in TRANSITIONS.items()
    }
    weights = {priority.value: repr(weight) for priority, weight in PRIORITY_WEIGHTS.items()}
    events = {status.value: f"'{event}'" for status, event in WEBHOOK_EVENTS.items()}
    tables = (
        f"local TRANSITIONS = {_lua_table(transitions)}\n"
        f"local PRIORITY_WEIGHT = {_lua_table(weights)}\n"
        f"local WEBHOOK_EVENT = {_lua_table(events)}\n"
        f"local RENDER_QUEUE = '{RENDER_QUEUE}'\n"
    )
    return tables + _source("_lib")


def _source(name: str) -> str:
    return Path(__file__).with_name("lua").joinpath(f"{name}.lua").read_text()


class Script:
    """One verb: `lua/<name>.lua` after the shared library, called with the key prefix and its arguments.

    `uses` names further libraries that it needs, files of the same folder.
    """

    def __init__(self, redis: Redis, name: str, prefix: str = PREFIX, *, uses: Sequence[str] = ()) -> None:
        self._script = redis.register_script(_preamble() + "".join(map(_source, (*uses, name))))
        self._prefix = prefix

    def __call__(self, *arguments: str | int | float) -> Any:
        return self._script(keys=[self._prefix], args=_texts(arguments))

    def into(self, pipeline: Pipeline, *arguments: str | int | float) -> None:
        """Call it as a part of a pipeline."""
        self._script(keys=[self._prefix], args=_texts(arguments), client=pipeline)


def _texts(arguments: Sequence[str | int | float]) -> list[str]:
    return [argument if isinstance(argument, str) else repr(argument) for argument in arguments]
