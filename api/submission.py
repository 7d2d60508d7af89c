"""The way of every request for pictures: resolved against the catalog, its images stored, accepted, a worker woken."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import json, request
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from api.auth import account
from api.services import Services, services
from intake.input_images import InputImages, MaskMeaning
from intake.new_jobs import new_job
from shared.errors import RendermillError, RequestInvalid
from shared.ids import new_id
from shared.jobs import Job
from shared.requests import resolve

_log = logging.getLogger(__name__)

#: The header is a quoted string in the standard's draft; a bare one, as most clients send it, is taken as well.
_IDEMPOTENCY_KEY = re.compile(r'"([\x21\x23-\x7e ]{1,255})"|([\x21\x23-\x7e]{1,255})')


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job that a request led to; `replayed` where an earlier request with the same key had made it."""

    job: Job
    replayed: bool

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
    key = idempotency_key()
    fingerprint = _fingerprint(body)
    if key is not None and (known := farm.scheduler.replayed(account(), key, fingerprint)) is not None:
        return Submitted(farm.records.get(known, account()), replayed=True)
    images = InputImages.read(farm, account(), body, mask_meaning)
    job_id = new_id("job")
    images.store(farm.storage, job_id)
    for name in images.files:
        del body[name]
    placed = images.placed(render, job_id)
    job = new_job(farm.catalog, job_id, account(), body, placed, [*warnings, *images.warnings])
    accepted = job_id
    try:
        if key is None:
            farm.scheduler.enqueue(job.account, [job])
        else:
            accepted = farm.scheduler.enqueue_once(
                job, key=key, fingerprint=fingerprint, remember_s=farm.settings.idempotency_s
            )
    except RendermillError:
        # Where Redis failed instead, the job may have been accepted all the same, and needs its images.
        images.remove(farm.storage, job_id)
        raise
    if accepted != job_id:
        images.remove(farm.storage, job_id)
    _wake(farm, render.model)
    return Submitted(farm.records.get(accepted, account()), replayed=accepted != job_id)


def _wake(farm: Services, model: str) -> None:
    """See that a worker comes. Whatever goes wrong here, the job is accepted, and upkeep wakes one a moment later."""
    try:
        queued = farm.scheduler.queued().get(model, 0)
        farm.tickets.wake_renderers(model, queued=queued, workers=farm.worker_count.serving(model))
    except (RedisError, KombuError, OSError) as error:
        _log.warning("no ticket for %s: %s", model, error)


def _route() -> str:
    return request.path.rstrip("/")


def idempotency_key() -> str | None:
    """The key under which the request is remembered for its account: its route's and its own."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    match = _IDEMPOTENCY_KEY.fullmatch(given.strip())
    if match is None:
        raise RequestInvalid({"Idempotency-Key": ["must be 1 to 255 visible characters of ASCII, quoted or not"]})
    return f"{_route()} {match[1] or match[2]}"


def _fingerprint(body: Mapping[str, Any]) -> str:
    """The same for the same request: what was asked of which route, whatever the order of the fields."""
    canonical = json.dumps([_route(), body], sort_keys=True, default=_digest)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _digest(uploaded: bytes) -> str:
    return hashlib.sha256(uploaded).hexdigest()
