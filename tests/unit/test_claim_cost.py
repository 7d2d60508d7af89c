"""What a claim costs Redis, counted in commands: time would tell more of the machine than of the script."""

from __future__ import annotations

from collections.abc import Callable

from redis import Redis

from shared.jobs import Lease
from shared.scheduler import Scheduler
from tests.scheduling import MODEL, complete, new_job, new_scheduler


def add(scheduler: Scheduler, account: str, count: int, lane: int) -> None:
    scheduler.enqueue(account, [new_job(account, lane=lane) for _ in range(count)])


def claim(scheduler: Scheduler) -> list[Lease]:
    return scheduler.claim(MODEL, "w", max_images=8).leases


def commands_of(redis: Redis, action: Callable[[], object]) -> int:
    """How many commands Redis runs for `action`, those of scripts included."""

    def calls() -> int:
        stats = redis.info("commandstats")
        return sum(
            stat["calls"] for name, stat in stats.items() if name not in {"cmdstat_info", "cmdstat_config|resetstat"}
        )

    before = calls()
    action()
    return calls() - before


def test_a_claim_among_a_hundred_thousand_jobs_runs_the_commands_of_one_among_a_thousand(valkey: Redis) -> None:
    def commands(jobs: int) -> int:
        valkey.flushall()
        scheduler = new_scheduler(valkey)
        for account in "abcde":
            for lane in (1, 2):
                add(scheduler, account, jobs // 10, lane)
        claim(scheduler)  # Redis has the script from now on
        return commands_of(valkey, lambda: claim(scheduler))

    assert commands(1_000) == commands(100_000)


def test_an_account_with_five_thousand_lanes_slows_no_claim_and_starves_nobody(valkey: Redis) -> None:
    def commands(lanes: int) -> int:
        valkey.flushall()
        scheduler = new_scheduler(valkey)
        scheduler.enqueue("scattered", [new_job("scattered", lane=100 + lane) for lane in range(lanes)])
        add(scheduler, "plain", 100, 1)
        got = [lease.account for _ in range(16) for lease in claim(scheduler)]
        # Its jobs come one a batch, those of the other in full batches, and each gets its share.
        assert abs(got.count("plain") - got.count("scattered")) <= 2 * (1 + 8)
        return max(commands_of(valkey, lambda: claim(scheduler)) for _ in range(4))

    assert commands(5_000) == commands(50)


def test_a_claim_among_thousands_of_accounts_costs_little_more_than_among_few(valkey: Redis) -> None:
    def commands(accounts: int) -> int:
        valkey.flushall()
        scheduler = new_scheduler(valkey)
        for number in range(accounts):
            for lane in (1, 2):
                add(scheduler, f"account-{number:04}", 8, lane)
        for _ in range(accounts // 10):
            claim(scheduler)
        return max(commands_of(valkey, lambda: claim(scheduler)) for _ in range(3))

    assert commands(2_000) <= 1.5 * commands(20)


def test_served_jobs_leave_nothing_of_their_account_in_the_queue(redis: Redis) -> None:
    scheduler = new_scheduler(redis)
    for number in range(50):
        add(scheduler, f"passer-by-{number}", 1, 1)
        for lease in claim(scheduler):
            complete(scheduler, lease)
    assert redis.zcard(f"rm:finish:{MODEL}") == 0
