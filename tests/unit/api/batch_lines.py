"""Lines of batch files, and the way of a batch through a farm in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient

from tests.fake_worker import FakeWorker
from worker.batching import BatchWorker

IMAGES = "/v1/images/generations"
Create = Callable[..., dict[str, Any]]


def line(custom_id: str, url: str = IMAGES, **body: Any) -> dict[str, Any]:
    asked = {"prompt": f"a {custom_id}", "size": "256x256", **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": asked}


def job_line(custom_id: str, **body: Any) -> dict[str, Any]:
    asked = {"model": "sdxl-lightning", "prompt": f"a {custom_id}", "width": 256, "height": 256, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/jobs", "body": asked}


def finish(client: FlaskClient, batching: BatchWorker, worker: FakeWorker, batch: dict[str, Any]) -> dict[str, Any]:
    """Let everything that can be done happen; the batch afterwards."""
    batching.work_due()
    worker.work()
    batching.work_due()
    return dict(client.get(f"/v1/batches/{batch['id']}").json)


def content(client: FlaskClient, file_id: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in client.get(f"/v1/files/{file_id}/content").data.splitlines()]
