"""What the engine and the farm around it make of a device: here the CPU, with tiny checkpoints at 256×256.

What is measured is what the code adds or saves, which is the same on a GPU: how much a batch is quicker than its images
one by one, what the farm takes from a busy device, and how long a worker that starts again takes to its first picture.
`python -m bench.gpu` measures real sizes on a real device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from api.ticket_producer import ticket_producer
from bench.farm_throughput import images_per_second, running_farm
from bench.jobs import ACCOUNT, new_job, new_scheduler
from bench.measuring import Row, Target, in_turn, seconds
from bench.processes import Broker, broker, environment, python, running, s3, wait_until
from bench.sizes import Sizes
from bench.workloads import TINY
from shared.catalog import catalog
from shared.records import Records
from shared.settings import Settings
from shared.tickets import Tickets
from worker.engine import Engine, Item, tiny

#: The one whose batches are shortest, so that whatever is added to a batch weighs most.
_WORKLOAD = TINY[0]
_BATCH = 8
#: Rates of seconds differ by more than what is to be seen, where somebody else uses the machine: more rounds than else.
_FARM_ROUNDS = 2


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    models = scratch / "models"
    tiny.build(models)
    return [_batch_beside_singles(sizes, models), _farm_beside_engine(sizes, models), _start(sizes, scratch, models)]


def _batch_beside_singles(sizes: Sizes, models: Path) -> Row:
    render = _engine(models)
    items = _WORKLOAD.items(catalog(), _BATCH)
    return Row(
        f"a batch of {_BATCH} pictures",
        "images/CPU s",
        f"{_BATCH} one by one",
        # By CPU time, in which others on the machine are felt least.
        in_turn(
            sizes.rounds,
            lambda: _rate(sizes, lambda: render(items), time.process_time),
            lambda: _rate(sizes, lambda: [render([item]) for item in items], time.process_time),
        ),
    )


def _farm_beside_engine(sizes: Sizes, models: Path) -> Row:
    render = _engine(models)
    items = _WORKLOAD.items(catalog(), _BATCH)
    job = _WORKLOAD.job(catalog())
    with running_farm(str(job["model"]), models) as (url, key):
        rounds = in_turn(
            _FARM_ROUNDS * sizes.rounds,
            lambda: images_per_second(url, key, job, jobs=sizes.pictures),
            lambda: _rate(sizes, lambda: render(items)),
        )
    return Row(
        "pictures through the farm",
        "images/s",
        f"the bare engine, batches of {_BATCH}",
        rounds,
        Target(0.95, at_least=True),
    )


def _start(sizes: Sizes, scratch: Path, models: Path) -> Row:
    with broker(scratch) as server, s3(scratch) as store:
        config = replace(
            store.settings,
            redis_url=server.url,
            models_dir=str(models),
            models_offline=True,
            models=_WORKLOAD.model_id,
        )
        settings = environment(config)
        rounds = in_turn(
            sizes.rounds,
            lambda: seconds(lambda: _first_picture_of_worker(server, settings, scratch)),
            lambda: seconds(lambda: _first_picture_alone(models, scratch)),
        )
    return Row(
        "a worker's start to its first picture",
        "s",
        "diffusers alone, to the saved file",
        rounds,
        Target(2, at_least=False),
    )


def _first_picture_of_worker(server: Broker, settings: dict[str, str], scratch: Path) -> None:
    """Start a worker that finds a job waiting; return when that is finished, and its picture stored."""
    job = new_job(_WORKLOAD.job(catalog()))
    new_scheduler(server.redis).enqueue(ACCOUNT, [job])
    Tickets(server.redis, ticket_producer(server.url)).wake_renderers(_WORKLOAD.model_id, queued=1, workers=1)
    records = Records(server.redis)
    with running(python("render-worker", "-m", "worker", "render"), settings, scratch):
        wait_until(lambda: records.get(job.id).status.is_terminal, "the first picture")
    if not records.get(job.id).images:
        raise RuntimeError(f"the worker made no picture: {records.get(job.id).error}")


def _first_picture_alone(models: Path, scratch: Path) -> None:
    file = scratch / "first.jpeg"
    file.unlink(missing_ok=True)
    with running(python("first-picture", "-m", "bench.first_picture", str(models), str(file)), {}, scratch):
        wait_until(file.exists, "the first picture")


def _engine(models: Path) -> Callable[[list[Item]], object]:
    """A warm engine's rendering of one batch."""
    # As in a farm, where no two prompts are the same, each is encoded.
    engine = Engine(catalog(), Settings(models_dir=str(models), models_offline=True, text_cache_bytes=0), "cpu")
    model = replace(_WORKLOAD.model(catalog()), batch_limit=_BATCH)
    engine.load(model.id)

    def render(items: list[Item]) -> object:
        return engine.render(model, items, lambda *_: False)

    render(_WORKLOAD.items(catalog(), _BATCH))
    return render


def _rate(sizes: Sizes, render: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Images per second, by a clock, of something that renders a batch of them."""
    batches = max(1, sizes.pictures // _BATCH)
    return batches * _BATCH / seconds(lambda: [render() for _ in range(batches)], clock)
