from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis

from shared.accounts import Accounts
from shared.catalog import load_catalog
from shared.credits import credits_of, micros
from shared.jobs import JobStatus, NewJob
from shared.limits import AccountLimits, Balance, Rate, Refused
from shared.records import Records
from shared.requests import resolve
from shared.scheduler import Scheduler
from shared.usage import usage_of
from tests.scheduling import LossyRedis, complete, new_job, new_scheduler

CATALOG = Path(__file__).parents[2] / "shared" / "catalog.toml"


@pytest.fixture
def scheduler(redis: Redis) -> Scheduler:
    return new_scheduler(redis)


@pytest.fixture
def limits(redis: Redis) -> AccountLimits:
    """The limits of accounts, of which alice and bob exist."""
    for account in ("alice", "bob"):
        Accounts(redis).create_key(account)
    return AccountLimits(redis)


def refusal(act: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as refused:
        act()
    return refused.value


def accepted_at_once(scheduler: Scheduler, jobs: list[NewJob]) -> list[NewJob]:
    """The jobs that were accepted of those that many threads handed in at the same moment."""
    start = threading.Barrier(8)
    accepted: list[NewJob] = []

    def hand_in(mine: list[NewJob]) -> None:
        start.wait()
        for job in mine:
            try:
                scheduler.accept(job)
            except Refused:
                continue
            accepted.append(job)

    threads = [threading.Thread(target=hand_in, args=(jobs[at::8],)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return accepted


# Rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60/min", Rate(60, 60)),
        ("10/s", Rate(10, 1)),
        ("1000/h", Rate(1000, 3600)),
        ("100/30s", Rate(100, 30)),
        ("5 / 2d", Rate(5, 172800)),
    ],
)
def test_a_rate_is_written_as_people_write_it(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate
    assert Rate.parse(str(rate)) == rate


@pytest.mark.parametrize("text", ["", "60", "60/", "0/s", "5/0s", "-1/s", "1.5/s", "60/week", "1/31d", "1/s/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        Rate.parse(text)


def test_a_rate_lets_so_many_requests_through_and_tells_when_to_come_back(
    scheduler: Scheduler, limits: AccountLimits
) -> None:
    limits.set_rate("alice", Rate(3, 3600))
    left = []
    for _ in range(3):
        standing = scheduler.accept(new_job()).standing
        assert standing is not None
        left.append(standing.requests_left)
    assert left == [2, 1, 0]
    refused = refusal(lambda: scheduler.accept(new_job()))
    assert refused.code == "rate_limited"
    assert 1195 <= int(refused.headers["Retry-After"]) <= 1200
    assert refused.standing.requests_left == 0
    assert refused.standing.full_in_s in range(3590, 3601)
    scheduler.accept(new_job("bob"))


def test_a_rate_comes_back_with_time(redis: Redis, scheduler: Scheduler, limits: AccountLimits) -> None:
    limits.set_rate("alice", Rate(4, 3600))
    for _ in range(4):
        scheduler.accept(new_job())
    refusal(lambda: scheduler.accept(new_job()))
    # Half an hour passes.
    redis.set("rm:rate:alice", float(cast(str, redis.get("rm:rate:alice"))) - 1_800_000)
    scheduler.accept(new_job())
    scheduler.accept(new_job())
    assert refusal(lambda: scheduler.accept(new_job())).code == "rate_limited"


def test_a_batch_is_not_held_to_the_rate(scheduler: Scheduler, limits: AccountLimits) -> None:
    limits.set_rate("alice", Rate(1, 3600))
    scheduler.enqueue("alice", [new_job() for _ in range(5)])
    scheduler.accept(new_job())


def test_a_request_whose_answer_was_lost_is_counted_once(redis: Redis, limits: AccountLimits) -> None:
    lossy = LossyRedis(redis)
    scheduler = new_scheduler(cast(Redis, lossy))
    limits.set_rate("alice", Rate(2, 3600))
    lossy.losing = True
    scheduler.accept(new_job())
    standing = scheduler.accept(new_job()).standing
    assert standing is not None
    assert standing.requests_left == 0
    assert refusal(lambda: scheduler.accept(new_job())).code == "rate_limited"


def test_a_replay_is_neither_limited_nor_paid_for(scheduler: Scheduler, limits: AccountLimits) -> None:
    limits.set_rate("alice", Rate(1, 3600))
    limits.set_max_queued("alice", 1)
    limits.set_balance("alice", 5)
    keyed: dict[str, Any] = {"key": "k", "fingerprint": "f", "remember_s": 60}
    first = scheduler.accept(new_job(price=5), **keyed)
    for _ in range(3):
        again = scheduler.accept(new_job(price=5), **keyed)
        assert (again.id, again.replayed) == (first.id, True)
    assert limits.balance("alice") == Balance(available=0, reserved=5, charged=0)


def test_a_refused_request_leaves_its_idempotency_key_unused(scheduler: Scheduler, limits: AccountLimits) -> None:
    limits.set_max_queued("alice", 0)
    refusal(lambda: scheduler.accept(new_job(), key="k", fingerprint="f", remember_s=60))
    limits.set_max_queued("alice", None)
    job = new_job()
    assert scheduler.accept(job, key="k", fingerprint="other", remember_s=60).id == job.id


# Queues


def test_so_many_jobs_of_an_account_may_wait(scheduler: Scheduler, limits: AccountLimits) -> None:
    limits.set_max_queued("alice", 3)
    jobs = [new_job() for _ in range(5)]
    refused = refusal(lambda: scheduler.enqueue("alice", jobs))
    assert (refused.code, refused.standing.queued) == ("queue_full_account", 3)
    assert refused.headers["Retry-After"]
    refusal(lambda: scheduler.accept(new_job()))
    scheduler.claim(new_job().request.model, "w", max_images=1)
    scheduler.accept(new_job())
    scheduler.enqueue("bob", [new_job("bob") for _ in range(5)])


def test_a_batch_that_had_no_room_goes_on_where_it_was(
    redis: Redis, scheduler: Scheduler, limits: AccountLimits
) -> None:
    limits.set_max_queued("alice", 3)
    jobs = [new_job() for _ in range(8)]
    taken: list[str] = []
    for _ in range(2):
        refusal(lambda: scheduler.enqueue("alice", jobs))
        taken += [lease.id for lease in scheduler.claim(jobs[0].request.model, "w", max_images=3).leases]
    scheduler.enqueue("alice", jobs)
    taken += [lease.id for lease in scheduler.claim(jobs[0].request.model, "w", max_images=3).leases]
    assert taken == [job.id for job in jobs]
    assert redis.get("rm:seq") == "8"


def test_the_farm_as_a_whole_may_be_full(redis: Redis) -> None:
    scheduler = Scheduler(redis, lease_s=60, max_attempts=1, retry_delay_s=1, max_queued=3)
    scheduler.enqueue("alice", [new_job(), new_job(model="other/model")])
    scheduler.accept(new_job("bob"))
    refused = refusal(lambda: scheduler.accept(new_job("carol")))
    assert (refused.code, refused.kind.status) == ("queue_full", 503)
    assert refused.headers["Retry-After"]


# Running jobs


def test_an_account_at_its_cap_is_passed_over_without_holding_up_others(
    scheduler: Scheduler, limits: AccountLimits
) -> None:
    limits.set_max_running("alice", 2)
    mine, theirs = [new_job() for _ in range(20)], [new_job("bob") for _ in range(3)]
    scheduler.enqueue("alice", mine)
    scheduler.enqueue("bob", theirs)
    model = mine[0].request.model
    first = scheduler.claim(model, "w", max_images=8)
    assert sorted(lease.account for lease in first.leases) == ["alice", "alice", "bob", "bob", "bob"]
    assert scheduler.claim(model, "w", max_images=8).leases == []
    assert scheduler.oldest_wait_s(model) == 0, "what may not run is not overdue"
    own = next(lease for lease in first.leases if lease.account == "alice")
    complete(scheduler, own)
    assert [lease.account for lease in scheduler.claim(model, "w", max_images=8).leases] == ["alice"]


def test_a_claim_does_not_look_at_capped_accounts_however_many_there_are(
    redis: Redis, scheduler: Scheduler, limits: AccountLimits
) -> None:
    for number in range(200):
        account = f"capped-{number}"
        Accounts(redis).create_key(account)
        limits.set_max_running(account, 0)
        scheduler.enqueue(account, [new_job(account)])
    last = new_job("bob")
    scheduler.enqueue("bob", [last])
    assert [lease.id for lease in scheduler.claim(last.request.model, "w", max_images=4).leases] == [last.id]


def test_a_job_of_an_account_at_its_cap_has_a_position(scheduler: Scheduler, limits: AccountLimits) -> None:
    limits.set_max_running("alice", 0)
    jobs = [new_job(), new_job()]
    scheduler.enqueue("alice", jobs)
    scheduler.enqueue("bob", [new_job("bob")])
    position = scheduler.position(jobs[1].id, workers=1)
    assert position is not None
    assert position.ahead in {1, 2}


# Credits


def test_a_job_is_paid_for_when_it_succeeds(redis: Redis, scheduler: Scheduler, limits: AccountLimits) -> None:
    limits.set_balance("alice", 100)
    job = new_job(price=60)
    scheduler.accept(job)
    assert limits.balance("alice") == Balance(available=40, reserved=60, charged=0)
    refused = refusal(lambda: scheduler.accept(new_job(price=41)))
    assert (refused.code, refused.kind.status) == ("insufficient_credits", 402)
    [lease] = scheduler.claim(job.request.model, "w", max_images=1).leases
    complete(scheduler, lease)
    assert limits.balance("alice") == Balance(available=40, reserved=0, charged=60)
    assert Records(redis).get(job.id).price == 60


@pytest.mark.parametrize("ending", ["canceled", "failed", "expired"])
def test_a_job_that_ends_otherwise_costs_nothing(
    redis: Redis, scheduler: Scheduler, limits: AccountLimits, ending: str
) -> None:
    limits.set_balance("alice", 100)
    job = new_job(price=60, deadline_s=1000)
    scheduler.accept(job)
    match ending:
        case "canceled":
            scheduler.cancel(job.id, "alice")
        case "failed":
            [lease] = scheduler.claim(job.request.model, "w", max_images=1).leases
            scheduler.fail(lease, "invalid_input", "no", retriable=False)
        case _:
            redis.zadd("rm:deadlines", {job.id: 0})
            scheduler.sweep()
    assert limits.balance("alice") == Balance(available=100, reserved=0, charged=0)
    ended = Records(redis).get(job.id)
    assert (ended.status, ended.price) == (JobStatus(ending), 0)


def test_a_balance_that_came_later_is_not_given_what_was_never_taken(
    scheduler: Scheduler, limits: AccountLimits
) -> None:
    job = new_job(price=60)
    scheduler.accept(job)
    limits.set_balance("alice", 10)
    scheduler.cancel(job.id, "alice")
    assert limits.balance("alice") == Balance(available=10, reserved=0, charged=0)


def test_a_balance_that_was_taken_away_does_not_come_back(scheduler: Scheduler, limits: AccountLimits) -> None:
    limits.set_balance("alice", 100)
    job = new_job(price=60)
    scheduler.accept(job)
    limits.set_balance("alice", None)
    scheduler.cancel(job.id, "alice")
    assert limits.balance("alice") == Balance(available=None, reserved=0, charged=0)


def test_an_account_without_a_balance_need_not_pay(scheduler: Scheduler, limits: AccountLimits) -> None:
    scheduler.accept(new_job(price=10**9))
    assert limits.balance("alice") == Balance(available=None, reserved=0, charged=0)


def test_a_price_is_exact_and_rounded_up_to_a_millionth() -> None:
    model = replace(load_catalog(CATALOG).find("sdxl-lightning"), price=Decimal("0.01"))
    request = resolve(load_catalog(CATALOG), {"model": "sdxl-lightning", "prompt": "x", "width": 256, "height": 256})[0]
    assert request.price(model) == 2622  # 0.065536 megapixels × 4 steps × 0.01 credits = 0.00262144
    assert replace(request, n=10).price(model) == 26215
    assert request.price(replace(model, price=Decimal(0))) == 0


@pytest.mark.parametrize("text", ["-1", "0.0000001", "nan", "inf", "ten", "1000000001", ""])
def test_what_is_no_amount_of_credits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="credits"):
        micros(text)


def test_credits_are_shown_as_they_were_written() -> None:
    assert micros("12.345678") == 12_345_678
    assert credits_of(12_345_678) == 12.345678


def test_usage_is_told_by_day_and_model(redis: Redis, scheduler: Scheduler) -> None:
    jobs = [new_job(price=5, n=2), new_job(price=7), new_job(price=9)]
    scheduler.enqueue("alice", jobs)
    scheduler.cancel(jobs[2].id, "alice")
    for lease in scheduler.claim(jobs[0].request.model, "w", max_images=4).leases:
        complete(scheduler, lease)
    [today] = usage_of(redis, "alice", days=3)
    assert (today.model, today.images, today.credits) == (jobs[0].request.model, 3, 12)
    assert today.jobs == {JobStatus.SUCCEEDED: 2, JobStatus.CANCELED: 1}
    assert usage_of(redis, "bob", days=3) == []


def test_usage_is_forgotten_in_time(redis: Redis, scheduler: Scheduler) -> None:
    scheduler.enqueue("alice", [job := new_job()])
    scheduler.cancel(job.id, "alice")
    [name] = cast(list[str], redis.keys("rm:usage:*"))
    assert 0 < cast(int, redis.ttl(name)) <= 92 * 86400


# Many at the same moment


def test_limits_are_exact_however_many_hand_in_at_once(valkey: Redis) -> None:
    Accounts(valkey).create_key("alice")
    limits, scheduler = AccountLimits(valkey), new_scheduler(valkey)
    limits.set_rate("alice", Rate(50, 86400))
    assert len(accepted_at_once(scheduler, [new_job() for _ in range(160)])) == 50
    limits.set_rate("alice", None)
    limits.set_max_queued("alice", 70)
    assert len(accepted_at_once(scheduler, [new_job() for _ in range(80)])) == 20
    limits.set_max_queued("alice", None)
    limits.set_balance("alice", 30)
    assert len(accepted_at_once(scheduler, [new_job(price=1) for _ in range(80)])) == 30
    assert limits.balance("alice") == Balance(available=0, reserved=30, charged=0)


def test_one_request_sent_many_times_at_once_is_paid_for_once(valkey: Redis) -> None:
    Accounts(valkey).create_key("alice")
    limits, scheduler = AccountLimits(valkey), new_scheduler(valkey)
    limits.set_balance("alice", 100)
    start = threading.Barrier(8)
    ids: list[str] = []

    def hand_in() -> None:
        start.wait()
        ids.append(scheduler.accept(new_job(price=10), key="k", fingerprint="f", remember_s=60).id)

    threads = [threading.Thread(target=hand_in) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    assert limits.balance("alice") == Balance(available=90, reserved=10, charged=0)
