"""The peer of a farm with many workers: a plain Celery application that renders a picture a task.

`python -m bench.sleeping_peer URL` runs one of its workers, with the settings of S3 in the environment.
"""

from __future__ import annotations

import io
import sys
import time

from celery import Celery

from bench.synthetic_farm import CATALOG, synthetic_job
from shared.settings import settings
from shared.storage import CONTENT_TYPES, Storage
from worker.engine import Item
from worker.synthetic import SyntheticEngine

TASK = "generate"
_MODEL = CATALOG.models["synthetic-1"]
#: One task at a time, as one does with a GPU, and without what costs and is not needed.
_OPTIONS = ("--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING")


def application(url: str) -> Celery:
    """The application, with Celery's defaults and a result backend."""
    app = Celery("peer", broker=url, backend=url, set_as_current=False)
    app.conf.update(broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1)
    engine, storage = SyntheticEngine([_MODEL]), Storage(settings())

    @app.task(name=TASK, shared=False)  # type: ignore[untyped-decorator]
    def generate(seed: int) -> list[float]:
        started = time.time()
        request = synthetic_job(_MODEL, seed).request
        (picture,) = engine.render(_MODEL, [Item(request, seed)], lambda *_: False).images
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=request.output_quality)
        storage.put(f"outputs/{seed}.jpeg", out.getvalue(), CONTENT_TYPES["jpeg"])
        return [started, time.time()]

    return app


if __name__ == "__main__":
    application(sys.argv[1]).worker_main(["worker", f"--hostname={sys.argv[2]}@%h", *_OPTIONS])
