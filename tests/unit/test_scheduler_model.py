"""The scheduler against a model of it: random interleavings of everything that can happen to jobs.

The model is told what each verb did and knows what every record, index and counter must hold afterwards; all of
Redis is compared with it after every step. It does not predict which jobs a claim takes (test_fairness.py judges
that), only that it may take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from shared.answers import Claim, Progress, Renewal
from shared.errors import RendermillError
from shared.jobs import JobStatus, Lease, NewJob, Priority, Stage
from shared.redis_client import Script
from shared.scheduler import Scheduler
from tests.scheduler_model import MAX_ATTEMPTS, Known, State, assert_batch, assert_same
from tests.scheduling import (
    LossyRedis,
    complete,
    let_pass,
    new_job,
    new_scheduler,
    state_machine_settings,
    status_of,
)

MODELS = ("m/one", "m/two")
ACCOUNTS = ("alice", "bob", "carol")
IDEMPOTENCY_KEYS = ("k1", "k2")
#: How a worker ends an attempt; to `retry` is a failure that a retry can mend.
ENDS = ("complete", "retry", "fail", "release", "abandon")
HOOK = "https://example.test/hook"

limits = st.integers(1, 6)
#: What becomes of each job of a claim at once: whether its owner calls it off, and how its attempt goes on.
Fate = tuple[bool, str]
fates = st.lists(st.tuples(st.booleans(), st.sampled_from(["keep", "die", *ENDS])), min_size=2, max_size=6)
#: Where in a list; the least is the first.
places = st.integers(0, 19)
#: Mostly one model, so that claims find something.
models = st.sampled_from([MODELS[0], MODELS[0], MODELS[0], MODELS[1]])
#: The models that a worker serves, the one it prefers first.
orders = st.sampled_from([MODELS[:1], MODELS[:1], MODELS, MODELS[::-1]])
shapes = st.fixed_dictionaries(
    {
        "lane": st.integers(1, 2),
        "n": st.integers(1, 3),
        "priority": st.sampled_from(Priority),
        "deadline_s": st.sampled_from([None, 1000.0]),
        "webhook_url": st.sampled_from([None, HOOK]),
        # Thirds of a second, so that sums of costs are never exact in binary.
        "image_cost": st.sampled_from([1 / 3, 0.1, 7.7]),
    }
)


class SchedulerMachine(RuleBasedStateMachine):
    """Drives a scheduler and the model side by side. Workers are the leases they hold: a crash is forgetting one."""

    jobs = Bundle("jobs")

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        redis.flushall()
        self.redis = redis
        self.lossy = LossyRedis(redis)
        self.scheduler: Scheduler = new_scheduler(cast(Redis, self.lossy), max_attempts=MAX_ATTEMPTS)
        self.forget_script = Script(redis, "forget")
        self.known: dict[str, Known] = {}
        #: Every lease there was, the newest first: the dead ones still try to write.
        self.leases: list[Lease] = []
        self.keys: dict[tuple[str, str], tuple[str, str]] = {}

    @initialize(
        target=jobs,
        wanted=st.lists(st.tuples(st.sampled_from(ACCOUNTS), shapes), min_size=6, max_size=12),
    )
    def fill_the_queue(self, wanted: list[tuple[str, dict[str, Any]]]) -> Any:
        return multiple(*(id_ for account, shape in wanted for id_ in self._enqueue(account, MODELS[0], [shape])))

    # ── What clients do ──

    @rule(
        target=jobs,
        account=st.sampled_from(ACCOUNTS),
        model=models,
        wanted=st.lists(shapes, min_size=1, max_size=4),
        lossy=st.booleans(),
    )
    def enqueue(self, account: str, model: str, wanted: list[dict[str, Any]], lossy: bool) -> Any:
        self.lossy.losing = lossy
        return multiple(*self._enqueue(account, model, wanted))

    def _enqueue(self, account: str, model: str, wanted: list[dict[str, Any]]) -> list[str]:
        new = [new_job(account, model=model, **shape) for shape in wanted]
        self.scheduler.enqueue(account, new)
        for job in new:
            self._accepted(job)
        return [job.id for job in new]

    @rule(
        target=jobs,
        account=st.sampled_from(ACCOUNTS),
        shape=shapes,
        key=st.sampled_from(IDEMPOTENCY_KEYS),
        fingerprint=st.sampled_from(["f1", "f2"]),
        lossy=st.booleans(),
    )
    def enqueue_once(self, account: str, shape: dict[str, Any], key: str, fingerprint: str, lossy: bool) -> Any:
        job = new_job(account, model=MODELS[0], **shape)
        self.lossy.losing = lossy
        first = self.keys.get((account, key))
        if first and first[0] != fingerprint:
            with pytest.raises(RendermillError) as refused:
                self.scheduler.accept(job, key=key, fingerprint=fingerprint, remember_s=3600)
            assert refused.value.code == "idempotency_mismatch"
            return multiple()
        made = self.scheduler.accept(job, key=key, fingerprint=fingerprint, remember_s=3600)
        if first:
            assert (made.id, made.replayed) == (first[1], True)
            return multiple()
        assert (made.id, made.replayed) == (job.id, False)
        self.keys[account, key] = (fingerprint, job.id)
        self._accepted(job)
        return job.id

    def _accepted(self, job: NewJob) -> None:
        self.known[job.id] = Known(job, int(self.redis.hget(f"rm:job:{job.id}", "seq") or -1))

    @rule(job_id=jobs, own=st.booleans(), lossy=st.booleans())
    def cancel(self, job_id: str, own: bool, lossy: bool) -> None:
        known = self.known.get(job_id)
        self.lossy.losing = lossy
        if known is None or not own:
            account = known.job.account + "-other" if known else "alice"
            with pytest.raises(RendermillError) as refused:
                self.scheduler.cancel(job_id, account)
            assert refused.value.code == "not_found"
            return
        if known.status is JobStatus.QUEUED:
            known.become(JobStatus.CANCELED)
        elif known.status is JobStatus.RUNNING:
            known.cancel = True
        assert self.scheduler.cancel(job_id, known.job.account).status is known.status

    @rule(job_id=jobs, workers=st.integers(0, 3))
    def look_at_position(self, job_id: str, workers: int) -> None:
        known = self.known.get(job_id)
        position = self.scheduler.position(job_id, workers)
        if known is None or not known.in_queue:
            assert position is None
            return
        assert position is not None
        waiting = [other for other in self.known.values() if other.in_queue and other.model == known.model]
        own_before = [other for other in waiting if other.flow == known.flow and other.seq < known.seq]
        assert len(own_before) <= position.ahead < len(waiting)
        assert position.eta_s is None or position.eta_s >= 0

    # ── What workers do ──

    # Three rules, for what follows a claim is what there is to see, and Hypothesis takes each rule as often as another.
    @rule(order=orders, limit=limits, fates=fates, lossy=st.booleans())
    def first_worker_claims(self, order: Sequence[str], limit: int, fates: list[Fate], lossy: bool) -> None:
        self._claim(order, "w1", limit, fates, lossy)

    @rule(order=orders, limit=limits, fates=fates, lossy=st.booleans())
    def second_worker_claims(self, order: Sequence[str], limit: int, fates: list[Fate], lossy: bool) -> None:
        self._claim(order, "w2", limit, fates, lossy)

    @rule(limit=limits, fates=fates)
    def both_workers_claim(self, limit: int, fates: list[Fate]) -> None:
        self._claim(MODELS[:1], "w1", limit, fates, lossy=False)
        self._claim(MODELS[:1], "w2", limit, fates[::-1], lossy=False)

    @precondition(lambda self: self.leases)
    @rule(which=places, room=limits, fates=fates, lossy=st.booleans())
    def batch_is_joined(self, which: int, room: int, fates: list[Fate], lossy: bool) -> None:
        """Whether its worker still renders it is nothing that the scheduler knows."""
        batch = self.leases[which % len(self.leases)].request
        self.lossy.losing = lossy
        claim = self.scheduler.join(batch.model, batch.lane, "w1", room=room, others=MODELS)
        self._claimed(claim, [batch.model, *MODELS], room, fates, lossy)
        assert all(lease.request.lane == batch.lane and lease.request.n <= room for lease in claim.leases)

    def _claim(self, order: Sequence[str], worker: str, limit: int, fates: list[Fate], lossy: bool) -> None:
        self.lossy.losing = lossy
        claim = self.scheduler.claim_first(dict.fromkeys(order, limit), worker)
        self._claimed(claim, order, limit, fates, lossy)
        passed_over = order[: order.index(claim.model)] if claim.leases else order
        assert not any(known.in_queue and not known.late for known in self.known.values() if known.model in passed_over)

    def _claimed(self, claim: Claim, order: Sequence[str], limit: int, fates: list[Fate], lossy: bool) -> None:
        for late in [known for known in self.known.values() if known.late and known.in_queue]:
            # A claim ends those that it meets; this one may have met it.
            if self.redis.hget(f"rm:job:{late.job.id}", "status") == "expired":
                assert late.model in order
                late.become(JobStatus.EXPIRED)
        waiting = [known for known in self.known.values() if known.in_queue and known.model in order]
        claimable = [known for known in waiting if known.model == claim.model]
        taken = [self.known[lease.id] for lease in claim.leases]
        assert len(taken) == len({lease.id for lease in claim.leases})
        assert claim.queued == len(claimable) - len(taken)
        assert claim.elsewhere is (len(waiting) > len(claimable))
        if not taken:
            return
        assert claim.room <= max(0, limit - sum(known.job.request.n for known in taken))
        assert_batch(taken, claimable, limit)
        for known, lease in zip(taken, claim.leases, strict=True):
            known.become(JobStatus.RUNNING)
            known.attempt += 1
            assert lease.attempt == known.attempt, "attempt numbers rise by one"
            assert lease.request == known.job.request
            assert lease.account == known.job.account
        self.leases = claim.leases + self.leases
        for lease, (called_off, end) in zip(claim.leases, fates, strict=False):
            if called_off:
                self.cancel(lease.id, own=True, lossy=lossy)
            if end == "die":
                self._lose([lease])
            elif end != "keep":
                self._end(lease, end, lossy)

    @precondition(lambda self: self.leases)
    @rule(first=places, lossy=st.booleans())
    def renew(self, first: int, lossy: bool) -> None:
        held = self.leases[first % len(self.leases) :][:4]
        self.lossy.losing = lossy
        answers = self.scheduler.renew({lease: Progress(Stage.RENDERING, 0.5) for lease in held})
        for lease in held:
            known = self.known.get(lease.id)
            if known is None or not known.holds(lease):
                assert answers[lease] is Renewal.LOST
            else:
                assert answers[lease] is (Renewal.CANCELED if known.cancel else Renewal.HELD)

    @precondition(lambda self: self.leases)
    @rule(place=places, end=st.sampled_from(ENDS), lossy=st.booleans())
    def end_attempt(self, place: int, end: str, lossy: bool) -> None:
        self._end(self.leases[place % len(self.leases)], end, lossy)

    def _end(self, lease: Lease, end: str, lossy: bool) -> None:
        known = self.known.get(lease.id)
        self.lossy.losing = lossy
        if known is not None and known.holds(lease):
            # Where the first reply is lost, the repeated call hears of a lease that is over, but for `complete`.
            self._end_live(known, lease, end, heard=not lossy)
        elif end == "complete":
            # A repeated call is told what the first one was told.
            won = known is not None and known.status is JobStatus.SUCCEEDED and known.attempt == lease.attempt
            assert complete(self.scheduler, lease) is won
        elif end == "release":
            assert not self.scheduler.release(lease)
        elif end == "abandon":
            assert not self.scheduler.abandon(lease)
        else:
            assert self.scheduler.fail(lease, "out_of_memory", "full", retriable=end == "retry") is None

    def _end_live(self, known: Known, lease: Lease, end: str, *, heard: bool) -> None:
        match end:
            case "complete":
                done = complete(self.scheduler, lease)
                known.end_attempt(JobStatus.SUCCEEDED)
                assert done is (known.status is JobStatus.SUCCEEDED)
            case "release":
                assert bool(self.scheduler.release(lease)) is heard
                known.releases += not known.cancel
                known.end_attempt(JobStatus.QUEUED)
            case "abandon":
                assert bool(self.scheduler.abandon(lease)) is (heard and known.cancel)
                if known.cancel:
                    known.become(JobStatus.CANCELED)
            case _:
                aftermath = self.scheduler.fail(lease, "out_of_memory", 'no "memory"', retriable=end == "retry")
                if known.cancel:
                    known.become(JobStatus.CANCELED)
                elif end == "retry" and known.may_try_again():
                    known.become(JobStatus.QUEUED, delayed=True)
                else:
                    known.become(JobStatus.FAILED)
                assert status_of(aftermath) is (known.status if heard else None)

    @precondition(lambda self: any(known.attempt > 1 and not known.in_queue for known in self.known.values()))
    @rule(data=st.data(), lossy=st.booleans())
    def zombie_wakes_up(self, data: st.DataObject, lossy: bool) -> None:
        # The worker of an attempt before the last one: whatever it writes changes nothing, as the invariant checks.
        known = data.draw(st.sampled_from([k for k in self.known.values() if k.attempt > 1 and not k.in_queue]))
        zombie = Lease(
            id=known.job.id,
            attempt=data.draw(st.integers(1, known.attempt - 1)),
            account=known.job.account,
            name=None,
            request=known.job.request,
            cost=known.job.cost,
            queued_s=0,
        )
        self.lossy.losing = lossy
        assert self.scheduler.renew({zombie: Progress(Stage.RENDERING, 0.9)}) == {zombie: Renewal.LOST}
        assert self.scheduler.fail(zombie, "render_failed", "too late", retriable=False) is None
        assert not self.scheduler.release(zombie)
        assert not self.scheduler.abandon(zombie)
        assert not complete(self.scheduler, zombie)

    # ── What time does ──

    @precondition(lambda self: self.leases)
    @rule(first=places)
    def workers_die(self, first: int) -> None:
        self._lose(self.leases[first % len(self.leases) :][:2])

    def _lose(self, lost: list[Lease]) -> None:
        ended = [self.known[lease.id] for lease in lost if lease.id in self.known and self.known[lease.id].holds(lease)]
        for known in ended:
            let_pass(self.redis, "leases", known.job.id)
        self.lossy.losing = False
        assert self.scheduler.sweep().leases_ended == len(ended)
        for known in ended:
            known.end_attempt(JobStatus.QUEUED if known.may_try_again() else JobStatus.FAILED)
        self._swept()

    @rule(job_id=jobs)
    def deadline_passes(self, job_id: str) -> None:
        known = self.known.get(job_id)
        if known is not None and known.has_deadline:
            let_pass(self.redis, "deadlines", job_id)
            known.late = True

    @rule(retries_are_due=st.booleans())
    def sweep(self, retries_are_due: bool) -> None:
        late = sum(known.late for known in self.known.values())
        due = [known for known in self.known.values() if known.delayed and retries_are_due]
        for known in due:
            let_pass(self.redis, "delayed", known.job.id)
            known.delayed = False
        self.lossy.losing = False
        swept = self.scheduler.sweep()
        assert (swept.leases_ended, swept.retries, swept.expired) == (0, len(due), late)
        self._swept()

    def _swept(self) -> None:
        for known in self.known.values():
            if known.late:
                known.become(JobStatus.EXPIRED)

    @rule(job_id=jobs)
    def retention_ends(self, job_id: str) -> None:
        known = self.known.get(job_id)
        forgotten = self.forget_script(job_id, 3600)
        assert bool(forgotten) is (known is not None and known.status.is_terminal)
        if forgotten:
            del self.known[job_id]

    # ── What must hold after every step ──

    @invariant()
    def redis_holds_what_the_model_knows(self) -> None:
        self.lossy.losing = False
        assert_same(self.redis, self.known)

    def teardown(self) -> None:
        """Whatever happened, everything can be finished, and nothing of the queues is left then."""
        for known in self.known.values():
            if known.delayed:
                let_pass(self.redis, "delayed", known.job.id)
            elif known.status is JobStatus.RUNNING:
                let_pass(self.redis, "leases", known.job.id)
        self.scheduler.sweep()
        for model in MODELS:
            while leases := self.scheduler.claim(model, "last", max_images=4).leases:
                assert all(complete(self.scheduler, lease) for lease in leases)
        state = State(self.redis)
        assert all(JobStatus(record["status"]).is_terminal for record in state.kind("job").values())
        assert not state.kinds.keys() & {"queue", "lanes", "lane", "flows", "leases", "delayed", "deadlines"}


def test_no_interleaving_loses_a_job_or_finishes_it_twice(redis: Redis) -> None:
    run_state_machine_as_test(
        lambda: SchedulerMachine(redis),
        settings=state_machine_settings(redis, steps=50),
    )
