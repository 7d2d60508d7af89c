"""A model of the scheduler: what is known of each job, and what all of Redis must hold then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from shared.jobs import TRANSITIONS, WEBHOOK_EVENTS, JobStatus, Lease, NewJob

#: How often the model's scheduler tries a job.
MAX_ATTEMPTS = 2


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
    def model(self) -> str:
        return self.job.request.model

    @property
    def flow(self) -> str:
        return f"{self.job.account}/{self.job.priority}"

    @property
    def queue(self) -> str:
        return f"{self.model}:{self.flow}:{self.job.request.lane}"

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


def assert_same(redis: Redis, known: Mapping[str, Known]) -> None:
    """Compare everything in Redis with what is known of the jobs, by their ids."""
    state = State(redis)
    assert state.kind("job").keys() == known.keys()
    assert state.kind("spec").keys() == known.keys()
    everything = known.values()
    _check_records(state, everything)
    _check_indexes(state, everything)
    _check_fair_queue(state, everything)
    _check_ends(state, everything)


def assert_batch(taken: Sequence[Known], claimable: Collection[Known], limit: int) -> None:
    """Check that a claim may have taken these of the jobs that could be claimed; the first of them leads."""
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


def _check_records(state: State, everything: Collection[Known]) -> None:
    for known in everything:
        record = state.get("job", known.job.id)
        assert record["status"] == known.status
        assert int(record.get("attempt", 0)) == known.attempt
        assert int(record.get("releases", 0)) == known.releases
        assert (record["stage"] == "retrying") is known.delayed
        assert ("deadline" in record) is known.has_deadline
        assert ("worker" in record) is (known.status is JobStatus.RUNNING)


def _check_indexes(state: State, everything: Collection[Known]) -> None:
    by_status: dict[str, dict[str, float]] = defaultdict(dict)
    for known in everything:
        by_status[f"{known.job.account}:{known.status}"][known.job.id] = float(known.seq)
    assert state.kind("jobs") == by_status
    assert state.get("leases").keys() == {k.job.id for k in everything if k.status is JobStatus.RUNNING}
    assert state.get("delayed").keys() == {k.job.id for k in everything if k.delayed}
    assert state.get("deadlines").keys() == {k.job.id for k in everything if k.has_deadline}
    assert state.get("retained").keys() == {k.job.id for k in everything if k.status.is_terminal}


def _check_fair_queue(state: State, everything: Collection[Known]) -> None:
    queues: dict[str, dict[str, float]] = defaultdict(dict)
    lanes: dict[str, dict[str, float]] = defaultdict(dict)
    flows: dict[str, set[str]] = defaultdict(set)
    sharing: dict[str, set[str]] = defaultdict(set)
    for known in sorted((known for known in everything if known.in_queue), key=lambda known: known.seq):
        model, lane = known.model, known.job.request.lane
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
        mine = [known for known in everything if known.model == model]
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


def _check_ends(state: State, everything: Collection[Known]) -> None:
    hooked = {}
    for known in everything:
        events = state.get("events", known.job.id)
        if known.status.is_terminal:
            assert not events, "of its end the record tells, and nothing happens after it"
        attempts = [int(event["attempt"]) for event in events]
        assert attempts == sorted(attempts)
        if known.job.webhook_url and known.status.is_terminal:
            hooked[known.job.id] = WEBHOOK_EVENTS[known.status]
    kept = [delivery for delivery in state.kind("delivery").values() if delivery["job"] in state.kind("job")]
    assert sorted((delivery["job"], delivery["event"]) for delivery in kept) == sorted(hooked.items())


def _micros(known: Known) -> int:
    return round(float(f"{known.job.cost:.6g}") * 1e6)
