"""The objects that clients see: Job and Image, the same by poll, wait, event and webhook."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

from redis import Redis

from shared.answers import Position
from shared.credits import credits_of
from shared.events import JobEvent
from shared.images import Image, Images, iso_time
from shared.jobs import Job, JobStatus
from shared.requests import RenderRequest
from shared.scheduler import Scheduler
from shared.workers import WorkerCount, Workers

#: What of a request is shown as the job's input: all but where its images lie in S3.
_HIDDEN_INPUT = {"mode", "input_image", "mask_image"}


class Views:
    """Builds client objects. `public_url` is the address that every link begins with."""

    def __init__(self, redis: Redis, scheduler: Scheduler, public_url: str) -> None:
        self._scheduler = scheduler
        self._images = Images(redis)
        self._workers = WorkerCount(Workers(redis))
        self._public_url = public_url.rstrip("/")

    def job(self, job: Job, position: Position | None = None) -> dict[str, Any]:
        """The Job object. `position` is where it stands, if that is known; otherwise it is asked for."""
        return self._job(job, position or self._position(job), self._shown([job]))

    def job_at(self, job: Job, event: JobEvent) -> dict[str, Any]:
        """The Job object as it was when `event` happened."""
        if job.status is event.status:
            return self.job(job) | {"stage": event.stage, "progress": event.progress}
        past = replace(
            job,
            status=event.status,
            stage=event.stage,
            progress=event.progress,
            images=[],
            error=None,
            finished_at=None,
            provenance=None,
        )
        return self._job(past, None, {})

    def jobs(self, jobs: list[Job]) -> list[dict[str, Any]]:
        """The Job objects; the pictures of all of them are looked up at once."""
        shown = self._shown(jobs)
        return [self._job(job, self._position(job), shown) for job in jobs]

    def ended_job(self, job: Job, images: Mapping[str, Image], published: Container[str]) -> dict[str, Any]:
        """The Job object of a finished job whose pictures are at hand, by id; nothing is asked for."""
        return self._job(job, None, {id_: self._image(image, id_ in published) for id_, image in images.items()})

    def _shown(self, jobs: list[Job]) -> dict[str, dict[str, Any]]:
        """The Image objects of the jobs' pictures, by id."""
        read = self._images.read([id_ for job in jobs for id_ in job.images])
        return {view["id"]: view for view in self.images(list(read.values()))}

    def image(self, image: Image) -> dict[str, Any]:
        """The Image object."""
        return self.images([image])[0]

    def images(self, images: list[Image]) -> list[dict[str, Any]]:
        published = self._images.published([image.id for image in images])
        return [self._image(image, image.id in published) for image in images]

    def public_image_url(self, image: Image) -> str:
        """Where the image is while it is public."""
        return f"{self._public_url}/images/{image.id}.{image.format}"

    def _image(self, image: Image, is_public: bool) -> dict[str, Any]:
        return {
            "id": image.id,
            "name": image.name,
            "url": self.public_image_url(image) if is_public else None,
            "width": image.width,
            "height": image.height,
            "format": image.format,
            "size": image.size,
            "created_at": iso_time(image.created_at),
            "seed": image.seed,
            "model": image.model,
            "job_id": image.job_id,
        }

    def _position(self, job: Job) -> Position | None:
        if job.status is not JobStatus.QUEUED:
            return None
        return self._scheduler.position(job.id, self._workers.serving(job.request.model))

    def _job(self, job: Job, position: Position | None, shown: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """The Job object, with those of its images that are `shown`, by id."""
        images = [shown[id_] for id_ in job.images if id_ in shown]
        address = f"{self._public_url}/v1/jobs/{job.id}"
        return {
            "id": job.id,
            "object": "job",
            "status": job.status,
            "stage": job.stage,
            "progress": job.progress,
            "queue_position": position.ahead if position else None,
            "eta_s": position.eta_s if position else None,
            "model": job.request.model,
            "name": job.name,
            "priority": job.priority,
            "price": credits_of(job.price),
            "input": input_of(job.request),
            "images": images,
            "error": job.error,
            "warnings": job.warnings,
            "attempts": job.attempts,
            "created_at": iso_time(job.created_at),
            "started_at": None if job.started_at is None else iso_time(job.started_at),
            "finished_at": None if job.finished_at is None else iso_time(job.finished_at),
            "timings": {name: job.timings.get(name) for name in ("queued_s", "load_s", "render_s", "store_s")},
            "provenance": job.provenance,
            "metadata": job.metadata,
            "deadline_s": job.deadline_s,
            **_webhook(job),
            **_batch(job),
            "urls": {
                "self": address,
                "cancel": f"{address}/cancel",
                "events": f"{address}/events",
                "images": [f"{self._public_url}/v1/images/{image['id']}/download" for image in images],
            },
        }


def _webhook(job: Job) -> dict[str, Any]:
    if job.webhook_url is None:
        return {}
    return {"webhook_url": job.webhook_url, "webhook_events": job.webhook_events}


def _batch(job: Job) -> dict[str, Any]:
    return {} if job.batch is None else {"batch_id": job.batch, "custom_id": job.custom_id}


def input_of(request: RenderRequest) -> dict[str, Any]:
    """A request as its owner sees it."""
    shown = {name: value for name, value in request.to_dict().items() if name not in _HIDDEN_INPUT}
    for name in ("input_image", "mask_image"):
        if getattr(request, name) is not None:
            shown[name] = "stored with the job"
    return shown
