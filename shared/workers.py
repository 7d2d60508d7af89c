"""The render workers that are alive, told by their heartbeats."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from redis import Redis

from shared.redis_client import PREFIX, now_ms

#: A worker beats this often …
HEARTBEAT_S = 2.0
#: … and counts as gone after this long without a beat.
ALIVE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a render worker says of itself. `beat_at` is filled in from its heartbeat, in Unix seconds."""

    id: str
    models: list[str]
    device: str
    #: `starting`, `idle`, `rendering` or `draining`.
    state: str
    #: Models in memory.
    resident: list[str] = field(default_factory=list)
    beat_at: float = 0.0


class Workers:
    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._name = prefix + "workers"

    def beat(self, worker: Worker) -> None:
        """Say that the worker is alive."""
        data = asdict(worker) | {"beat_at": now_ms(self._redis) / 1000}
        self._redis.hset(self._name, worker.id, json.dumps(data))

    def leave(self, worker_id: str) -> None:
        """Say that the worker is gone."""
        self._redis.hdel(self._name, worker_id)

    def alive(self) -> list[Worker]:
        """The workers that beat lately."""
        oldest = now_ms(self._redis) / 1000 - ALIVE_S
        rows = cast(dict[str, str], self._redis.hgetall(self._name))
        return [worker for text in rows.values() if (worker := _worker(json.loads(text))).beat_at >= oldest]

    def forget_dead(self) -> None:
        """Remove the records of workers that stopped beating."""
        living = {worker.id for worker in self.alive()}
        dead = [id_ for id_ in cast(list[str], self._redis.hkeys(self._name)) if id_ not in living]
        if dead:
            self._redis.hdel(self._name, *dead)


class WorkerCount:
    """How many live workers serve a model. Redis is not asked more often than workers beat."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._known: list[Worker] = []
        self._asked_at = float("-inf")

    def serving(self, model_id: str) -> int:
        now = time.monotonic()
        if now - self._asked_at > HEARTBEAT_S:
            self._known, self._asked_at = self._workers.alive(), now
        return sum(model_id in worker.models for worker in self._known)


def _worker(data: dict[str, Any]) -> Worker:
    # While a new release is rolled out, workers of both say who they are.
    return Worker(**{name: value for name, value in data.items() if name in Worker.__dataclass_fields__})
