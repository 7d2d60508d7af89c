"""Many workers at once: how much of their time they render, through a whole farm with models that sleep.

The peer is what one would write with Celery alone: a task a picture, which renders the same way, encodes, puts the
picture into S3 and returns its key. A render worker is worth what it renders: time is counted as rendering only up to
what a batch is to take, so a machine whose processors are short shows as idle devices.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from celery import Celery
from redis import Redis

from api.ticket_producer import ticket_producer
from bench import sleeping_peer
from bench.jobs import ACCOUNT, new_scheduler
from bench.measuring import Rounds, Row, Target
from bench.processes import wait_until
from bench.sizes import Fleet, Sizes
from bench.synthetic_farm import CATALOG, SyntheticFarm, peer_fleet, synthetic_farm, synthetic_job
from shared.jobs import Job
from shared.records import Records
from shared.redis_client import PREFIX
from shared.tickets import Tickets

MODEL = CATALOG.models["synthetic-1"]
_PEER = "Celery task a picture"
#: Records read at a time.
_STEP = 1000


class WrongOutcome(Exception):
    """The farm lost a job, did one twice, or miscounted: its speed means nothing."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What came of one fleet's work."""

    #: Part of the workers' time, from the first start to the last end, in which they rendered.
    rendering: float
    #: Milliseconds of CPU for a job, by kind of process.
    cpu_ms: Mapping[str, float]


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    rows: list[Row] = []
    for fleet in sizes.fleets:
        places = [scratch / f"{side}-{fleet.workers}" for side in ("ours", "peer")]
        for place in places:
            place.mkdir()
        rows += _rows(fleet, _farm(fleet, places[0]), _peer(fleet, places[1]))
    return rows


def _rows(fleet: Fleet, ours: _Run, peer: _Run) -> Iterable[Row]:
    target = Target(95, at_least=True, on_ratio=False)
    rounds = Rounds([100 * ours.rendering], [100 * peer.rendering])
    yield Row(f"{fleet.workers} workers, 100 ms a batch: time spent rendering", "%", _PEER, rounds, target)
    for kind in ("all processes", "workers", "Valkey", "S3"):
        yield Row(f"the same: CPU for a job, {kind}", "ms", _PEER, Rounds([ours.cpu_ms[kind]], [peer.cpu_ms[kind]]))


def _farm(fleet: Fleet, scratch: Path) -> _Run:
    with synthetic_farm(scratch, MODEL.id, fleet.workers) as farm:
        redis, scheduler = farm.broker.redis, new_scheduler(farm.broker.redis)
        jobs = [synthetic_job(MODEL, seed) for seed in range(fleet.jobs)]
        before = farm.cpu_s()
        scheduler.enqueue(ACCOUNT, jobs)
        tickets = Tickets(redis, ticket_producer(farm.broker.url))
        tickets.wake_renderers(MODEL.id, queued=fleet.jobs, workers=fleet.workers)
        wait_until(lambda: _succeeded(redis) >= fleet.jobs, "the end of all jobs", fleet.patience_s)
        cpu_ms = _cpu_ms(farm, before, fleet)
        records = Records(redis)
        finished: list[Job] = []
        for start in range(0, fleet.jobs, _STEP):
            finished += [job for job in records.read([job.id for job in jobs[start : start + _STEP]]) if job]
        _check(farm, finished, fleet)
        return _Run(_share(fleet, ((job.started_at or 0.0, job.finished_at or 0.0) for job in finished)), cpu_ms)


def _succeeded(redis: Redis) -> int:
    return int(cast(str | None, redis.hget(f"{PREFIX}finished", f"succeeded/{MODEL.id}")) or 0)


def _check(farm: SyntheticFarm, finished: list[Job], fleet: Fleet) -> None:
    """Raise WrongOutcome unless every job was done exactly once and nothing is left."""
    redis = farm.broker.redis
    counters = redis.hmget(f"{PREFIX}model:{MODEL.id}", "queued", "delayed", "running", "queued_cost")
    found = {
        "jobs that succeeded": sum(job.status == "succeeded" for job in finished),
        "of these at the first attempt": sum(job.attempts == 1 for job in finished),
        "different pictures": len({image for job in finished for image in job.images}),
        "objects": len(set(farm.storage.keys("outputs/"))),
    }
    if set(found.values()) != {fleet.jobs}:
        raise WrongOutcome(f"{fleet.jobs} jobs should have given one of each: {found}")
    left = [int(count or 0) for count in counters] + [redis.zcard(PREFIX + "leases")]
    if any(left):
        raise WrongOutcome(f"queued, delayed, running, their cost and leases should be 0 in the end: {left}")


def _peer(fleet: Fleet, scratch: Path) -> _Run:
    with peer_fleet(scratch, fleet.workers) as farm:
        # Without a result backend: one that has it would listen for each result, and this process has better to do.
        with Celery(broker=farm.broker.url, set_as_current=False) as app:
            before = farm.cpu_s()
            sent = [app.send_task(sleeping_peer.TASK, kwargs={"seed": seed}).id for seed in range(fleet.jobs)]
        results = farm.broker.redis
        names = [f"celery-task-meta-{id_}" for id_ in sent]
        wait_until(lambda: results.exists(*names) == fleet.jobs, "the end of all tasks", fleet.patience_s)
        cpu_ms = _cpu_ms(farm, before, fleet)
        spans = [json.loads(text or "")["result"] for text in cast(list[str | None], results.mget(names))]
        return _Run(_share(fleet, spans), cpu_ms)


def _share(fleet: Fleet, spans: Iterable[Sequence[float]]) -> float:
    """The part of all workers' time that is rendering, between the first start and the last end of Unix time."""
    assert MODEL.synthetic is not None
    starts, ends = zip(*spans, strict=True)
    wall_s: float = max(ends) - min(starts)
    return fleet.jobs * MODEL.synthetic.batch_s / (fleet.workers * wall_s)


def _cpu_ms(farm: SyntheticFarm, before: Mapping[str, float], fleet: Fleet) -> dict[str, float]:
    used = {kind: 1000 * (after - before[kind]) / fleet.jobs for kind, after in farm.cpu_s().items()}
    return {"all processes": sum(used.values()), **used}
