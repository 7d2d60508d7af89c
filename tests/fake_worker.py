"""A render worker that paints one colour, so that the front door can be tested without rendering."""

from __future__ import annotations

import io

from PIL import Image as Pillow
from redis import Redis

from shared.answers import Progress
from shared.ids import new_id
from shared.images import Image
from shared.jobs import Lease, Stage
from shared.outputs import output_key
from shared.scheduler import Scheduler
from shared.storage import CONTENT_TYPES, Storage


class FakeWorker:
    """Claims jobs of all models and finishes each as its prompt says.

    `fail: <code>` fails, `fail once: <code>` does so the first time, `hold` never ends.
    """

    def __init__(self, redis: Redis, storage: Storage) -> None:
        self._redis = redis
        self._scheduler = Scheduler(redis, lease_s=60, max_attempts=1, retry_delay_s=1)
        self._storage = storage
        self._failed: set[str] = set()

    def work(self) -> int:
        """Finish what is queued; how many jobs that were."""
        done = 0
        for model, queued in self._scheduler.queued().items():
            while queued:
                claim = self._scheduler.claim(model, "fake", max_images=8)
                for lease in claim.leases:
                    self._finish(lease)
                done += len(claim.leases)
                queued = claim.queued if claim.leases else 0
        return done

    def _finish(self, lease: Lease) -> None:
        self._scheduler.renew({lease: Progress(Stage.RENDERING, 0.5)})
        prompt = lease.request.prompt
        if prompt == "hold":
            return
        fails, _, code = prompt.partition(": ")
        if fails == "fail" or (fails == "fail once" and prompt not in self._failed):
            self._failed.add(prompt)
            self._scheduler.fail(lease, code, "it went wrong", retriable=False)
            return
        images = [self._paint(lease, number) for number in range(lease.request.n)]
        self._scheduler.complete(
            lease,
            images={image.id: image.record() for image in images},
            result={"images": [image.id for image in images], "timings": {"render_s": 0.25}},
            render_s=0.25,
        )

    def _paint(self, lease: Lease, number: int) -> Image:
        asked = lease.request
        buffer = io.BytesIO()
        Pillow.new("RGB", (asked.width, asked.height), "navy").save(buffer, asked.output_format.upper())
        image = Image(
            id=new_id("image"),
            account=lease.account,
            name=lease.name or "untitled",
            key=output_key(lease.id, lease.attempt, number, asked.output_format),
            width=asked.width,
            height=asked.height,
            format=asked.output_format,
            size=len(buffer.getvalue()),
            created_at=float(self._redis.time()[0]),
            seed=asked.seed + number,
            model=asked.model,
            job_id=lease.id,
        )
        self._storage.put(image.key, buffer.getvalue(), CONTENT_TYPES[image.format])
        return image
