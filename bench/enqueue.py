"""Accepting a batch: jobs a second, beside a loop of Celery's `apply_async`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from redis import Redis

from bench.celery_peer import TASK, application
from bench.jobs import ACCOUNT, body, new_job, new_jobs, new_scheduler
from bench.measuring import Rounds, Row, Target, in_turn, seconds
from bench.processes import Broker, broker
from bench.sizes import Sizes

_PEER = "Celery apply_async"
#: Lines held in memory at once: whoever reads a large file keeps few.
_CHUNK = 500


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    lines = [json.dumps(body(number)) for number in range(sizes.batch)]
    with broker(scratch) as server:
        scheduler = new_scheduler(server.redis)

        def accept_checked(clock: Callable[[], float]) -> float:
            server.redis.flushdb()
            jobs = new_jobs(range(sizes.batch))
            return sizes.batch / seconds(lambda: scheduler.enqueue(ACCOUNT, jobs), clock)

        def accept_lines() -> None:
            for start in range(0, len(lines), _CHUNK):
                scheduler.enqueue(ACCOUNT, [new_job(json.loads(line)) for line in lines[start : start + _CHUNK]])

        def checked(clock: Callable[[], float]) -> Rounds:
            return in_turn(
                sizes.rounds,
                lambda: accept_checked(clock),
                lambda: _apply_async_rate(server, sizes.measure_s, clock),
            )

        def parsed() -> float:
            server.redis.flushdb()
            return sizes.batch / seconds(accept_lines)

        return [
            Row(
                "accept a batch of checked jobs",
                "jobs/s",
                _PEER,
                checked(time.perf_counter),
                Target(10, at_least=True),
            ),
            Row("the same, by CPU time", "jobs/CPU s", _PEER, checked(_cpu_clock(server.redis))),
            Row(
                "accept a batch of lines, parsed and resolved",
                "jobs/s",
                _PEER,
                in_turn(sizes.rounds, parsed, lambda: _apply_async_rate(server, sizes.measure_s, time.perf_counter)),
                Target(6, at_least=True),
            ),
        ]


def _apply_async_rate(server: Broker, measure_s: float, clock: Callable[[], float]) -> float:
    """Messages a second of a loop that does everything to be fast: one connection, one producer, no results."""
    server.peer_redis.flushdb()
    task = application(server.peer_url).tasks[TASK]
    with task.app.connection_for_write() as connection, task.app.amqp.Producer(connection) as producer:
        task.apply_async(kwargs=body(0), producer=producer, ignore_result=True)  # connects
        sent = 0
        deadline = time.perf_counter() + measure_s
        started = clock()
        while time.perf_counter() < deadline:
            task.apply_async(kwargs=body(sent), producer=producer, ignore_result=True)
            sent += 1
        return sent / (clock() - started)


def _cpu_clock(redis: Redis) -> Callable[[], float]:
    """Counts the CPU time of this process and of Valkey: others who use the machine take none of it."""

    def clock() -> float:
        valkey = cast(dict[str, float], redis.info("cpu"))
        return time.process_time() + valkey["used_cpu_user_main_thread"] + valkey["used_cpu_sys_main_thread"]

    return clock
