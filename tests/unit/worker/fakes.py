"""An engine without a model, a storage without a server, and a render worker made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import PIL.Image
from redis import Redis

from shared.catalog import load_catalog
from shared.jobs import Job, JobStatus, NewJob
from shared.models import Model
from shared.records import Records
from shared.scheduler import Scheduler
from shared.settings import Settings
from shared.storage import ObjectMissing, Storage, StorageError
from shared.waking import build_waker
from tests.scheduling import MODEL, new_scheduler
from worker.engine import Item, Rendered
from worker.engines import RenderEngine
from worker.leases import LeaseKeeper
from worker.litter import Litter
from worker.outcomes import Outcomes
from worker.render import Renderer
from worker.storing import Store
from worker.turns import Turns

STEPS = 4
PROVENANCE = {"revisions": {}, "device": "fake", "dtype": "float32", "versions": {}}
BATCH_LIMIT = 4
_SOME_MODEL = next(iter(load_catalog(Settings().catalog_path).models.values()))


def fake_model(model_id: str = MODEL, *, linger_s: float = 0.0) -> Model:
    return replace(_SOME_MODEL, id=model_id, aliases=(), batch_limit=BATCH_LIMIT, linger_s=linger_s)


class FakeEngine:
    """Makes one grey picture an item, in `STEPS` steps. `at_step` runs before each is reported.

    Its device has room for so many models.
    """

    device_name = "fake"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.room = 1
        self.load_s = 1.0
        self.loads: list[str] = []
        self.poison: dict[str, Exception] = {}
        self.at_step: Callable[[int], object] = lambda _: None
        self.steps_made = 0
        self.device_lost = False
        self.resident: list[str] = []

    def render(self, model: Model, items: Sequence[Item], on_step: Callable[[int, int], bool]) -> Rendered:
        load_s = self._load(model.id)
        self.batches.append([item.request.prompt for item in items])
        for item in items:
            if error := self.poison.get(item.request.prompt):
                raise error
        for step in range(1, STEPS + 1):
            self.at_step(step)
            self.steps_made += 1
            if on_step(step, STEPS):
                return Rendered([], load_s, 0.1, interrupted=True)
        images = [PIL.Image.new("RGB", (8, 8), "grey") for _ in items]
        warnings = {item.request: [f"{item.request.prompt} is too long"] for item in items}
        return Rendered(images, load_s, 0.1, interrupted=False, warnings=warnings, provenance=PROVENANCE)

    def _load(self, model_id: str) -> float:
        if model_id in self.resident:
            return 0.0
        self.resident = [*self.resident, model_id][-self.room :]
        self.loads.append(model_id)
        return self.load_s


class FakeStorage:
    """Objects in memory. While `away` is positive, each call fails and takes one off it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = 0.0
        self.calls = 0
        self.gets = 0
        self.undeletable: set[str] = set()

    def ensure_bucket(self) -> None:
        self._answer()

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self._answer()
        assert content_type.startswith("image/")
        self.objects[key] = data

    def get(self, key: str) -> bytes:
        self.gets += 1
        self._answer()
        if key not in self.objects:
            raise ObjectMissing(key)
        return self.objects[key]

    def keys(self, prefix: str) -> list[str]:
        self._answer()
        return [key for key in self.objects if key.startswith(prefix)]

    def delete(self, keys: Iterable[str]) -> None:
        self._answer()
        for key in list(keys):
            if key in self.undeletable:
                raise StorageError(f"{key}: AccessDenied")
            self.objects.pop(key, None)

    def _answer(self) -> None:
        self.calls += 1
        if self.away > 0:
            self.away -= 1
            raise StorageError("connection refused")


class RenderWorker:
    """A render worker on a fake device. Its leases are renewed by `keeper.renew()`, not by a thread."""

    def __init__(self, redis: Redis, *models: Model, affinity_s: float = 0.0) -> None:
        """It serves these models, or `MODEL` alone. Time passes for its turns as `now` says."""
        self.now = 0.0
        self.redis = redis
        self.engine = FakeEngine()
        self.storage = FakeStorage()
        self.scheduler: Scheduler = new_scheduler(redis)
        self.sent: list[str] = []
        self.waker = build_waker(redis, self._send)
        self.keeper = LeaseKeeper(self.scheduler, self.waker)
        self.litter = Litter(redis)
        self.outcomes = Outcomes(self.scheduler, self.keeper, self.litter, self.waker)
        self.renderer = Renderer(
            "worker-1",
            engine=cast(RenderEngine, self.engine),
            turns=Turns(models or [fake_model()], lambda: self.engine.resident, affinity_s, lambda: self.now),
            scheduler=self.scheduler,
            keeper=self.keeper,
            outcomes=self.outcomes,
            store=Store(cast(Storage, self.storage), self.outcomes),
            waker=self.waker,
            drain_s=0.0,
        )

    @property
    def wake_ups(self) -> int:
        """How many lie there for senders of webhooks."""
        return self.redis.llen("rm:wake_ups")

    def _send(self, task: str, queue: str) -> None:
        self.sent.append(queue)
        self.redis.lpush(queue, task)

    def accept(self, *jobs: NewJob) -> list[str]:
        for job in jobs:
            self.scheduler.enqueue(job.account, [job])
        return [job.id for job in jobs]

    def work(self) -> None:
        """Work off one ticket; no lease outlives it."""
        self.renderer.work()
        assert not self.keeper.kept
        assert not self.renderer.is_busy

    def job(self, job_id: str) -> Job:
        return Records(self.redis).get(job_id)

    def status(self, job_id: str) -> JobStatus:
        return self.job(job_id).status


class Failing:
    """Stands for `target`, whose method `name` raises `error` the first `times` it is called."""

    def __init__(self, target: object, name: str, error: Exception, times: float) -> None:
        self._target = target
        self._name = name
        self._error = error
        self._times = times

    def __getattr__(self, name: str) -> Any:
        if name == self._name and self._times > 0:
            return self._fail
        return getattr(self._target, name)

    def _fail(self, *_: object, **__: object) -> Iterator[None]:
        self._times -= 1
        raise self._error
