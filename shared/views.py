"""The objects that clients see: Job and Image, the same by poll, wait, event and webhook."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from redis import Redis

from shared.credits import credits_of
from shared.events import JobEvent
from shared.images import Image, Images, iso_time
from shared.jobs import Job, JobStatus
from shared.requests import RenderRequest
from shared.scheduler import Position, Scheduler
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

    def job(self, job: Job) -> dict[str, Any]:
        """The Job object."""
        return self._job(job, self._position(job))

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
        )
        return self._job(past, None)

    def jobs(self, jobs: list[Job]) -> list[dict[str, Any]]:
        return [self.job(job) for job in jobs]

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

    def _job(self, job: Job, position: Position | None) -> dict[str, Any]:
        read = self._images.read(job.images)
        found = [read[id_] for id_ in job.images if id_ in read]
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
            "images": self.images(found),
            "error": job.error,
            "warnings": job.warnings,
            "attempts": job.attempts,
            "created_at": iso_time(job.created_at),
            "started_at": None if job.started_at is None else iso_time(job.started_at),
            "finished_at": None if job.finished_at is None else iso_time(job.finished_at),
            "timings": {name: job.timings.get(name) for name in ("queued_s", "load_s", "render_s", "store_s")},
            "metadata": job.metadata,
            "deadline_s": job.deadline_s,
            **_webhook(job),
            "urls": {
                "self": address,
                "cancel": f"{address}/cancel",
                "events": f"{address}/events",
                "images": [f"{self._public_url}/v1/images/{image.id}/download" for image in found],
            },
        }


def _webhook(job: Job) -> dict[str, Any]:
    if job.webhook_url is None:
        return {}
    return {"webhook_url": job.webhook_url, "webhook_events": job.webhook_events}


def input_of(request: RenderRequest) -> dict[str, Any]:
    """A request as its owner sees it."""
    shown = {name: value for name, value in request.to_dict().items() if name not in _HIDDEN_INPUT}
    for name in ("input_image", "mask_image"):
        if getattr(request, name) is not None:
            shown[name] = "stored with the job"
    return shown
