"""The cost of a claim in a long queue, beside that in a short one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast

from redis import Redis

from bench.jobs import CATALOG, MODEL, new_jobs, new_scheduler
from bench.measuring import Row, Target, in_turn, median_ms, seconds
from bench.processes import broker, wait_until
from bench.sizes import Sizes
from shared.scheduler import Scheduler

#: Enough that a claim has flows to choose from.
_ACCOUNTS = 20
#: What is enqueued at once while a queue is filled.
_CHUNK = 5_000


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    # A server each, so that neither queue lies in the other's memory.
    with ExitStack() as servers:
        long, short = (servers.enter_context(broker(scratch)).redis for _ in range(2))
        long_queue, short_queue = _Queue(long, sizes.long_queue), _Queue(short, sizes.short_queue)
        for redis in (long, short):
            wait_until(partial(_is_at_rest, redis), "Valkey, which rewrites its append-only file,")
        return [
            Row(
                f"claim and complete {long_queue.batch_limit} of {sizes.long_queue:,} jobs",
                "ms",
                f"of {sizes.short_queue:,} jobs",
                in_turn(
                    sizes.rounds,
                    lambda: median_ms(sizes.calls, long_queue.timed_batch),
                    lambda: median_ms(sizes.calls, short_queue.timed_batch),
                ),
                Target(1.5, at_least=False),
            )
        ]


class _Queue:
    """A queue that keeps its length: what is claimed is replaced."""

    def __init__(self, redis: Redis, length: int) -> None:
        self._scheduler: Scheduler = new_scheduler(redis)
        self._accounts = _cycle_of_accounts()
        self.batch_limit = CATALOG.models[MODEL].batch_limit
        chunk = min(_CHUNK, length // _ACCOUNTS)
        for _ in range(length // chunk):
            self._enqueue(chunk)

    def timed_batch(self) -> float:
        """Seconds that a worker's calls for one batch take."""
        took = seconds(self._work)
        self._enqueue(self.batch_limit)
        return took

    def _work(self) -> None:
        claim = self._scheduler.claim(MODEL, "bench", max_images=self.batch_limit)
        for lease in claim.leases:
            self._scheduler.complete(lease, images={}, result={"images": []}, render_s=None)

    def _enqueue(self, count: int) -> None:
        account = next(self._accounts)
        self._scheduler.enqueue(account, new_jobs(range(count), account))


def _cycle_of_accounts() -> Iterator[str]:
    while True:
        yield from (f"account-{number}" for number in range(_ACCOUNTS))


def _is_at_rest(redis: Redis) -> bool:
    persistence = cast(dict[str, int], redis.info("persistence"))
    return not persistence["aof_rewrite_in_progress"] and not persistence["aof_rewrite_scheduled"]
