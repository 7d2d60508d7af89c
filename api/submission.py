"""The way of every request for pictures: resolved against the catalog, its images stored, accepted, a worker woken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from api.auth import account
from api.idempotency import Once
from api.limits import note_refusal, note_standing
from api.services import services
from intake.input_images import InputImages, MaskMeaning
from intake.new_jobs import new_job
from shared.answers import Position
from shared.credits import credits_of
from shared.errors import RendermillError
from shared.ids import new_id
from shared.jobs import Job
from shared.limits import Refused
from shared.models import Mode
from shared.requests import mode_of, resolve
from shared.views import input_of


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that a request led to; `replayed` where an earlier request with the same key had made it."""

    job: Job
    replayed: bool
    #: Where it stood when it was accepted; None for a job of an earlier request.
    position: Position | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Idempotent-Replayed": "true"} if self.replayed else {}


def submit(body: dict[str, Any], *, mask_meaning: MaskMeaning = MaskMeaning.WHITE) -> Submitted:
    """Accept a job of the current account. `body` has the fields of `JobBody`, checked; images may be bytes as well.

    Its images are taken out of it once they are stored, so that a client that waits does not keep them in memory.

    The `Idempotency-Key` of the current request is honoured. Raises RequestInvalid, naming every wrong field, and
    whatever Redis and S3 raise.
    """
    farm = services()
    render, warnings = resolve(farm.catalog, body)
    once = Once.of_request(body, farm.settings)
    if not once.anew and mode_of(body) is not Mode.TEXT_TO_IMAGE:
        # `accept` would tell as well, but only after the images were fetched and stored again.
        known = farm.scheduler.replayed(account(), once.key, once.fingerprint)
        if known is not None:
            return Submitted(farm.records.get(known, account()), replayed=True)
    images = InputImages.read(farm, account(), body, mask_meaning)
    job_id = new_id("job")
    images.store(farm, job_id)
    for name in images.files:
        del body[name]
    placed = images.placed(render, job_id)
    job = new_job(farm.catalog, job_id, account(), body, placed, [*warnings, *images.warnings])
    workers = farm.worker_count.serving(render.model)
    try:
        accepted = farm.scheduler.accept(
            job,
            workers=workers,
            key=once.key,
            fingerprint=once.fingerprint,
            remember_s=once.remember_s,
            anew=once.anew,
        )
    except RendermillError as error:
        if isinstance(error, Refused):
            note_refusal(error)
        # Where Redis failed instead, the job may have been accepted all the same, and needs its images.
        images.remove(farm.storage, job_id)
        raise
    if accepted.standing is not None:
        note_standing(accepted.standing)
    if accepted.replayed:
        images.remove(farm.storage, job_id)
    if accepted.placement is None:
        # Whose request that was has seen to a worker; if its process died, upkeep does.
        return Submitted(farm.records.get(accepted.id, account()), replayed=accepted.replayed)
    farm.waker.after_acceptance(render.model, accepted.placement)
    return Submitted(
        Job.accepted(job, accepted.placement.created_at),
        replayed=False,
        position=accepted.placement.position,
    )


def estimate(body: dict[str, Any]) -> dict[str, Any]:
    """What the job of `body` would cost and when it would be done, if it were accepted now.

    Raises what `submit` would for a wrong request; limits are not asked, and nothing is stored.
    """
    farm = services()
    render, warnings = resolve(farm.catalog, body)
    images = InputImages.read(farm, account(), body, MaskMeaning.WHITE)
    job_id = new_id("job")
    placed = images.placed(render, job_id)
    job = new_job(farm.catalog, job_id, account(), body, placed, [*warnings, *images.warnings])
    position = farm.scheduler.forecast(job, farm.worker_count.serving(render.model))
    return {
        "object": "estimate",
        "price": credits_of(job.price),
        "estimated_s": position.eta_s,
        "queue_position": position.ahead,
        "model": render.model,
        "input": input_of(job.request),
        "warnings": list(job.warnings),
    }
