"""The scheduler against a model of it: random interleavings of everything that can happen to jobs.

The model is told what each verb did and knows what every record, index and counter must hold afterwards; all of
Redis is compared with it after every step. It does not predict which jobs a claim takes (test_fairness.py judges
that), only that it may take them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import settings
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

from shared.errors import RendermillError
from shared.jobs import TRANSITIONS, WEBHOOK_EVENTS, JobStatus, Lease, NewJob, Priority, Stage
from shared.redis_client import Script
from shared.scheduler import Progress, Renewal, Scheduler
from tests.scheduling import EFFORT, LossyRedis, complete, let_pass, new_job, new_scheduler

MODELS = ("m/one", "m/two")
ACCOUNTS = ("alice", "bob", "carol")
IDEMPOTENCY_KEYS = ("k1", "k2")
MAX_ATTEMPTS = 2
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


@dataclass
class Known:
    """What the model knows of a job. Its place follows from `status` and `stage_retrying`."""

    job: NewJob
    seq: int
    status: JobStatus = JobStatus.QUEUED
    delayed: bool = False
    attempt: int = 0
    releases: int = 0
    cancel: bool = False
    #: Its deadline has passed, which nobody has noticed yet.
    late: bool = False

    @property
    def flow(self) -> str:
        return f"{self.job.account}/{self.job.priority}"

    @property
    def queue(self) -> str:
        return f"{self.job.request.model}:{self.flow}:{self.job.request.lane}"

    @property
    def in_queue(self) -> bool:
        return self.status is JobStatus.QUEUED and not self.delayed

    @property
    def has_deadline(self) -> bool:
        return self.job.deadline_s is not None and self.attempt == 0 and not self.status.is_terminal

    def holds(self, lease: Lease) -> bool:
        return self.status is JobStatus.RUNNING and self.attempt == lease.attempt

    def become(self, status: JobStatus, *, delayed: bool = False) -> None:
        assert status in TRANSITIONS[self.status], f"{self.job.id}: {self.status} → {status}"
        self.status, self.delayed, self.late = status, delayed, False

    def end_attempt(self, otherwise: JobStatus) -> None:
        """The attempt ended: `otherwise`, unless the job was called off meanwhile."""
        self.become(JobStatus.CANCELED if self.cancel else otherwise)

    def may_try_again(self) -> bool:
        return self.attempt - self.releases < MAX_ATTEMPTS


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
                self.scheduler.enqueue_once(job, key=key, fingerprint=fingerprint, remember_s=3600)
            assert refused.value.code == "idempotency_mismatch"
            return multiple()
        made = self.scheduler.enqueue_once(job, key=key, fingerprint=fingerprint, remember_s=3600)
        if first:
            assert made == first[1]
            return multiple()
        assert made == job.id
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
        assert self.scheduler.cancel(job_id, known.job.account) is known.status

    @rule(job_id=jobs, workers=st.integers(0, 3))
    def look_at_position(self, job_id: str, workers: int) -> None:
        known = self.known.get(job_id)
        position = self.scheduler.position(job_id, workers)
        if known is None or not known.in_queue:
            assert position is None
            return
        assert position is not None
        waiting = [other for other in self.known.values() if other.in_queue and _model(other) == _model(known)]
        own_before = [other for other in waiting if other.flow == known.flow and other.seq < known.seq]
        assert len(own_before) <= position.ahead < len(waiting)
        assert position.eta_s >= 0

    # ── What workers do ──

    # Three rules, for what follows a claim is what there is to see, and Hypothesis takes each rule as often as another.
    @rule(model=models, limit=limits, fates=fates, lossy=st.booleans())
    def first_worker_claims(self, model: str, limit: int, fates: list[Fate], lossy: bool) -> None:
        self._claim(model, "w1", limit, fates, lossy)

    @rule(model=models, limit=limits, fates=fates, lossy=st.booleans())
    def second_worker_claims(self, model: str, limit: int, fates: list[Fate], lossy: bool) -> None:
        self._claim(model, "w2", limit, fates, lossy)

    @rule(limit=limits, fates=fates)
    def both_workers_claim(self, limit: int, fates: list[Fate]) -> None:
        self._claim(MODELS[0], "w1", limit, fates, lossy=False)
        self._claim(MODELS[0], "w2", limit, fates[::-1], lossy=False)

    def _claim(self, model: str, worker: str, limit: int, fates: list[Fate], lossy: bool) -> None:
        self.lossy.losing = lossy
        claim = self.scheduler.claim(model, worker, max_images=limit)
        for late in [known for known in self.known.values() if known.late and known.in_queue]:
            # A claim ends those that it meets; this one may have met it.
            if self.redis.hget(f"rm:job:{late.job.id}", "status") == "expired":
                assert _model(late) == model
                late.become(JobStatus.EXPIRED)
        claimable = [known for known in self.known.values() if known.in_queue and _model(known) == model]
        taken = [self.known[lease.id] for lease in claim.leases]
        assert len(taken) == len({lease.id for lease in claim.leases})
        assert claim.queued == len(claimable) - len(taken)
        if not taken:
            assert all(known.late for known in claimable)
            return
        self._check_batch(taken, claimable, limit)
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

    def _check_batch(self, taken: Sequence[Known], claimable: Sequence[Known], limit: int) -> None:
        assert all(known in claimable and not known.late for known in taken)
        assert len({known.job.request.lane for known in taken}) == 1
        assert len(taken) == 1 or sum(known.job.request.n for known in taken) <= limit
        leader = taken[0]
        assert leader.seq == min(known.seq for known in claimable if known.flow == leader.flow)
        for queue in {known.queue for known in taken}:
            before = [known.seq for known in claimable if known.queue == queue]
            assert [known.seq for known in taken if known.queue == queue] == sorted(before)[
                : sum(known.queue == queue for known in taken)
            ], "within a flow and lane, jobs are taken in the order of acceptance"

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
                assert self.scheduler.release(lease) is heard
                known.releases += not known.cancel
                known.end_attempt(JobStatus.QUEUED)
            case "abandon":
                assert self.scheduler.abandon(lease) is (heard and known.cancel)
                if known.cancel:
                    known.become(JobStatus.CANCELED)
            case _:
                status = self.scheduler.fail(lease, "out_of_memory", 'no "memory"', retriable=end == "retry")
                if known.cancel:
                    known.become(JobStatus.CANCELED)
                elif end == "retry" and known.may_try_again():
                    known.become(JobStatus.QUEUED, delayed=True)
                else:
                    known.become(JobStatus.FAILED)
                assert status is (known.status if heard else None)

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
        state = State(self.redis)
        everything = list(self.known.values())
        self._check_records(state, everything)
        self._check_indexes(state, everything)
        self._check_fair_queue(state, everything)
        self._check_ends(state, everything)

    def _check_records(self, state: State, everything: list[Known]) -> None:
        assert state.kind("job").keys() == self.known.keys()
        assert state.kind("spec").keys() == self.known.keys()
        for known in everything:
            record = state.get("job", known.job.id)
            assert record["status"] == known.status
            assert int(record.get("attempt", 0)) == known.attempt
            assert int(record.get("releases", 0)) == known.releases
            assert (record["stage"] == "retrying") is known.delayed
            assert ("deadline" in record) is known.has_deadline
            assert ("worker" in record) is (known.status is JobStatus.RUNNING)

    def _check_indexes(self, state: State, everything: list[Known]) -> None:
        by_status = defaultdict(dict)
        for known in everything:
            by_status[f"{known.job.account}:{known.status}"][known.job.id] = float(known.seq)
        assert state.kind("jobs") == by_status
        assert state.get("leases").keys() == {k.job.id for k in everything if k.status is JobStatus.RUNNING}
        assert state.get("delayed").keys() == {k.job.id for k in everything if k.delayed}
        assert state.get("deadlines").keys() == {k.job.id for k in everything if k.has_deadline}
        assert state.get("retained").keys() == {k.job.id for k in everything if k.status.is_terminal}

    def _check_fair_queue(self, state: State, everything: list[Known]) -> None:
        queues: dict[str, dict[str, float]] = defaultdict(dict)
        lanes: dict[str, dict[str, float]] = defaultdict(dict)
        flows: dict[str, set[str]] = defaultdict(set)
        sharing: dict[str, set[str]] = defaultdict(set)
        for known in sorted((known for known in everything if known.in_queue), key=lambda known: known.seq):
            model, lane = _model(known), known.job.request.lane
            queues[known.queue][known.job.id] = float(known.seq)
            lanes[f"{model}:{known.flow}"].setdefault(lane, float(known.seq))
            flows[model].add(known.flow)
            sharing[f"{model}:{lane}"].add(known.flow)
        assert state.kind("queue") == queues
        assert state.kind("lanes") == lanes
        assert {model: set(tags) for model, tags in state.kind("flows").items()} == flows
        assert {lane: set(tags) for lane, tags in state.kind("lane").items()} == sharing
        for model in state.get("models"):
            counters = state.get("model", model)
            mine = [known for known in everything if _model(known) == model]
            waiting = [known for known in mine if known.in_queue]
            assert int(counters.get("queued", 0)) == len(waiting)
            assert int(counters.get("running", 0)) == sum(known.status is JobStatus.RUNNING for known in mine)
            assert int(counters.get("delayed", 0)) == sum(known.delayed for known in mine)
            assert int(counters.get("queued_cost", 0)) == sum(_micros(known) for known in waiting)
            virtual_time = float(counters.get("virtual_time", 0))
            tags = state.get("flows", model)
            assert all(tag >= virtual_time for tag in tags.values()), "virtual time never passes a flow that waits"
            assert all(tag > virtual_time for tag in state.get("finish", model).values()), "what is past is forgotten"
            for lane in (lane for lane in state.kind("lane") if lane.startswith(f"{model}:")):
                assert all(lagging <= tags[flow] for flow, lagging in state.get("lane", lane).items())

    def _check_ends(self, state: State, everything: list[Known]) -> None:
        hooked = {}
        for known in everything:
            events = state.get("events", known.job.id)
            ends = [event["status"] for event in events if JobStatus(event["status"]).is_terminal]
            assert ends == ([known.status] if known.status.is_terminal else [])
            if known.status.is_terminal:
                assert events[-1]["status"] == known.status, "nothing happens after the end"
            attempts = [int(event["attempt"]) for event in events]
            assert attempts == sorted(attempts)
            if known.job.webhook_url and known.status.is_terminal:
                hooked[known.job.id] = WEBHOOK_EVENTS[known.status]
        kept = [delivery for delivery in state.kind("delivery").values() if delivery["job"] in self.known]
        assert sorted((delivery["job"], delivery["event"]) for delivery in kept) == sorted(hooked.items())

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


class State:
    """Everything in a Redis, by kind of key, read in two round trips."""

    def __init__(self, redis: Redis) -> None:
        names = sorted(cast(list[str], redis.keys("rm:*")))
        pipeline = redis.pipeline(transaction=False)
        for name in names:
            pipeline.type(name)
        types = pipeline.execute()
        for name, type_ in zip(names, types, strict=True):
            match type_:
                case "hash":
                    pipeline.hgetall(name)
                case "zset":
                    pipeline.zrange(name, 0, -1, withscores=True)
                case "set":
                    pipeline.smembers(name)
                case "stream":
                    pipeline.xrange(name)
                case "list":
                    pipeline.lrange(name, 0, -1)
                case _:
                    pipeline.get(name)
        self.kinds: dict[str, dict[str, Any]] = defaultdict(dict)
        for name, type_, value in zip(names, types, pipeline.execute(), strict=True):
            _, kind, *rest = name.split(":", 2)
            if type_ == "zset":
                value = dict(value)
            elif type_ == "stream":
                value = [fields for _, fields in value]
            self.kinds[kind]["".join(rest)] = value

    def kind(self, kind: str) -> dict[str, Any]:
        """The keys of a kind, by what follows it in their names."""
        return self.kinds.get(kind, {})

    def get(self, kind: str, rest: str = "") -> Any:
        return self.kind(kind).get(rest, {})


def _model(known: Known) -> str:
    return known.job.request.model


def _micros(known: Known) -> int:
    return round(float(f"{known.job.cost:.6g}") * 1e6)


def test_no_interleaving_loses_a_job_or_finishes_it_twice(redis: Redis) -> None:
    run_state_machine_as_test(
        lambda: SchedulerMachine(redis),
        # On two slow cores a step takes about 5 ms on fakeredis, half of it for the comparison.
        settings=settings(max_examples=60 * EFFORT, stateful_step_count=50, deadline=None, derandomize=EFFORT == 1),
    )
