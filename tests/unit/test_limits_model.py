"""Credits and caps against a model of them: whatever happens to jobs, no credit is made or lost, and nobody starves."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis

from shared.accounts import Accounts
from shared.jobs import JobStatus, Lease, NewJob
from shared.limits import AccountLimits, Refused
from tests.scheduling import LossyRedis, complete, let_pass, new_job, new_scheduler, state_machine_settings

MODELS = ("m/one", "m/two")
ACCOUNTS = ("alice", "bob")
FUNDS = 1000
ENDS = ("complete", "retry", "fail", "release", "abandon", "late")

places = st.integers(0, 19)
accounts = st.sampled_from(ACCOUNTS)
shapes = st.fixed_dictionaries(
    {
        "model": st.sampled_from(MODELS),
        "lane": st.integers(1, 3),
        "price": st.sampled_from([0, 7, 130]),
        "deadline_s": st.sampled_from([None, 1000.0]),
    }
)


class LimitsMachine(RuleBasedStateMachine):
    """Alice has a balance, bob has none; both may have a cap."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        redis.flushall()
        self.redis = redis
        self.lossy = LossyRedis(redis)
        self.scheduler = new_scheduler(cast(Redis, self.lossy), max_attempts=2)
        self.limits = AccountLimits(cast(Redis, self.lossy))
        for account in ACCOUNTS:
            Accounts(redis).create_key(account)
        self.limits.set_balance("alice", FUNDS)
        self.funds = FUNDS
        self.caps: dict[str, int | None] = dict.fromkeys(ACCOUNTS)
        self.jobs: list[NewJob] = []
        self.leases: list[Lease] = []

    @rule(account=accounts, wanted=st.lists(shapes, min_size=1, max_size=4), lossy=st.booleans())
    def enqueue(self, account: str, wanted: list[dict[str, Any]], lossy: bool) -> None:
        self.lossy.losing = lossy
        new = [new_job(account, **shape) for shape in wanted]
        left = self.limits.balance(account).available
        prices = list(accumulate(job.price for job in new))
        room = len(new) if left is None else sum(price <= left for price in prices)
        if room < len(new):
            with pytest.raises(Refused) as refused:
                self.scheduler.enqueue(account, new)
            assert refused.value.code == "insufficient_credits"
        else:
            self.scheduler.enqueue(account, new)
        assert [bool(self.redis.exists(f"rm:job:{job.id}")) for job in new] == [at < room for at in range(len(new))]
        self.jobs += new[:room]

    @rule(account=accounts, cap=st.sampled_from([None, 0, 1, 2]), lossy=st.booleans())
    def change_the_cap(self, account: str, cap: int | None, lossy: bool) -> None:
        self.lossy.losing = lossy
        self.limits.set_max_running(account, cap)
        self.caps[account] = cap

    @rule(micros=st.integers(1, 500), lossy=st.booleans())
    def top_up(self, micros: int, lossy: bool) -> None:
        self.lossy.losing = lossy
        self.limits.top_up("alice", micros)
        self.funds += micros

    @rule(place=places)
    def cancel(self, place: int) -> None:
        if self.jobs:
            job = self.jobs[place % len(self.jobs)]
            self.scheduler.cancel(job.id, job.account)

    @rule(model=st.sampled_from(MODELS), limit=st.integers(1, 4), lossy=st.booleans())
    def claim(self, model: str, limit: int, lossy: bool) -> None:
        self.lossy.losing = lossy
        before = {account: self._count(account, JobStatus.RUNNING) for account in ACCOUNTS}
        free = [account for account in ACCOUNTS if self.caps[account] is None or before[account] < self.caps[account]]
        waiting = [account for account in free if self._waits(account, model)]
        claim = self.scheduler.claim(model, "w", max_images=limit)
        assert bool(claim.leases) == bool(waiting), "whoever is not at its cap is served, and nobody else"
        assert {lease.account for lease in claim.leases} <= set(waiting)
        for account in free:
            cap = self.caps[account]
            assert cap is None or self._count(account, JobStatus.RUNNING) <= cap
        self.leases += claim.leases

    @rule(place=places, end=st.sampled_from(ENDS), lossy=st.booleans())
    def end(self, place: int, end: str, lossy: bool) -> None:
        """Also by workers that lost their leases long ago."""
        if not self.leases:
            return
        self.lossy.losing = lossy
        lease = self.leases[place % len(self.leases)]
        match end:
            case "complete":
                complete(self.scheduler, lease)
            case "retry" | "fail":
                self.scheduler.fail(lease, "out_of_memory", "no room", retriable=end == "retry")
            case "release":
                self.scheduler.release(lease)
            case "abandon":
                self.scheduler.abandon(lease)
            case _:
                let_pass(self.redis, "leases", lease.id)
                self.scheduler.sweep()

    @rule(place=places, times=st.sampled_from(["delayed", "deadlines"]))
    def time_passes(self, place: int, times: str) -> None:
        if self.jobs:
            job = self.jobs[place % len(self.jobs)]
            if self.redis.zscore(f"rm:{times}", job.id) is not None:
                let_pass(self.redis, times, job.id)
            self.scheduler.sweep()

    @invariant()
    def no_credit_is_made_or_lost(self) -> None:
        balance = self.limits.balance("alice")
        assert balance.available is not None
        assert balance.available >= 0
        assert balance.available + balance.reserved + balance.charged == self.funds
        mine = [(job, self._status(job)) for job in self.jobs if job.account == "alice"]
        assert balance.reserved == sum(job.price for job, status in mine if not status.is_terminal)
        assert balance.charged == sum(job.price for job, status in mine if status is JobStatus.SUCCEEDED)
        for job, status in mine:
            shown = int(self.redis.hget(f"rm:job:{job.id}", "price") or 0)
            assert shown == (0 if status.is_terminal and status is not JobStatus.SUCCEEDED else job.price)

    @invariant()
    def who_need_not_pay_is_only_counted(self) -> None:
        balance = self.limits.balance("bob")
        mine = [job for job in self.jobs if job.account == "bob"]
        assert (balance.available, balance.reserved) == (None, 0)
        assert balance.charged == sum(job.price for job in mine if self._status(job) is JobStatus.SUCCEEDED)

    @invariant()
    def flows_wait_unless_their_account_has_its_jobs_running(self) -> None:
        for account in ACCOUNTS:
            cap = self.caps[account]
            held_back = cap is not None and self._count(account, JobStatus.RUNNING) >= cap
            for model in MODELS:
                seen = self.redis.zscore(f"rm:flows:{model}", f"{account}/normal") is not None
                assert seen == (self._waits(account, model) and not held_back)

    def teardown(self) -> None:
        """Whatever happened, everything can be finished once nobody is held back."""
        self.lossy.losing = False
        for account in ACCOUNTS:
            self.limits.set_max_running(account, None)
        for job in self.jobs:
            for times in ("leases", "delayed"):
                let_pass(self.redis, times, job.id)
        self.scheduler.sweep()
        for model in MODELS:
            while leases := self.scheduler.claim(model, "last", max_images=4).leases:
                assert all(complete(self.scheduler, lease) for lease in leases)
        assert all(self._status(job).is_terminal for job in self.jobs)
        assert self.limits.balance("alice").reserved == 0

    def _status(self, job: NewJob) -> JobStatus:
        return JobStatus(cast(str, self.redis.hget(f"rm:job:{job.id}", "status")))

    def _count(self, account: str, status: JobStatus) -> int:
        return cast(int, self.redis.zcard(f"rm:jobs:{account}:{status}"))

    def _waits(self, account: str, model: str) -> bool:
        return bool(self.redis.exists(f"rm:lanes:{model}:{account}/normal"))


def test_no_interleaving_makes_or_loses_a_credit_or_passes_a_cap(redis: Redis) -> None:
    run_state_machine_as_test(
        lambda: LimitsMachine(redis),
        settings=state_machine_settings(redis, steps=40),
    )
