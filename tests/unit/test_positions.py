"""Where a queued job stands: the estimate against what then happens."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from shared.jobs import Priority
from shared.scheduler import Scheduler
from tests.scheduling import MODEL, claim_one, enqueue, new_scheduler


@pytest.fixture
def scheduler(redis: Redis) -> Scheduler:
    return new_scheduler(redis)


MIXES: dict[str, list[dict[str, Any]]] = {
    "a bulk and a single": [{"account": "bulk"}] * 100 + [{"account": "single"}],
    "three bulks": [{"account": account} for account in "abc" for _ in range(40)],
    "priorities": [{"priority": priority} for priority in Priority for _ in range(40)],
    "unequal costs": [{"account": account, "image_cost": cost} for account, cost in zip("abc", (1, 9, 2), strict=True)]
    * 40,
    "a lane each": [{"account": account, "lane": lane} for lane, account in enumerate("abcd", 1) for _ in range(40)],
    "mixed lanes": [{"account": "abcd"[i % 4], "lane": 1 + i * 7 % 3} for i in range(160)],
    "sixty accounts": [{"account": f"account-{i % 60:02}"} for i in range(180)],
}


def estimate_errors(scheduler: Scheduler, mix: list[dict[str, Any]], limit: int) -> list[float]:
    """How far each estimated place is from the true one, as a share of the queue, once everything is served."""
    jobs = [enqueue(scheduler, **shape) for shape in mix]
    scheduler.claim(MODEL, "w", max_images=limit)
    estimated = {job.id: position.ahead for job in jobs if (position := scheduler.position(job.id, 1))}
    served: list[str] = []
    while leases := scheduler.claim(MODEL, "w", max_images=limit).leases:
        served += [lease.id for lease in leases]
    assert sorted(served) == sorted(estimated)
    return [abs(place - estimated[job_id]) / len(served) for place, job_id in enumerate(served)]


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_a_position_is_where_the_job_is_served_when_nothing_rides(
    scheduler: Scheduler, mix: list[dict[str, Any]]
) -> None:
    # Exact but for flows beyond those that are looked at.
    assert max(estimate_errors(scheduler, mix, limit=1)) <= (0.1 if mix is MIXES["sixty accounts"] else 0.0)


@pytest.mark.parametrize(
    ("mix", "mean", "worst"),
    [
        ("a bulk and a single", 0.0, 0.0),
        ("three bulks", 0.0, 0.0),
        ("priorities", 0.0, 0.0),
        ("sixty accounts", 0.05, 0.1),
        # Batches of eight move jobs by a batch for every flow, and by more where the lanes of a flow are mixed.
        ("a lane each", 0.1, 0.2),
        ("mixed lanes", 0.25, 0.8),
    ],
)
def test_a_position_is_near_enough_when_batches_ride(scheduler: Scheduler, mix: str, mean: float, worst: float) -> None:
    errors = estimate_errors(scheduler, MIXES[mix], limit=8)
    assert sum(errors) / len(errors) <= mean
    assert max(errors) <= worst


def test_the_time_left_follows_costs_measured_rates_and_workers(scheduler: Scheduler) -> None:
    enqueue(scheduler, image_cost=2.0)
    assert scheduler.complete(claim_one(scheduler), images={}, result={}, render_s=2.0)
    for _ in range(11):
        enqueue(scheduler, image_cost=2.0)
    job = enqueue(scheduler, image_cost=2.0)
    lease = claim_one(scheduler)
    # Ten jobs of two predicted seconds, its own two, and half of the one that runs.
    position = scheduler.position(job.id, 1)
    assert position is not None
    assert (position.ahead, position.eta_s) == (10, 23.0)
    assert scheduler.complete(lease, images={}, result={}, render_s=42.0)
    slower, shared = scheduler.position(job.id, 1), scheduler.position(job.id, 2)
    assert slower is not None
    assert shared is not None
    assert (slower.eta_s, shared.eta_s) == (66.0, 36.0)


def test_before_a_job_was_measured_nobody_knows_how_long_one_takes(redis: Redis, scheduler: Scheduler) -> None:
    first, second = enqueue(scheduler), enqueue(scheduler)
    for job in (first, second):
        position = scheduler.position(job.id, 1)
        assert position is not None
        assert position.eta_s is None
    assert scheduler.forecast(second, 1).eta_s is None
    assert scheduler.complete(claim_one(scheduler), images={}, result={}, render_s=3.0)
    assert not redis.hexists(f"rm:job:{first.id}", "eta"), "nobody was told a time"
    position = scheduler.position(second.id, 1)
    assert position is not None
    assert position.eta_s == 3.0
    assert redis.hexists(f"rm:job:{second.id}", "eta")


def test_the_oldest_wait_is_that_of_the_first_job_of_all_flows(redis: Redis, scheduler: Scheduler) -> None:
    assert scheduler.oldest_wait_s(MODEL) == 0.0
    oldest = enqueue(scheduler, account="zoe", lane=3)
    enqueue(scheduler, account="alice")
    redis.hset(f"rm:job:{oldest.id}", "created", (redis.time()[0] - 100) * 1000)
    assert 99 <= scheduler.oldest_wait_s(MODEL) <= 110
