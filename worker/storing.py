"""Pictures into S3, and input images out of it: encode, store, wait while S3 is away."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from PIL import Image as PillowImage

from shared.answers import Aftermath
from shared.errors import JobFailure
from shared.ids import new_id
from shared.images import Image
from shared.jobs import Lease, Stage
from shared.outputs import output_key
from shared.storage import CONTENT_TYPES, ObjectMissing, Storage, StorageError
from worker import metrics
from worker.encoding import encode
from worker.leases import Hold
from worker.outcomes import Outcomes
from worker.patience import PAUSE_S, patiently

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Share of a job's progress that denoising stands for; the rest is decoding, encoding and storing.
DENOISED = 0.95
#: How long a job waits for storage to come back before it is given to another attempt.
_PATIENCE_S = 30.0
#: An image without a name of its own is called by the beginning of its prompt; the seed allows names of 30.
_NAME_LENGTH = 30


@dataclass(frozen=True, slots=True)
class Pictures:
    """A job's rendered pictures, not yet stored."""

    hold: Hold
    images: list[PillowImage.Image]
    load_s: float
    #: Device seconds of the whole batch, and this job's share of them.
    render_s: float
    share_s: float
    warnings: Sequence[str]
    provenance: Mapping[str, Any]


class Store:
    """What a render worker wants of S3. Safe to share between threads."""

    def __init__(self, storage: Storage, outcomes: Outcomes) -> None:
        self._storage = storage
        self._outcomes = outcomes
        #: The last call failed, however often it was tried.
        self._away = False

    def wait_until_back(self, give_up: Callable[[], bool]) -> None:
        """Where S3 was away lately, return when it answers again, or when `give_up` says so."""
        while self._away and not give_up():
            try:
                self._storage.ensure_bucket()
                self._away = False
            except StorageError as error:
                _log.warning("no job is taken while storage is away: %s", error)
                time.sleep(PAUSE_S)

    def input(self, key: str | None, mode: str) -> PillowImage.Image | None:
        """An input image in one of Pillow's modes, None for none. Raises JobFailure where it cannot be had."""
        if key is None:
            return None
        try:
            data = self._patiently(lambda: self._get(key))
        except StorageError as error:
            raise JobFailure("storage_unavailable", f"An input image could not be read: {error}") from error
        try:
            return PillowImage.open(io.BytesIO(data)).convert(mode)
        except Exception as error:  # Pillow's decoders raise what they please
            raise JobFailure("invalid_input", f"An input image cannot be decoded: {error}") from error

    def save(self, pictures: Pictures) -> Aftermath | None:
        """Store a job's pictures and end the job; None where that did not come about.

        Raises nothing: whatever goes wrong becomes the job's failure.
        """
        hold = pictures.hold
        hold.report(Stage.STORING, DENOISED)
        started = time.monotonic()
        try:
            images = self._save(pictures)
        except StorageError as error:
            self._outcomes.fail(hold, JobFailure("storage_unavailable", f"A picture could not be stored: {error}"))
            return None
        except Exception as error:
            _log.exception("%s: a picture could not be saved", hold.lease.id)
            self._outcomes.fail(hold, JobFailure("render_failed", f"{type(error).__name__} while saving a picture."))
            return None
        if hold.dropped:
            self._outcomes.drop(hold)
            return None
        store_s = time.monotonic() - started
        metrics.STORE_SECONDS.labels(hold.lease.request.model).observe(store_s)
        timings = {
            "queued_s": hold.lease.queued_s,
            "load_s": round(pictures.load_s, 3),
            "render_s": round(pictures.render_s, 3),
            "store_s": round(store_s, 3),
        }
        result = {
            "images": [image.id for image in images],
            "timings": timings,
            "provenance": pictures.provenance,
            "warnings": pictures.warnings,
        }
        return self._outcomes.succeed(hold, images, result, pictures.share_s)

    def _save(self, pictures: Pictures) -> list[Image]:
        images = []
        for number, picture in enumerate(pictures.images):
            if pictures.hold.dropped:
                break
            image, data = _to_image(pictures.hold.lease, number, picture)
            self._patiently(partial(self._storage.put, image.key, data, CONTENT_TYPES[image.format]))
            images.append(image)
        return images

    def _get(self, key: str) -> bytes:
        try:
            return self._storage.get(key)
        except ObjectMissing as error:
            raise JobFailure("invalid_input", "An input image is not stored any more; submit the job again.") from error

    def _patiently(self, action: Callable[[], T]) -> T:
        """Of many that fail while storage is away, only the first ones wait."""
        try:
            result = patiently(action, StorageError, 0.0 if self._away else _PATIENCE_S)
        except StorageError:
            self._away = True
            raise
        self._away = False
        return result


def _to_image(lease: Lease, number: int, picture: PillowImage.Image) -> tuple[Image, bytes]:
    request = lease.request
    seed = request.seed + number
    data = encode(picture, request, seed)
    image = Image(
        id=new_id("image"),
        account=lease.account,
        name=lease.name or request.prompt[:_NAME_LENGTH],
        key=output_key(lease.id, lease.attempt, number, request.output_format),
        width=picture.width,
        height=picture.height,
        format=request.output_format,
        size=len(data),
        created_at=time.time(),
        seed=seed,
        model=request.model,
        job_id=lease.id,
    )
    return image, data
