"""A farm of synthetic render workers: the processes of an embedded farm, whose models sleep instead of rendering."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from celery import Celery

from bench.jobs import ACCOUNT, PROMPT
from bench.processes import Broker, broker, environment, python, running, s3, wait_until
from farm import parts
from shared.catalog import Catalog, load_catalog
from shared.ids import new_id
from shared.jobs import NewJob, Priority
from shared.models import Model
from shared.requests import resolve
from shared.settings import PREFIX
from shared.storage import Storage
from shared.workers import Workers

CATALOG_FILE = Path(__file__).parents[1] / "examples" / "synthetic.toml"
CATALOG: Catalog = load_catalog(CATALOG_FILE)
_SLEEPING_MODEL = """
[[model]]
id = "{id}"
name = "Sleeps"
family = "synthetic"
modes = ["text-to-image", "image-to-image"]
licence = "Apache-2.0"
batch_limit = 8
synthetic = {{ batch_s = {batch_s}, load_s = {load_s} }}
guidance = {{ kind = "embedded", default = 0, max = 0 }}
num_steps = {{ default = 4, max = 8 }}
size = {{ default = {side}, min = 8, max = {side}, multiple_of = 8, max_pixels = {pixels} }}
"""
#: They hold no models, so they are told to stop without patience.
_STOP_S = 10


@dataclass(frozen=True, slots=True)
class SyntheticFarm:
    """A farm's stores, and its processes by what they are."""

    broker: Broker
    storage: Storage
    environment: dict[str, str]
    processes: Mapping[str, Sequence[psutil.Process]]

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds that each kind of process has used so far."""
        return {
            kind: sum(sum(process.cpu_times()[:2]) for process in processes)
            for kind, processes in self.processes.items()
        }


def sleeping_model(id_: str, *, side: int, batch_s: float, load_s: float = 0.0) -> str:
    """An entry of a catalog: a model of pictures of so many pixels a side, up to eight a batch."""
    return _SLEEPING_MODEL.format(id=id_, side=side, pixels=side**2, batch_s=batch_s, load_s=load_s)


@contextmanager
def stores(scratch: Path) -> Iterator[SyntheticFarm]:
    """Run Valkey and S3 in `scratch`, without a worker."""
    with broker(scratch) as server, s3(scratch) as stored:
        settings = replace(
            stored.settings,
            redis_url=server.url,
            catalog=str(CATALOG_FILE),
            egress_allow="127.0.0.0/8",
            log_level="WARNING",
        )
        processes = {"Valkey": [psutil.Process(server.pid)], "S3": [psutil.Process(stored.pid)]}
        yield SyntheticFarm(server, Storage(settings), environment(settings), processes)


def synthetic_job(
    model: Model,
    seed: int,
    account: str = ACCOUNT,
    *,
    num_steps: int | None = None,
    priority: Priority = Priority.NORMAL,
) -> NewJob:
    """A job of a synthetic model, of its default size."""
    request, _ = resolve(CATALOG, {"model": model.id, "prompt": PROMPT, "seed": seed, "num_steps": num_steps})
    cost = request.cost(model)
    return NewJob(id=new_id("job"), account=account, request=request, cost=cost, priority=priority)


@contextmanager
def peer_fleet(scratch: Path, workers: int) -> Iterator[SyntheticFarm]:
    """Run that many workers of the plain Celery application, on stores of their own."""
    with stores(scratch) as farm, ExitStack() as started:
        processes = []
        for number in range(workers):
            name = f"peer-{number}"
            program = python(name, "-m", "bench.sleeping_peer", farm.broker.url, name)
            processes.append(psutil.Process(started.enter_context(running(program, farm.environment, scratch))))
        app = Celery(broker=farm.broker.url, set_as_current=False)
        wait_until(lambda: len(app.control.ping(timeout=1.0, limit=workers)) == workers, f"{workers} workers")
        farm.broker.redis.flushdb()
        yield replace(farm, processes={**farm.processes, "workers": processes})


@contextmanager
def synthetic_farm(
    scratch: Path, models: str, workers: int, settings: Mapping[str, str] | None = None
) -> Iterator[SyntheticFarm]:
    """Run a farm of that many render workers, each of which serves these models alone, and one upkeep worker.

    `models` are separated by commas; `settings` are further ones of all workers.
    """
    more = {PREFIX + name: value for name, value in (settings or {}).items()}
    with stores(scratch) as farm, ExitStack() as started:

        def start(role: str, name: str) -> psutil.Process:
            program = replace(parts.worker(role, _STOP_S), name=name)
            own = {**farm.environment, **more, f"{PREFIX}MODELS": models}
            return psutil.Process(started.enter_context(running(program, own, scratch)))

        renderers = [start("render", f"render-{number}") for number in range(workers)]
        processes = {**farm.processes, "workers": [*renderers, start("upkeep", "upkeep")]}
        alive = Workers(farm.broker.redis)
        wait_until(lambda: [worker.state for worker in alive.alive()].count("idle") == workers, f"{workers} workers")
        yield replace(farm, processes=processes)
