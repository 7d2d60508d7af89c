"""Following a job."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.answers import Progress
from shared.jobs import Stage
from shared.scheduler import Scheduler
from tests.fake_worker import FakeWorker
from tests.unit.api.conftest import Post

MODEL = "ByteDance/SDXL-Lightning"


def follow(client: FlaskClient, job_id: str, last_id: str | None = None) -> Any:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    return client.get(f"/v1/jobs/{job_id}/events", headers=headers)


def events(text: str) -> list[dict[str, Any]]:
    """The events of a whole stream, comments left out."""
    found = []
    for block in text.split("\n\n"):
        lines = [line.partition(": ")[::2] for line in block.splitlines() if not line.startswith(":")]
        if lines:
            event: dict[str, Any] = dict(lines)
            found.append({**event, "data": json.loads(event["data"])})
    return found


def seen_events(client: FlaskClient, job_id: str, last_id: str | None = None) -> list[dict[str, Any]]:
    """The events of a stream that ends by itself."""
    with follow(client, job_id, last_id) as answer:
        assert answer.content_type == "text/event-stream"
        return events(answer.text)


@pytest.mark.usefixtures("working")
def test_a_job_is_followed_to_its_end(client: FlaskClient, submit: Post) -> None:
    job_id = submit().json["id"]
    with follow(client, job_id) as answer:
        assert answer.headers["X-Accel-Buffering"] == "no"
        seen = events(answer.text)
    assert seen[-1]["event"] == "job.succeeded"
    assert seen[-1]["data"] == client.get(f"/v1/jobs/{job_id}").json
    assert {event["data"]["id"] for event in seen} == {job_id}
    assert [event["id"] for event in seen] == sorted({event["id"] for event in seen})


def test_a_fresh_follower_gets_the_job_as_it_is_and_nothing_twice(
    client: FlaskClient, submit: Post, redis: Any
) -> None:
    job_id = submit().json["id"]
    scheduler = Scheduler(redis, lease_s=60, max_attempts=1, retry_delay_s=1)
    lease = scheduler.claim(MODEL, "w", max_images=1).leases[0]
    scheduler.renew({lease: Progress(Stage.RENDERING, 0.25)})
    answer = follow(client, job_id)
    stream = iter(answer.response)
    first = events(next(stream).decode())[0]
    assert (first["event"], first["data"]["progress"]) == ("job.running", 0.25)
    scheduler.renew({lease: Progress(Stage.RENDERING, 0.5)})
    second = events(next(stream).decode())[0]
    assert (second["event"], second["data"]["progress"]) == ("job.progress", 0.5)
    scheduler.complete(lease, images={}, result={"images": []}, render_s=None)
    assert [event["event"] for event in events("".join(piece.decode() for piece in stream))] == ["job.succeeded"]
    answer.close()


def test_a_follower_that_comes_back_goes_on_where_it_was(client: FlaskClient, submit: Post, redis: Any) -> None:
    job_id = submit().json["id"]
    scheduler = Scheduler(redis, lease_s=60, max_attempts=1, retry_delay_s=1)
    lease = scheduler.claim(MODEL, "w", max_images=1).leases[0]
    for progress in (0.25, 0.5):
        scheduler.renew({lease: Progress(Stage.RENDERING, progress)})
    stream = client.application.extensions["rendermill"].events.since(job_id, "0")
    answer = follow(client, job_id, stream[0].id)
    missed = iter(answer.response)
    for event, progress in zip(stream[1:], (0.25, 0.5), strict=True):
        told = events(next(missed).decode())[0]
        assert (told["event"], told["id"]) == ("job.progress", event.id)
        assert (told["data"]["status"], told["data"]["progress"]) == ("running", progress)
    answer.close()


def test_a_follower_that_comes_back_after_the_end_is_told_the_end(
    client: FlaskClient, submit: Post, redis: Any
) -> None:
    job_id = submit().json["id"]
    scheduler = Scheduler(redis, lease_s=60, max_attempts=1, retry_delay_s=1)
    lease = scheduler.claim(MODEL, "w", max_images=1).leases[0]
    answer = follow(client, job_id)
    seen = events(next(iter(answer.response)).decode())[0]["id"]
    answer.close()
    scheduler.renew({lease: Progress(Stage.RENDERING, 0.5)})
    scheduler.complete(lease, images={}, result={"images": []}, render_s=None)
    for last_id in (seen, None, "0", "1795232200000-0", "nonsense"):
        [end] = seen_events(client, job_id, last_id)
        assert end["event"] == "job.succeeded"
        assert end["data"] == client.get(f"/v1/jobs/{job_id}").json


def test_a_follower_that_saw_the_end_need_not_come_back(client: FlaskClient, submit: Post, worker: FakeWorker) -> None:
    job_id = submit().json["id"]
    worker.work()
    last = seen_events(client, job_id)[-1]
    answer = follow(client, job_id, last["id"])
    assert (answer.status_code, answer.data) == (204, b"")


def test_a_cancelled_job_ends_the_stream(client: FlaskClient, submit: Post) -> None:
    job_id = submit().json["id"]
    answer = follow(client, job_id)
    stream = iter(answer.response)
    assert events(next(stream).decode())[0]["event"] == "job.queued"
    client.application.test_client().post(f"/v1/jobs/{job_id}/cancel", headers=dict(auth(client)))
    assert [event["event"] for event in events("".join(piece.decode() for piece in stream))] == ["job.canceled"]
    answer.close()


def auth(client: FlaskClient) -> list[tuple[str, str]]:
    return [("Authorization", client.environ_base["HTTP_AUTHORIZATION"])]


def test_a_silent_job_shows_that_the_stream_lives(
    client: FlaskClient, submit: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.events.POLL_S", 0.05)
    answer = follow(client, submit().json["id"])
    stream = iter(answer.response)
    next(stream)
    assert next(stream).startswith(b":")
    answer.close()
