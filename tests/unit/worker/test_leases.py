"""Renewing leases beside the threads that end them."""

from __future__ import annotations

import time

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.jobs import Lease, Stage
from shared.records import Records
from shared.scheduler import Scheduler
from shared.waking import Waker, build_waker
from tests.scheduling import MODEL, complete, let_pass, new_job, new_scheduler
from tests.servers import wait_until
from tests.unit.worker.fakes import Failing
from worker.leases import LeaseKeeper


@pytest.fixture
def scheduler(redis: Redis) -> Scheduler:
    return new_scheduler(redis)


@pytest.fixture
def sent() -> list[str]:
    """The queues that a ticket was sent to."""
    return []


@pytest.fixture
def waker(redis: Redis, sent: list[str]) -> Waker:
    return build_waker(redis, lambda _, queue: sent.append(queue))


@pytest.fixture
def leases(scheduler: Scheduler) -> list[Lease]:
    scheduler.enqueue("alice", [new_job(), new_job()])
    return scheduler.claim(MODEL, "worker-1", max_images=2).leases


def test_a_renewal_puts_the_end_of_the_lease_off_and_carries_progress(
    scheduler: Scheduler, leases: list[Lease], waker: Waker, redis: Redis
) -> None:
    keeper = LeaseKeeper(scheduler, waker)
    with keeper.keep(leases) as holds:
        let_pass(redis, "leases", leases[0].id)
        holds[0].report(Stage.RENDERING, 0.5)
        keeper.renew()
        assert scheduler.sweep().leases_ended == 0
        assert Records(redis).get(leases[0].id).progress == 0.5
    let_pass(redis, "leases", leases[0].id)
    keeper.renew()
    assert scheduler.sweep().leases_ended == 1, "nothing is renewed after the block"


def test_a_job_that_is_called_off_is_dropped_and_ended_the_other_is_not(
    scheduler: Scheduler, leases: list[Lease], waker: Waker, redis: Redis
) -> None:
    keeper = LeaseKeeper(scheduler, waker)
    with keeper.keep(leases) as holds:
        scheduler.cancel(leases[0].id, "alice")
        keeper.renew()
        assert [hold.dropped for hold in holds] == [True, False]
    assert Records(redis).get(leases[0].id).status == "canceled"


def test_a_job_called_off_whose_end_cannot_be_told_is_ended_by_the_sweeper(
    scheduler: Scheduler, leases: list[Lease], waker: Waker, redis: Redis
) -> None:
    keeper = LeaseKeeper(Failing(scheduler, "abandon", RedisConnectionError("away"), 1), waker)
    with keeper.keep(leases) as holds:
        scheduler.cancel(leases[0].id, "alice")
        with pytest.raises(RedisConnectionError):
            keeper.renew()
        assert holds[0].dropped
        keeper.renew()
        let_pass(redis, "leases", leases[0].id)
        scheduler.sweep()
    assert Records(redis).get(leases[0].id).status == "canceled"


def test_a_lost_lease_is_dropped(scheduler: Scheduler, leases: list[Lease], waker: Waker, redis: Redis) -> None:
    keeper = LeaseKeeper(scheduler, waker)
    with keeper.keep(leases) as holds:
        let_pass(redis, "leases", leases[1].id)
        scheduler.sweep()
        keeper.renew()
        assert [hold.dropped for hold in holds] == [False, True]


def test_a_job_ended_while_its_renewal_was_under_way_is_not_taken_for_lost(
    scheduler: Scheduler, leases: list[Lease], waker: Waker
) -> None:
    class EndsMeanwhile:
        def renew(self, progress: object) -> object:
            keeper.settle(holds[0])
            complete(scheduler, leases[0])
            return scheduler.renew(progress)

    keeper = LeaseKeeper(EndsMeanwhile(), waker)
    with keeper.keep(leases) as holds:
        keeper.renew()
        assert [hold.dropped for hold in holds] == [False, False]


@pytest.mark.parametrize("error", [RedisConnectionError("away"), ValueError("an answer nobody knows")])
def test_renewing_goes_on_after_an_error(
    scheduler: Scheduler,
    leases: list[Lease],
    waker: Waker,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    monkeypatch.setattr("worker.leases.RENEW_EVERY_S", 0.01)
    keeper = LeaseKeeper(Failing(scheduler, "renew", error, 2), waker)
    keeper.start()
    with keeper.keep(leases) as holds:
        scheduler.cancel(leases[0].id, "alice")
        wait_until(lambda: holds[0].dropped, "the third renewal tells of the cancellation")
        assert not holds[1].dropped
    time.sleep(0.02)
    assert redis.zscore("rm:leases", leases[1].id)
