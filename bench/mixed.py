"""Jobs of several models and two accounts through one worker: what affinity saves, who waits, whether memory grows.

First with models that sleep, on a device that has room for one of them, beside the same worker without affinity. Then
with the tiny checkpoints of the four real models, through an embedded farm from HTTP to S3. All jobs come at once, so
that every model has work all through the run.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import psutil
from redis import Redis

from api.ticket_producer import ticket_producer
from bench.farm_throughput import embedded_farm
from bench.jobs import new_scheduler
from bench.measuring import Rounds, Row, Target
from bench.processes import wait_until
from bench.sdk_batch import pids
from bench.sizes import Sizes
from bench.synthetic_farm import sleeping_model, synthetic_farm
from bench.workloads import TINY
from client.client import Client
from shared.accounts import Accounts
from shared.catalog import catalog, load_catalog
from shared.ids import new_id
from shared.jobs import Job, NewJob
from shared.records import Records
from shared.redis_client import PREFIX, connect
from shared.requests import resolve
from shared.settings import Settings
from shared.tickets import Tickets
from worker.engine import tiny
from worker.turns import REPAID

_ACCOUNTS = ("anna", "bert")
_SLEEPING = ("sleeping-a", "sleeping-b", "sleeping-c")
#: Loading takes five times as long as a batch: that of a large checkpoint from disk, beside a distilled model's batch.
_LOAD_S, _BATCH_S = 1.0, 0.2
#: Bytes: the four tiny models weigh 34 MB together, and the largest two are not there at once.
_ROOM = 26_000_000
_TURN_S = min(Settings().affinity_s, REPAID * _LOAD_S)
#: Far more than a job takes.
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class _Run:
    """What came of all jobs of one run, in the order in which they were accepted."""

    jobs: Sequence[Job]

    @property
    def rate(self) -> float:
        """Jobs per second, from the acceptance of the first to the end of the last."""
        return len(self.jobs) / (max(job.finished_at or 0.0 for job in self.jobs) - self.jobs[0].created_at)

    @property
    def loads(self) -> int:
        """How often a model was loaded: the jobs of a batch, which begin together, share that."""
        return len({job.started_at for job in self.jobs if job.timings["load_s"] > 0})

    @property
    def longest_load_s(self) -> float:
        """The most that a batch waited for its model."""
        return max(job.timings["load_s"] for job in self.jobs)

    @property
    def longest_batch_s(self) -> float:
        """From the start of a batch to that of the next, at the most."""
        starts = sorted({job.started_at or 0.0 for job in self.jobs})
        return max(later - earlier for earlier, later in pairwise(starts))

    def longest_wait_s(self, kind: Callable[[Job], Hashable]) -> float:
        """The longest time in which no job of one kind was begun, although some waited, once all had come."""
        all_came = self.jobs[-1].created_at
        starts: dict[Hashable, list[float]] = defaultdict(lambda: [all_came])
        for job in self.jobs:
            starts[kind(job)].append(max(all_came, job.started_at or 0.0))
        return max(later - earlier for times in starts.values() for earlier, later in pairwise(sorted(times)))


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    return [*_swapping(sizes, scratch), *_real(sizes, scratch)]


def _model_of(job: Job) -> str:
    return job.request.model


def _lane_of(job: Job) -> tuple[str, str]:
    return job.request.model, job.request.lane


def _swapping(sizes: Sizes, scratch: Path) -> Iterator[Row]:
    with_affinity, without = (_through_sleeping(sizes, scratch, affinity_s) for affinity_s in (_TURN_S, 0.0))
    what, peer = f"{sizes.mixed:,} jobs of three models that sleep, one on the device", "without affinity"
    rates = Rounds([with_affinity.rate], [without.rate])
    yield Row(what, "jobs/s", peer, rates, Target(2, at_least=True))
    yield Row("the same: loads", "loads", peer, Rounds([with_affinity.loads], [without.loads]))
    # What worker/turns.py promises, on a machine that takes so long for a batch.
    bound_s = (len(_SLEEPING) - 1) * (_LOAD_S + _TURN_S + with_affinity.longest_batch_s)
    waits = Rounds([with_affinity.longest_wait_s(_model_of)], [bound_s])
    yield Row("the same: longest wait of a model", "s", "the bound", waits, Target(1, at_least=False))
    lanes = Rounds([with_affinity.longest_wait_s(_lane_of)], [without.longest_wait_s(_lane_of)])
    yield Row("the same: longest wait of a lane", "s", peer, lanes)


def _through_sleeping(sizes: Sizes, scratch: Path, affinity_s: float) -> _Run:
    """Through a worker of the sleeping models."""
    folder = scratch / f"affinity-{affinity_s:g}"
    folder.mkdir()
    (file := folder / "catalog.toml").write_text(
        "".join(sleeping_model(name, side=64, batch_s=_BATCH_S, load_s=_LOAD_S) for name in _SLEEPING)
    )
    models, chance = load_catalog(file), random.Random(1)
    jobs: list[NewJob] = []
    for seed in range(sizes.mixed):
        asked = {
            "model": chance.choice(_SLEEPING),
            "n": chance.choice((1, 1, 2, 4)),
            "num_steps": chance.choice((4, 8)),
        }
        request, _ = resolve(models, {**asked, "prompt": "a red fox", "seed": seed})
        cost = request.cost(models.models[request.model])
        jobs.append(NewJob(id=new_id("job"), account=_ACCOUNTS[seed % 2], request=request, cost=cost))
    settings = {"CATALOG": str(file), "AFFINITY_S": str(affinity_s)}
    with synthetic_farm(folder, ",".join(_SLEEPING), 1, settings) as farm:
        for account in _ACCOUNTS:
            new_scheduler(farm.broker.redis).enqueue(account, [job for job in jobs if job.account == account])
        tickets = Tickets(farm.broker.redis, ticket_producer(farm.broker.url))
        for name in _SLEEPING:
            tickets.wake_renderers(name, queued=len(jobs), workers=1)
        return _finished(farm.broker.redis, [job.id for job in jobs], lambda _: None)


def _real(sizes: Sizes, scratch: Path) -> Iterator[Row]:
    models = scratch / "models"
    tiny.build(models)
    memory: dict[int, float] = {}
    bodies = [workload.job(catalog()) for workload in TINY]
    settings = {"MODELS_DIR": str(models), "MODELS_OFFLINE": "1", "DEVICE_WEIGHTS": str(_ROOM)}
    with embedded_farm(settings) as farm:
        state = farm.data_dir.running()
        assert state is not None
        worker = psutil.Process(pids(farm)["render"])

        def look(finished: int) -> None:
            for share in (10, 50, 100):
                if finished * 100 >= share * sizes.mixed:
                    memory.setdefault(share, worker.memory_info().rss / 2**20)

        with connect(state.redis_url) as redis:
            run = _finished(redis, list(_submit(farm.url, redis, bodies, sizes.mixed)), look)
    what = f"{sizes.mixed:,} jobs of the four tiny models, room for some of them"
    yield Row(f"{what}: worker's memory at half", "MB", "at a tenth", Rounds([memory[50]], [memory[10]]))
    # It grows until each model's batches have been as large as they get. After that only a leak would make it grow; but
    # what batches in the making take comes and goes, a tenth of it all.
    grown = Rounds([memory[100]], [memory[50]])
    yield Row("the same at the end", "MB", "at half", grown, Target(1.1, at_least=False))
    # What worker/turns.py promises, with loads and batches as long as they were. A load is a part of its batch's time.
    bound_s = len(bodies) * run.longest_batch_s + (len(bodies) - 1) * REPAID * run.longest_load_s
    waits = Rounds([run.longest_wait_s(_model_of)], [bound_s])
    yield Row("the same: longest wait of a model", "s", "the bound", waits, Target(1, at_least=False))


def _submit(url: str, redis: Redis, bodies: Sequence[Mapping[str, object]], count: int) -> Iterator[str]:
    """Hand in jobs of two accounts, whose models and numbers of images are mixed; their ids."""
    chance = random.Random(1)
    keys = [Accounts(redis).create_key(account) for account in _ACCOUNTS]
    with Client(url, keys[0]) as anna, Client(url, keys[1]) as bert:
        for seed in range(count):
            own = {"prompt": f"a red fox, number {seed}", "seed": seed, "n": chance.choice((1, 1, 2))}
            yield (anna, bert)[seed % 2].submit({**chance.choice(bodies), **own}).id


def _finished(redis: Redis, ids: Sequence[str], look: Callable[[int], None]) -> _Run:
    """The jobs once they have all succeeded; `look` is told now and then how many have."""

    def all_have() -> bool:
        ended = cast(dict[str, str], redis.hgetall(f"{PREFIX}finished"))
        look(sum(map(int, ended.values())))
        return sum(map(int, ended.values())) >= len(ids)

    wait_until(all_have, "the end of all jobs", 60 + _PATIENCE_S * len(ids))
    jobs = [job for job in Records(redis).read(ids) if job is not None]
    if failed := [job for job in jobs if job.status != "succeeded"]:
        raise RuntimeError(f"{len(failed)} of {len(jobs)} jobs did not succeed; the first: {failed[0].error}")
    return _Run(jobs)
