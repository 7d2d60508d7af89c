"""What the dialects share: they wait for the picture, and call the fields of a job by other names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Response

from api.auth import account
from api.routes.jobs import job_response
from api.services import services
from api.submission import Submitted, submit
from api.waiting import Preference, preference
from intake.input_images import MaskMeaning
from shared.answers import Position
from shared.errors import RendermillError, RequestInvalid
from shared.images import Image
from shared.jobs import Job, JobStatus

#: What a failed job is to a client that waited for it, where it is not the farm that failed.
_FAILED_AS = {"invalid_input": "bad_image", "unsupported": "unsupported_parameter"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """The job of a request; finished unless the client did not want to wait."""

    job: Job
    finished: bool
    headers: dict[str, str]
    #: Where it stood when it was accepted, if that was now.
    position: Position | None = None

    @property
    def images(self) -> list[Image]:
        return pictures_of(self.job)

    def accepted(self) -> Response:
        """The answer to a client that does not wait."""
        return job_response(self.job, 202, self.headers, self.position)


def render(
    body: dict[str, Any], *, names: Mapping[str, str], mask_meaning: MaskMeaning = MaskMeaning.WHITE
) -> Rendered:
    """Hand in a job with the fields `body`, and wait for it unless `Prefer: respond-async` says otherwise.

    `names` are the dialect's names of the fields, which errors bear. Raises RendermillError: `busy` before anything
    is accepted, `wait_timeout` with the job's id, and for a job that ended without pictures.
    """
    farm = services()
    preferred = preference()
    if preferred.respond_async and preferred.wait_s is None:
        submitted = submit_as(body, names, mask_meaning)
        return Rendered(submitted.job, False, _headers(submitted, preferred), submitted.position)
    with farm.waiters.place() as held:
        if not held:
            raise too_busy()
        submitted = submit_as(body, names, mask_meaning)
        wait_s = min(preferred.wait_s or farm.settings.wait_s, farm.settings.wait_s)
        finished = farm.events.wait_until_finished(submitted.job.id, wait_s)
    headers = _headers(submitted, preferred)
    if finished:
        return Rendered(succeeded(farm.records.get(submitted.job.id, account())), True, headers)
    if preferred.respond_async:
        return Rendered(farm.records.get(submitted.job.id, account()), False, headers)
    raise too_late(submitted.job)


def _headers(submitted: Submitted, preferred: Preference) -> dict[str, str]:
    return {"X-Job-Id": submitted.job.id, **submitted.headers, **preferred.applied()}


def submit_as(body: dict[str, Any], names: Mapping[str, str], mask_meaning: MaskMeaning) -> Submitted:
    """Hand in a job; what is wrong with it is told in the dialect's names."""
    with _errors_named(names):
        return submit(body, mask_meaning=mask_meaning)


@contextmanager
def _errors_named(names: Mapping[str, str]) -> Iterator[None]:
    try:
        yield
    except RequestInvalid as error:
        errors: dict[str, list[str]] = {}
        for name, words in error.errors.items():
            errors.setdefault(names.get(name, name), []).extend(words)
        extra = {name: value for name, value in error.extra.items() if name != "errors"}
        raise RequestInvalid(errors, code=error.code, **extra) from error


def pictures_of(job: Job) -> list[Image]:
    """The job's pictures, in order; one that was deleted meanwhile is left out."""
    found = services().images.read(job.images)
    return [found[id_] for id_ in job.images if id_ in found]


def succeeded(job: Job) -> Job:
    """The job. Raises RendermillError where it ended without pictures."""
    if job.status is JobStatus.SUCCEEDED:
        return job
    headers = {"X-Job-Id": job.id}
    if job.status is not JobStatus.FAILED or job.error is None:
        raise RendermillError("conflict", f"The job was {job.status}.", headers=headers, job_id=job.id)
    code = _FAILED_AS.get(job.error["code"], "render_failed")
    raise RendermillError(code, job.error["message"], headers=headers, job_id=job.id, failure=job.error["code"])


def too_busy() -> RendermillError:
    return RendermillError(
        "busy",
        "Too many clients wait on this server. Try again, or send 'Prefer: respond-async' and poll the job.",
        headers={"Retry-After": "5"},
    )


def too_late(job: Job) -> RendermillError:
    address = f"{services().settings.public_url.rstrip('/')}/v1/jobs/{job.id}"
    return RendermillError(
        "wait_timeout",
        f"The picture is not ready yet; the job goes on, and is found at {address}.",
        headers={"X-Job-Id": job.id},
        job_id=job.id,
    )
