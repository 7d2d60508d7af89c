"""Following a batch: its progress, and each finished job once, however often a reader goes and comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from shared.batches import job_id
from shared.scheduler import Scheduler
from tests.fake_worker import FakeWorker
from tests.unit.api.batch_lines import Create, finish, line
from tests.unit.api.test_events import events
from worker.batching import BatchWorker


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.batch_events.PROGRESS_EVERY_S", 0.0)
    monkeypatch.setattr("api.batch_events.POLL_S", 0.05)


def follow(client: FlaskClient, batch: dict[str, Any], last_id: str | None = None, *, jobs: bool = False) -> Any:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    return client.get(f"/v1/batches/{batch['id']}/events" + "?jobs=true" * jobs, headers=headers)


def told(
    client: FlaskClient, batch: dict[str, Any], last_id: str | None = None, **options: bool
) -> list[dict[str, Any]]:
    """The events of a stream that ends by itself."""
    with follow(client, batch, last_id, **options) as answer:
        return events(answer.text)


def of_stream(answer: Any) -> Iterator[dict[str, Any]]:
    """The events of a stream as they come."""
    for piece in answer.response:
        yield from events(piece.decode())


def test_a_finished_batch_is_told_once(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([line("a")])
    done = finish(client, batching, worker, batch)
    (event,) = told(client, batch)
    assert (event["event"], event["data"]) == ("batch.completed", done)
    assert follow(client, batch, event["id"]).status_code == 204
    (again,) = told(client, batch, "an id of another service")
    assert again == event


def test_each_finished_job_is_told_before_the_batch_that_counts_it(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([line("a"), line("bad", n=99), line("b", prompt="fail: render_failed"), line("c")])
    batching.work_due()
    with follow(client, batch, jobs=True) as answer:
        stream = of_stream(answer)
        first = next(stream)
        assert (first["event"], first["data"]["request_counts"]["completed"]) == ("batch.in_progress", 0)
        worker.work()
        seen = [next(stream) for _ in range(4)]
        assert [event["event"] for event in seen] == ["job.succeeded", "job.failed", "job.succeeded", "batch.progress"]
        assert [event["data"].get("custom_id") for event in seen] == ["a", "b", "c", None]
        assert seen[0]["data"] == client.get(f"/v1/jobs/{job_id(batch['id'], 1)}").json
        assert seen[3]["data"]["request_counts"] == {"total": 4, "completed": 2, "failed": 2}
        batching.work_due()
        assert [event["event"] for event in stream] == ["batch.completed"]


def test_a_reader_that_comes_back_has_each_finished_job_once(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.batch_events._STEP", 2)
    batch = create([line(str(number)) for number in range(9)])
    finish(client, batching, worker, batch)
    had: list[str] = []
    last_id: str | None = None
    for taken in (1, 3, 2, 1, 2):
        # It is cut off after so many events.
        with follow(client, batch, last_id, jobs=True) as answer:
            for event in [event for _, event in zip(range(taken), of_stream(answer), strict=False)]:
                had.append(event["data"]["custom_id"])
                last_id = event["id"]
    (rest,) = told(client, batch, last_id, jobs=True)
    assert had == [str(number) for number in range(9)]
    assert rest["event"] == "batch.completed"
    assert follow(client, batch, rest["id"], jobs=True).status_code == 204


def test_an_end_that_came_while_nobody_read_has_its_name(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create
) -> None:
    batch = create([line("a")])
    batching.work_due()
    with follow(client, batch) as answer:
        last_id = next(of_stream(answer))["id"]
    worker.work()
    batching.work_due()
    assert [event["event"] for event in told(client, batch, last_id)] == ["batch.completed"]


def test_jobs_past_their_retention_are_passed_over(
    client: FlaskClient, batching: BatchWorker, worker: FakeWorker, create: Create, redis: Redis
) -> None:
    batch = create([line("a"), line("b")])
    finish(client, batching, worker, batch)
    redis.delete(f"rm:job:{job_id(batch['id'], 1)}")
    assert [event["data"].get("custom_id") for event in told(client, batch, jobs=True)] == ["b", None]
    redis.delete(f"rm:job:{job_id(batch['id'], 2)}")
    (end,) = told(client, batch, jobs=True)
    assert follow(client, batch, end["id"], jobs=True).status_code == 204


def test_jobs_that_ended_without_a_worker_are_told(
    client: FlaskClient, batching: BatchWorker, create: Create, redis: Redis
) -> None:
    batch = create([line("a"), line("b")])
    batching.work_due()
    Scheduler(redis, lease_s=60, max_attempts=1, retry_delay_s=1).cancel(job_id(batch["id"], 2), "alice")
    client.post(f"/v1/batches/{batch['id']}/cancel")
    batching.work_due()
    assert [(event["event"], event["data"].get("custom_id")) for event in told(client, batch, jobs=True)] == [
        ("job.canceled", "b"),
        ("job.canceled", "a"),
        ("batch.cancelled", None),
    ]


def test_what_is_asked_of_the_stream_is_checked(client: FlaskClient, create: Create) -> None:
    batch = create([line("a")])
    refused = client.get(f"/v1/batches/{batch['id']}/events?jobs=yes")
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "jobs")


@pytest.mark.parametrize(("after", "status"), [("9" * 19, 400), ("x", 422), ("7", 200)])
def test_a_cursor_of_finished_jobs_that_no_page_gave_is_refused(
    client: FlaskClient, create: Create, after: str, status: int
) -> None:
    batch = create([line("a")])
    answer = client.get(f"/v1/jobs?batch={batch['id']}&order=finished&after={after}")
    assert answer.status_code == status, json.dumps(answer.json)
