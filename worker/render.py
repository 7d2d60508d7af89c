"""From ticket to picture: claim → engine → storage → complete.

One ticket at a time has the device; the others encode and upload what was rendered before. A ticket claims only when
the device is free, so batches are as full as they can be and no lease is held by a job that waits.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from PIL import Image as PillowImage

from shared.catalog import Catalog, Model
from shared.errors import JobFailure
from shared.ids import new_id
from shared.images import Image
from shared.jobs import Lease, Stage
from shared.scheduler import Scheduler
from shared.storage import CONTENT_TYPES, ObjectMissing, Storage, StorageError
from shared.tickets import Tickets
from shared.workers import WorkerCount
from worker import metrics
from worker.encoding import encode
from worker.engine import Item, Rendered
from worker.leases import Hold, LeaseKeeper

if TYPE_CHECKING:
    from worker.engine import Engine

_log = logging.getLogger(__name__)

#: Share of a job's progress that denoising stands for; the rest is decoding, encoding and storing.
_DENOISED = 0.95
#: How long a render waits for storage to come back before its job is given to another attempt.
_STORAGE_PATIENCE_S = 30.0
_STORAGE_PAUSE_S = 1.0
#: An image without a name of its own is called by the beginning of its prompt; the seed allows names of 30.
_NAME_LENGTH = 30


@dataclass(frozen=True, slots=True)
class _Picture:
    """A job's rendered pictures, not yet stored."""

    hold: Hold
    images: list[PillowImage.Image]
    load_s: float
    #: Device seconds of the whole batch, and this job's share of them.
    render_s: float
    share_s: float


class Renderer:
    """Works off tickets on one device. `work` may be called from several threads."""

    def __init__(
        self,
        worker_id: str,
        *,
        engine: Engine,
        catalog: Catalog,
        scheduler: Scheduler,
        keeper: LeaseKeeper,
        storage: Storage,
        tickets: Tickets,
        workers: WorkerCount,
    ) -> None:
        self._id = worker_id
        self._engine = engine
        self._catalog = catalog
        self._scheduler = scheduler
        self._keeper = keeper
        self._storage = storage
        self._tickets = tickets
        self._workers = workers
        self._device = threading.Lock()
        self._tickets_held = 0
        self._count_lock = threading.Lock()
        #: Set when the worker is told to go: what is rendered is finished, nothing more is claimed.
        self.draining = False

    @property
    def is_busy(self) -> bool:
        """Whether any ticket is being worked off."""
        return self._tickets_held > 0

    def work(self, model_id: str) -> None:
        """Render and store one batch of the model, if any of its jobs waits."""
        model = self._catalog.find(model_id)
        with self._holding_a_ticket(), ExitStack() as kept:
            with self._device:
                leases = self._claim(model)
                holds = kept.enter_context(self._keeper.keep(leases))
                pictures = self._render(model, holds)
            for picture in pictures:
                self._store(picture)

    @contextmanager
    def _holding_a_ticket(self) -> Iterator[None]:
        with self._count_lock:
            self._tickets_held += 1
        try:
            yield
        finally:
            with self._count_lock:
                self._tickets_held -= 1

    def _claim(self, model: Model) -> list[Lease]:
        if self.draining:
            return []
        claim = self._scheduler.claim(model.id, self._id, max_images=model.batch_limit)
        if claim.leases and claim.queued:
            # Others, or this worker's next thread, go on with what is left.
            self._tickets.wake_renderers(model.id, queued=claim.queued, workers=self._workers.serving(model.id))
        return claim.leases

    # Rendering, with the device

    def _render(self, model: Model, holds: Sequence[Hold]) -> list[_Picture]:
        batch = []
        for hold in holds:
            try:
                batch.append((hold, self._items(hold.lease)))
            except JobFailure as failure:
                self._fail(hold, failure)
        return self._render_batch(model, batch)

    def _items(self, lease: Lease) -> list[Item]:
        request = lease.request
        try:
            input_image = self._input(request.input_image, "RGB")
            mask_image = self._input(request.mask_image, "L")
        except ObjectMissing as error:
            raise JobFailure("invalid_input", "An input image is not stored any more; submit the job again.") from error
        except StorageError as error:
            raise JobFailure("storage_unavailable", f"An input image could not be read: {error}") from error
        return [
            Item(request=request, seed=request.seed + number, input_image=input_image, mask_image=mask_image)
            for number in range(request.n)
        ]

    def _input(self, key: str | None, pixels: str) -> PillowImage.Image | None:
        return None if key is None else PillowImage.open(io.BytesIO(self._storage.get(key))).convert(pixels)

    def _render_batch(self, model: Model, batch: list[tuple[Hold, list[Item]]]) -> list[_Picture]:
        """The pictures of the batch. Where it fails, halves of it are tried, down to the job that is to blame."""
        batch = [(hold, items) for hold, items in batch if not hold.dropped]
        if not batch:
            return []
        try:
            rendered = self._run(model, batch)
        except JobFailure as failure:
            if len(batch) == 1 or failure.code == "model_unavailable":
                for hold, _ in batch:
                    self._fail(hold, failure)
                return []
            _log.warning("a batch of %d jobs failed, trying its halves: %s", len(batch), failure)
            half = len(batch) // 2
            return self._render_batch(model, batch[:half]) + self._render_batch(model, batch[half:])
        if rendered.interrupted:
            return []
        _log.info("%s: %d images of %d jobs in %.2f s", model.id, len(rendered.images), len(batch), rendered.render_s)
        metrics.BATCH_IMAGES.labels(model.id).observe(len(rendered.images))
        metrics.RENDER_SECONDS.labels(model.id).observe(rendered.render_s)
        return _share_out(batch, rendered)

    def _run(self, model: Model, batch: list[tuple[Hold, list[Item]]]) -> Rendered:
        def on_step(step: int, total: int) -> bool:
            for hold, _ in batch:
                hold.report(Stage.RENDERING, _DENOISED * step / total)
            return all(hold.dropped for hold, _ in batch)

        try:
            return self._engine.render(model, [item for _, items in batch for item in items], on_step)
        except JobFailure:
            raise
        except Exception as error:
            _log.exception("rendering failed")
            raise JobFailure(
                "render_failed", f"{type(error).__name__} while rendering; see the worker's log"
            ) from error

    # Storing, while others render

    def _store(self, picture: _Picture) -> None:
        hold, lease = picture.hold, picture.hold.lease
        hold.report(Stage.STORING, _DENOISED)
        started = time.monotonic()
        images: dict[str, Image] = {}
        try:
            for number, rendered in enumerate(picture.images):
                if hold.dropped:
                    return
                image, data = _to_image(lease, number, rendered)
                self._put(image, data)
                images[image.id] = image
        except StorageError as error:
            self._fail(hold, JobFailure("storage_unavailable", f"The pictures could not be stored: {error}"))
            return
        store_s = time.monotonic() - started
        metrics.STORE_SECONDS.labels(lease.request.model).observe(store_s)
        timings = {
            "queued_s": lease.queued_s,
            "load_s": round(picture.load_s, 3),
            "render_s": round(picture.render_s, 3),
            "store_s": round(store_s, 3),
        }
        self._keeper.settle(hold)
        self._scheduler.complete(
            lease,
            images={image.id: image.record() for image in images.values()},
            result={"images": list(images), "timings": timings},
            render_s=picture.share_s,
        )

    def _put(self, image: Image, data: bytes) -> None:
        patience = time.monotonic() + _STORAGE_PATIENCE_S
        while True:
            try:
                self._storage.put(image.key, data, CONTENT_TYPES[image.format])
                return
            except StorageError as error:
                if time.monotonic() > patience:
                    raise
                _log.warning("storage is away, trying again: %s", error)
                time.sleep(_STORAGE_PAUSE_S)

    def _fail(self, hold: Hold, failure: JobFailure) -> None:
        self._keeper.settle(hold)
        status = self._scheduler.fail(hold.lease, failure.code, failure.message, retriable=failure.kind.retriable)
        _log.warning("%s failed, now %s: %s", hold.lease.id, status or "somebody else's", failure)


def _share_out(batch: list[tuple[Hold, list[Item]]], rendered: Rendered) -> list[_Picture]:
    """Each job's pictures, and its share of the device's time, by its predicted cost."""
    cost = sum(hold.lease.cost for hold, _ in batch)
    images = iter(rendered.images)
    return [
        _Picture(
            hold,
            list(islice(images, len(items))),
            rendered.load_s,
            rendered.render_s,
            rendered.render_s * hold.lease.cost / cost,
        )
        for hold, items in batch
    ]


def _to_image(lease: Lease, number: int, rendered: PillowImage.Image) -> tuple[Image, bytes]:
    request = lease.request
    seed = request.seed + number
    data = encode(rendered, request, seed)
    image = Image(
        id=new_id("image"),
        account=lease.account,
        name=lease.name or request.prompt[:_NAME_LENGTH],
        key=f"outputs/{lease.id}/{lease.attempt}/{number}.{request.output_format}",
        width=rendered.width,
        height=rendered.height,
        format=request.output_format,
        size=len(data),
        created_at=time.time(),
        seed=seed,
        model=request.model,
        job_id=lease.id,
    )
    return image, data
