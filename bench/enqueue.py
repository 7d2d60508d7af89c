"""Accepting a batch: jobs a second, beside a loop of Celery's `apply_async`."""

from __future__ import annotations

import json
import time
from pathlib import Path

from bench.celery_peer import TASK, application
from bench.jobs import ACCOUNT, body, new_job, new_jobs, new_scheduler
from bench.measuring import Row, Target, in_turn, seconds
from bench.processes import Broker, broker
from bench.sizes import Sizes

_PEER = "Celery apply_async"


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    with broker(scratch) as server:
        scheduler = new_scheduler(server.redis)
        lines = [json.dumps(body(number)) for number in range(sizes.batch)]

        def enqueue_checked() -> float:
            server.redis.flushdb()
            jobs = new_jobs(range(sizes.batch))
            return sizes.batch / seconds(lambda: scheduler.enqueue(ACCOUNT, jobs))

        def enqueue_lines() -> float:
            server.redis.flushdb()
            return sizes.batch / seconds(
                lambda: scheduler.enqueue(ACCOUNT, [new_job(json.loads(line)) for line in lines])
            )

        def peer() -> float:
            return _apply_async_rate(server, sizes.measure_s)

        return [
            Row(
                "accept a batch of checked jobs",
                "jobs/s",
                _PEER,
                in_turn(sizes.rounds, enqueue_checked, peer),
                Target(10, at_least=True),
            ),
            Row(
                "the same, each line parsed and resolved",
                "jobs/s",
                _PEER,
                in_turn(sizes.rounds, enqueue_lines, peer),
                Target(6, at_least=True),
            ),
        ]


def _apply_async_rate(server: Broker, measure_s: float) -> float:
    """Messages a second of a loop that does everything to be fast: one connection, one producer, no results."""
    server.peer_redis.flushdb()
    app = application(server.peer_url)
    task = app.tasks[TASK]
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        task.apply_async(kwargs=body(0), producer=producer, ignore_result=True)  # connects
        sent = 0
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < measure_s:
            task.apply_async(kwargs=body(sent), producer=producer, ignore_result=True)
            sent += 1
    return sent / elapsed
