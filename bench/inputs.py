"""Pictures made from pictures: what a device waits for when each image of its batches has an input image in S3.

One worker of a model that sleeps for as long as SDXL-Lightning is to take an H200 for eight images. Meanwhile the next
batch's input images are fetched and decoded, and the last one's pictures encoded and stored. The peer is the same
worker with jobs that have no input images.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import PIL.Image

from api.ticket_producer import ticket_producer
from bench.jobs import ACCOUNT, PROMPT, new_scheduler
from bench.measuring import Row, in_turn
from bench.processes import wait_until
from bench.sizes import Sizes
from bench.synthetic_farm import SyntheticFarm, sleeping_model, synthetic_farm
from shared.catalog import Catalog, load_catalog
from shared.ids import new_id
from shared.jobs import NewJob
from shared.records import Records
from shared.requests import resolve
from shared.tickets import Tickets

_MODEL = "sleeping"
_BATCH, _BATCH_S = 8, 0.6
_SIDE = 1024
#: Different input images; each takes a while to make.
_INPUTS = 4
_PATIENCE_S = 120.0


def run(sizes: Sizes, scratch: Path) -> list[Row]:
    batches = max(2, sizes.pictures // _BATCH)
    file = scratch / "catalog.toml"
    file.write_text(sleeping_model(_MODEL, side=_SIDE, batch_s=_BATCH_S))
    catalog = load_catalog(file)
    with synthetic_farm(scratch, _MODEL, 1, {"CATALOG": str(file)}) as farm:
        inputs = [f"inputs/{number}" for number in range(_INPUTS)]
        for number, key in enumerate(inputs):
            farm.storage.put(key, _png(number), "image/png")
        rounds = in_turn(
            sizes.rounds,
            lambda: 100 * _share(farm, catalog, batches, inputs),
            lambda: 100 * _share(farm, catalog, batches, [None]),
        )
    what = f"one worker, {1000 * _BATCH_S:.0f} ms a batch of {_BATCH}, an input image each: time spent rendering"
    return [Row(what, "%", "without input images", rounds)]


def _share(farm: SyntheticFarm, catalog: Catalog, batches: int, inputs: Sequence[str | None]) -> float:
    """The part of the time, from the start of the first job to the last stored picture, in which the device works."""
    jobs = []
    for seed in range(batches * _BATCH):
        request, _ = resolve(catalog, {"model": _MODEL, "prompt": PROMPT, "seed": seed})
        request = replace(request, input_image=inputs[seed % len(inputs)])
        jobs.append(NewJob(id=new_id("job"), account=ACCOUNT, request=request, cost=1.0))
    new_scheduler(farm.broker.redis).enqueue(ACCOUNT, jobs)
    tickets = Tickets(farm.broker.redis, ticket_producer(farm.broker.url))
    tickets.wake_renderers(_MODEL, queued=len(jobs), workers=1)
    records, ids = Records(farm.broker.redis), [job.id for job in jobs]
    wait_until(
        lambda: all(job is not None and job.status.is_terminal for job in records.read(ids)), "all jobs", _PATIENCE_S
    )
    finished = [records.get(id_) for id_ in ids]
    if failed := [job for job in finished if job.status != "succeeded"]:
        raise RuntimeError(f"{len(failed)} of {len(finished)} jobs did not succeed; the first: {failed[0].error}")
    began = min(job.started_at or 0.0 for job in finished)
    return batches * _BATCH_S / (max(job.finished_at or 0.0 for job in finished) - began)


def _png(number: int) -> bytes:
    """A picture that packs about as well as a photograph."""
    grain = PIL.Image.effect_noise((_SIDE // 4, _SIDE // 4), 40 + number).convert("RGB")
    file = io.BytesIO()
    grain.resize((_SIDE, _SIDE), PIL.Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()
