"""Accepting jobs that are checked already: jobs a second, beside a loop of Celery's `apply_async`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench.celery_peer import APPLY_ASYNC, apply_async_rate
from bench.jobs import ACCOUNT, new_jobs, new_scheduler
from bench.measuring import Rounds, Row, Target, in_turn, seconds
from bench.processes import broker, cpu_clock
from bench.sizes import Sizes


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    with broker(scratch) as server:
        scheduler = new_scheduler(server.redis)

        def accept(clock: Callable[[], float]) -> float:
            server.redis.flushdb()
            jobs = new_jobs(range(sizes.batch))
            return sizes.batch / seconds(lambda: scheduler.enqueue(ACCOUNT, jobs), clock)

        def beside_peer(clock: Callable[[], float]) -> Rounds:
            return in_turn(
                sizes.rounds, lambda: accept(clock), lambda: apply_async_rate(server, sizes.measure_s, clock)
            )

        return [
            Row(
                "accept a batch of checked jobs",
                "jobs/s",
                APPLY_ASYNC,
                beside_peer(time.perf_counter),
                Target(10, at_least=True),
            ),
            Row("the same, by CPU time", "jobs/CPU s", APPLY_ASYNC, beside_peer(cpu_clock(server.redis))),
        ]
