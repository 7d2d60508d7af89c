"""Redis memory of a queued job, beside that of a queued Celery message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from redis import Redis

from bench.celery_peer import TASK, application
from bench.jobs import ACCOUNT, body, new_jobs, new_scheduler
from bench.measuring import Row, Target, in_turn
from bench.processes import broker
from bench.sizes import Sizes

#: Celery is slow to send; its messages are all alike, so a few tell.
_PEER_SHARE = 10


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    with broker(scratch) as server:
        scheduler = new_scheduler(server.redis)
        task = application(server.peer_url).tasks[TASK]
        jobs = new_jobs(range(sizes.batch))
        messages = max(1, sizes.batch // _PEER_SHARE)
        # Loads the script, which stays in memory.
        scheduler.enqueue(ACCOUNT, jobs[:1])

        def send() -> None:
            for number in range(messages):
                task.apply_async(kwargs=body(number), ignore_result=True)

        def ours() -> float:
            return _growth(server.redis, lambda: scheduler.enqueue(ACCOUNT, jobs)) / sizes.batch

        # Memory does not depend on what else the machine does: once is enough.
        return [
            Row(
                "Redis memory of a queued job",
                "bytes",
                "Celery message",
                in_turn(1, ours, lambda: _growth(server.peer_redis, send) / messages),
                Target(1000, at_least=False, on_ratio=False),
            )
        ]


def _growth(redis: Redis, action: Callable[[], None]) -> float:
    """Bytes that the action adds to an empty database."""
    redis.flushdb()
    before = _used(redis)
    action()
    return _used(redis) - before


def _used(redis: Redis) -> float:
    """Bytes in use, without the buffers of clients and of the append-only file, which come and go."""
    memory = cast(dict[str, int], redis.info("memory"))
    return memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"]
