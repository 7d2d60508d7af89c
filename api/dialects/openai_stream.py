"""`stream: true` of the OpenAI images API: an event for each finished picture."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Response
from redis.exceptions import RedisError

from api.dialects.openai_errors import error_object
from api.dialects.rendering import pictures_of, submit_as, succeeded, too_late
from api.errors import problem_of
from api.event_stream import HEARTBEAT, event_stream, hold_place, message
from api.services import Services, services
from intake.input_images import MaskMeaning
from shared.errors import RendermillError
from shared.jobs import Job
from shared.openai_answers import NO_USAGE
from shared.storage import StorageError

#: Well below the idle times of proxies.
_HEARTBEAT_S = 10.0


def stream_images(job: dict[str, Any], *, names: Mapping[str, str], kind: str, quality: str) -> Response:
    """Hand the job in, and send an event `<kind>.completed` for each of its pictures.

    What is wrong with the request is raised before anything is sent; what goes wrong later becomes an event.
    """
    hold_place()
    try:
        submitted = submit_as(job, names, MaskMeaning.TRANSPARENT)
    except BaseException:
        services().waiters.release()
        raise
    messages = _messages(services(), submitted.job, kind, quality)
    return event_stream(messages, {"X-Job-Id": submitted.job.id, **submitted.headers})


def _messages(farm: Services, job: Job, kind: str, quality: str) -> Iterator[str]:
    try:
        deadline = time.monotonic() + farm.settings.wait_s
        while not farm.events.wait_until_finished(job.id, min(_HEARTBEAT_S, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise too_late(job)
            yield HEARTBEAT
        finished = succeeded(farm.records.get(job.id))
        event = f"{kind}.completed"
        for image in pictures_of(finished):
            data = {
                "type": event,
                "b64_json": base64.b64encode(farm.storage.get(image.key)).decode(),
                "background": "opaque",
                "created_at": int(finished.created_at),
                "output_format": image.format,
                "quality": quality,
                "size": f"{image.width}x{image.height}",
                "usage": NO_USAGE,
            }
            yield message(data, event=event)
    except (RendermillError, RedisError, StorageError) as error:
        yield message({"type": "error", "error": error_object(problem_of(error))}, event="error")
