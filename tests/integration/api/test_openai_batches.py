"""The official OpenAI SDK drives batches, unchanged, on a real Valkey and S3."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types import Batch

from shared.scheduler import Scheduler
from tests.background import working_on
from tests.integration.api.conftest import Farm
from tests.servers import wait_until
from worker.batching import batch_worker


@pytest.fixture(scope="module")
def sdk(live: Farm) -> Iterator[OpenAI]:
    """A client of a farm that works on batches."""
    scheduler = Scheduler(live.redis, lease_s=60, max_attempts=1, retry_delay_s=1)
    worker = batch_worker(live.settings, live.redis, scheduler, live.storage)
    with working_on(worker.work_due), OpenAI(api_key=live.key, base_url=live.url + "/v1", max_retries=0) as client:
        yield client


def lines(count: int, **body: object) -> bytes:
    asked = [{"prompt": f"fox {number}", "size": "256x256", **body} for number in range(count)]
    rows = [
        {"custom_id": f"fox-{number}", "method": "POST", "url": "/v1/images/generations", "body": body}
        for number, body in enumerate(asked)
    ]
    return "\n".join(json.dumps(row) for row in rows).encode()


def finished(sdk: OpenAI, batch: Batch) -> Batch:
    ends = ("completed", "failed", "expired", "cancelled")
    wait_until(lambda: sdk.batches.retrieve(batch.id).status in ends, "the batch is finished")
    return sdk.batches.retrieve(batch.id)


def test_a_batch_from_upload_to_parsed_output(sdk: OpenAI, live: Farm) -> None:
    file = sdk.files.create(file=("foxes.jsonl", lines(40)), purpose="batch")
    assert (file.filename, file.purpose, file.status) == ("foxes.jsonl", "batch", "processed")
    batch = sdk.batches.create(
        input_file_id=file.id,
        endpoint="/v1/images/generations",
        completion_window="24h",
        metadata={"for": "a test"},
        extra_body={"priority": "normal"},
    )
    assert batch.status in ("validating", "in_progress")
    done = finished(sdk, batch)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 40, "completed": 40, "failed": 0}
    assert done.output_file_id is not None
    output = [json.loads(text) for text in sdk.files.content(done.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in output] == [f"fox-{number}" for number in range(40)]
    picture = httpx.get(output[0]["response"]["body"]["data"][0]["url"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    archive = httpx.get(f"{live.url}/v1/batches/{done.id}/archive", headers={"x-api-key": live.key})
    with zipfile.ZipFile(io.BytesIO(archive.content)) as bundle:
        assert bundle.testzip() is None
        assert len(bundle.namelist()) == 41
    assert sdk.files.delete(file.id).deleted


def test_a_batch_is_cancelled(sdk: OpenAI, live: Farm) -> None:
    file = sdk.files.create(file=("held.jsonl", lines(3, prompt="hold")), purpose="batch")
    batch = sdk.batches.create(input_file_id=file.id, endpoint="/v1/images/generations", completion_window="24h")

    def running() -> bool:
        asked = {"batch": batch.id, "status": "running"}
        jobs = httpx.get(f"{live.url}/v1/jobs", params=asked, headers={"x-api-key": live.key}).json()
        return bool(jobs["data"])

    # One whose jobs all wait still would be over at once, and its file free.
    wait_until(running, "a job that never ends is running")
    assert sdk.batches.cancel(batch.id).status == "cancelling"
    with pytest.raises(openai.ConflictError):
        sdk.files.delete(file.id)


def test_lists_are_paged(sdk: OpenAI) -> None:
    files = [sdk.files.create(file=(f"{number}.jsonl", lines(1)), purpose="batch") for number in range(3)]
    batches = [
        sdk.batches.create(input_file_id=file.id, endpoint="/v1/images/generations", completion_window="24h")
        for file in files
    ]
    assert [batch.id for batch in sdk.batches.list(limit=2)][:3] == [batch.id for batch in reversed(batches)]
    assert {file.id for file in files} <= {file.id for file in sdk.files.list(purpose="batch", limit=2)}
    assert sdk.files.retrieve(files[0].id).bytes == len(lines(1))


def test_errors_are_the_right_exceptions(sdk: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        sdk.batches.retrieve("batch_nothing")
    with pytest.raises(openai.NotFoundError):
        sdk.files.content("file_nothing")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.files.create(file=("x.jsonl", b"{}"), purpose="fine-tune")
    assert refused.value.param == "purpose"


def test_a_large_file_streams_through_to_s3(sdk: OpenAI) -> None:
    data = b'{"a": "' + b"x" * (9 * 2**20) + b'"}\n'
    file = sdk.files.create(file=("large.jsonl", data * 3), purpose="batch")
    assert file.bytes == 3 * len(data)
    assert sdk.files.content(file.id).content == data * 3
    batch = sdk.batches.create(input_file_id=file.id, endpoint="/v1/images/generations", completion_window="24h")
    done = finished(sdk, batch)
    assert done.status == "failed"
    assert done.errors is not None
    assert {error.code for error in done.errors.data or []} == {"line_too_long"}
