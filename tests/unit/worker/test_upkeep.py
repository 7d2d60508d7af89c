"""Upkeep heals what was lost, and nothing that fails stops it."""

from __future__ import annotations

import threading
import time

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.answers import Progress
from shared.batches import Batches
from shared.jobs import Stage
from shared.outbox import Outbox
from shared.storage import StorageError
from shared.tickets import Tickets
from tests.scheduling import MODEL, complete, let_pass, new_job, new_scheduler
from tests.servers import wait_until
from worker import upkeep
from worker.upkeep import Duty, Sweeper


class Broker:
    """Counts what is published, in lists as the real one."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def send(self, task: str, queue: str) -> None:
        self._redis.lpush(queue, task)


@pytest.fixture
def sweeper(redis: Redis) -> Sweeper:
    return Sweeper(redis, new_scheduler(redis), Tickets(redis, Broker(redis).send), Outbox(redis), Batches(redis))


def test_work_without_a_ticket_gets_one_and_only_one(redis: Redis, sweeper: Sweeper) -> None:
    new_scheduler(redis).enqueue("alice", [new_job() for _ in range(100)])
    sweeper.wake()
    sweeper.wake()
    assert redis.llen(f"render.{MODEL}") == 1
    redis.delete(f"render.{MODEL}")
    sweeper.wake()
    assert redis.llen(f"render.{MODEL}") == 1


def test_no_ticket_is_published_where_nothing_waits(redis: Redis, sweeper: Sweeper) -> None:
    scheduler = new_scheduler(redis)
    scheduler.enqueue("alice", [new_job()])
    assert scheduler.claim(MODEL, "worker-1", max_images=1).leases
    sweeper.wake()
    assert not redis.exists(f"render.{MODEL}", "batches", "rm:wake_ups")


def test_a_webhook_that_is_due_without_a_wake_up_gets_one_and_only_one(redis: Redis, sweeper: Sweeper) -> None:
    scheduler = new_scheduler(redis)
    scheduler.enqueue("alice", [new_job(webhook_url="https://receiver.example/")])
    (lease,) = scheduler.claim(MODEL, "worker-1", max_images=1).leases
    complete(scheduler, lease)
    redis.delete("rm:wake_ups")
    sweeper.wake()
    sweeper.wake()
    assert redis.llen("rm:wake_ups") == 1


def test_a_lost_workers_jobs_come_back(redis: Redis, sweeper: Sweeper) -> None:
    scheduler = new_scheduler(redis)
    job = new_job()
    scheduler.enqueue("alice", [job])
    scheduler.claim(MODEL, "worker-1", max_images=1)
    sweeper.sweep()
    assert scheduler.queued() == {MODEL: 0}
    let_pass(redis, "leases", job.id)
    sweeper.sweep()
    sweeper.wake()
    assert redis.llen(f"render.{MODEL}") == 1


def test_after_redis_was_away_live_workers_may_renew_before_leases_are_ended(
    redis: Redis, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = new_scheduler(redis)
    scheduler.enqueue("alice", [new_job(), new_job()])
    living, dead = scheduler.claim(MODEL, "worker-1", max_images=2).leases
    slept: list[float] = []

    class Clock:
        now = time.monotonic()

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            slept.append(seconds)
            scheduler.renew({living: Progress(Stage.RENDERING, 0.5)})

    clock = Clock()
    monkeypatch.setattr(upkeep, "time", clock)
    sweeper.sweep()
    assert not slept
    for lease in (living, dead):
        let_pass(redis, "leases", lease.id)
    clock.now += 60
    sweeper.sweep()
    assert slept == [3]
    assert redis.zrange("rm:leases", 0, -1) == [living.id]


def test_several_sweepers_at_once_bring_a_job_back_once(redis: Redis, sweeper: Sweeper) -> None:
    scheduler = new_scheduler(redis)
    jobs = [new_job() for _ in range(20)]
    scheduler.enqueue("alice", jobs)
    scheduler.claim(MODEL, "worker-1", max_images=20)
    for job in jobs:
        let_pass(redis, "leases", job.id)
    threads = [threading.Thread(target=sweeper.sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scheduler.queued() == {MODEL: 20}
    assert redis.get("rm:leases_expired") == "20"


@pytest.mark.parametrize("error", [RedisConnectionError("away"), StorageError("away"), RuntimeError("a bug")])
def test_a_duty_that_fails_is_done_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(upkeep, "_PAUSE_S", 0.01)
    done: list[int] = []
    enough = threading.Event()

    def do() -> None:
        enough.wait(0.01)
        done.append(1)
        if len(done) < 3:
            raise error
        if len(done) > 10:
            enough.wait()

    Duty("testing", do, 0.01).start()
    wait_until(lambda: len(done) > 3, "it is done again and again")
