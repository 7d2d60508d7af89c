"""Handing jobs in, looking at them, calling them off."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.fake_worker import FakeWorker
from tests.memory_storage import MemoryStorage
from tests.unit.api import pictures
from tests.unit.api.conftest import Post


def test_a_job_is_accepted_with_everything_that_was_asked(client: FlaskClient, tickets: list[tuple[str, str]]) -> None:
    body = {
        "model": "sdxl-lightning",
        "prompt": "ein Fuchs 🦊",
        "negative_prompt": "blue",
        "width": 512,
        "height": 768,
        "num_steps": 4,
        "guidance_scale": 2,
        "seed": 7,
        "n": 3,
        "output_format": "webp",
        "output_quality": 80,
        "name": "fox",
        "priority": "high",
        "webhook_url": "https://example.com/hook",
        "webhook_events": ["job.failed", "batch.completed"],
        "metadata": {"ticket": "42"},
        "deadline_s": 60,
    }
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    job = answer.json
    assert re.fullmatch(r"job_[A-Za-z0-9]{24}", job["id"])
    assert answer.headers["Location"] == job["urls"]["self"] == f"http://farm.test/v1/jobs/{job['id']}"
    shown = {name: value for name, value in body.items() if name in job["input"] and name != "model"}
    assert {name: job["input"][name] for name in shown} == shown
    assert (job["object"], job["status"], job["stage"]) == ("job", "queued", "waiting")
    assert (job["progress"], job["queue_position"], job["images"], job["error"]) == (0, 0, [], None)
    assert job["model"] == "ByteDance/SDXL-Lightning"
    for name in ("name", "priority", "metadata", "deadline_s", "webhook_url", "webhook_events"):
        assert job[name] == body[name], name
    assert tickets == [("render", "render.ByteDance/SDXL-Lightning")]
    assert client.get(f"/v1/jobs/{job['id']}").json == job


def test_a_job_is_told_its_place_when_it_is_accepted(client: FlaskClient, submit: Post) -> None:
    places = []
    for _ in range(3):
        job = submit().json
        places.append(job["queue_position"])
        assert client.get(f"/v1/jobs/{job['id']}").json == job
    assert places == [0, 1, 2]


def test_a_ticket_is_published_only_where_too_few_wait(
    submit: Post, redis: Redis, tickets: list[tuple[str, str]]
) -> None:
    queue = "render.ByteDance/SDXL-Lightning"
    submit()
    assert tickets == [("render", queue)]
    redis.rpush(queue, "the ticket")
    submit()
    assert len(tickets) == 1
    redis.delete(queue)
    submit()
    assert len(tickets) == 2


def test_what_is_left_out_and_what_is_null_are_the_same(submit: Post) -> None:
    nulls = dict.fromkeys(
        [
            *("negative_prompt", "num_steps", "guidance_scale", "n", "input_image", "mask_image", "strength"),
            *("output_format", "output_quality", "name", "priority", "webhook_url", "webhook_events", "metadata"),
            "deadline_s",
        ]
    )
    assert submit(seed=1, **nulls).json["input"] == submit(seed=1).json["input"]


def test_a_webhook_is_shown_where_there_is_one(submit: Post) -> None:
    assert not submit().json.keys() & {"webhook_url", "webhook_events"}
    all_ends = ["job.succeeded", "job.failed", "job.canceled", "job.expired"]
    assert submit(webhook_url="https://example.com/").json["webhook_events"] == all_ends
    assert submit(webhook_url="https://example.com/", webhook_events=[]).json["webhook_events"] == []


def test_a_random_seed_is_told(submit: Post) -> None:
    seeds = {submit().json["input"]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_ticket_that_cannot_be_published_does_not_fail_the_request(
    submit: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RedisConnectionError("the broker is away")

    monkeypatch.setattr("shared.tickets.Tickets.wake_renderers", fails)
    assert submit().status_code == 202
    assert "the broker is away" in caplog.text


def test_a_finished_job_shows_its_images(client: FlaskClient, submit: Post, worker: FakeWorker) -> None:
    job_id = submit(n=2, seed=5, name="fox").json["id"]
    worker.work()
    job = client.get(f"/v1/jobs/{job_id}").json
    assert (job["status"], job["stage"], job["progress"]) == ("succeeded", "done", 1)
    assert [image["seed"] for image in job["images"]] == [5, 6]
    assert {image["name"] for image in job["images"]} == {"fox"}
    assert job["urls"]["images"] == [f"http://farm.test/v1/images/{image['id']}/download" for image in job["images"]]
    files = [client.get(address.removeprefix("http://farm.test")) for address in job["urls"]["images"]]
    assert [file.content_type for file in files] == ["image/jpeg"] * 2
    assert client.get("/v1/images").json["data"][0]["job_id"] == job_id


def test_an_unchanged_job_is_304(client: FlaskClient, submit: Post, worker: FakeWorker) -> None:
    address = f"/v1/jobs/{submit().json['id']}"
    tag = client.get(address).headers["ETag"]
    same = client.get(address, headers={"If-None-Match": tag})
    assert (same.status_code, same.data) == (304, b"")
    worker.work()
    assert client.get(address, headers={"If-None-Match": tag}).status_code == 200


def test_the_webhook_of_a_queued_job_that_is_cancelled_goes_out_at_once(
    client: FlaskClient, submit: Post, redis: Redis
) -> None:
    job_id = submit(webhook_url="https://example.com/hook").json["id"]
    client.post(f"/v1/jobs/{job_id}/cancel")
    assert redis.llen("rm:wake_ups") == 1


def test_a_queued_job_is_cancelled_at_once_and_a_finished_one_stays(
    client: FlaskClient, submit: Post, worker: FakeWorker
) -> None:
    first, second = submit().json["id"], submit(prompt="hold").json["id"]
    answer = client.post(f"/v1/jobs/{first}/cancel")
    assert (answer.status_code, answer.json["status"]) == (200, "canceled")
    assert client.post(f"/v1/jobs/{first}/cancel").json["status"] == "canceled"
    worker.work()
    running = client.post(f"/v1/jobs/{second}/cancel").json
    assert (running["status"], running["stage"]) == ("running", "canceling")


def test_an_unknown_job_is_404_and_a_removed_one_410(client: FlaskClient, redis: Any) -> None:
    assert client.get("/v1/jobs/job_unknown").status_code == 404
    redis.set("rm:gone:job_old", "alice")
    for answer in (client.get("/v1/jobs/job_old"), client.post("/v1/jobs/job_old/cancel")):
        assert (answer.status_code, answer.json["code"]) == (410, "gone")


def test_pages_hold_every_job_once_newest_first(client: FlaskClient, submit: Post) -> None:
    made = [submit().json["id"] for _ in range(5)]
    seen, address = [], "/v1/jobs?limit=2&status=queued"
    while address:
        page = client.get(address).json
        assert page["object"] == "list"
        assert page["has_more"] == (page["links"]["next"] is not None)
        seen += [job["id"] for job in page["data"]]
        address = page["links"]["next"]
        if address:
            assert address.startswith("http://farm.test/v1/jobs?")
            assert f"after={page['after']}" in address
            assert "status=queued" in address
    assert seen == made[::-1]


def test_statuses_are_repeated_or_separated_by_commas(client: FlaskClient, submit: Post, worker: FakeWorker) -> None:
    done = submit().json["id"]
    worker.work()
    waiting = submit().json["id"]
    canceled = submit().json["id"]
    client.post(f"/v1/jobs/{canceled}/cancel")

    def listed(query: str) -> set[str]:
        return {job["id"] for job in client.get(f"/v1/jobs?{query}").json["data"]}

    assert listed("status=succeeded") == {done}
    assert listed("status=succeeded,queued") == listed("status=succeeded&status=queued") == {done, waiting}
    assert listed("") == {done, waiting, canceled}


def test_an_unknown_batch_is_404(client: FlaskClient) -> None:
    assert client.get("/v1/jobs?batch=batch_1").status_code == 404


# Idempotency


@pytest.mark.parametrize(("first", "second"), [('"abc"', '"abc"'), ("abc", "abc"), ('"abc"', "abc")])
def test_a_repeated_request_gets_the_same_job(submit: Post, storage: MemoryStorage, first: str, second: str) -> None:
    body = {"input_image": pictures.base64_text(pictures.png())}
    made = submit({"Idempotency-Key": first}, **body)
    stored = set(storage.objects)
    again = submit({"Idempotency-Key": second}, **body)
    assert (made.status_code, again.status_code) == (202, 202)
    assert again.json["id"] == made.json["id"]
    assert "Idempotent-Replayed" not in made.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert set(storage.objects) == stored


def test_the_same_key_with_another_body_is_422(submit: Post, storage: MemoryStorage) -> None:
    submit({"Idempotency-Key": "abc"})
    answer = submit({"Idempotency-Key": "abc"}, prompt="another", input_image=pictures.base64_text(pictures.png()))
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_mismatch")
    assert not storage.objects


def test_of_two_requests_at_the_same_time_one_leaves_no_images(
    submit: Post, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"input_image": pictures.base64_text(pictures.png())}
    made = submit({"Idempotency-Key": "abc"}, **body)
    stored = set(storage.objects)
    # The other request has looked before this one was accepted.
    monkeypatch.setattr("shared.scheduler.Scheduler.replayed", lambda *_: None)
    again = submit({"Idempotency-Key": "abc"}, **body)
    assert again.json["id"] == made.json["id"]
    assert set(storage.objects) == stored
    mismatch = submit({"Idempotency-Key": "abc"}, prompt="another", **body)
    assert mismatch.status_code == 422
    assert set(storage.objects) == stored


def test_another_accounts_key_is_another_key(submit: Post, stranger: dict[str, str]) -> None:
    mine = submit({"Idempotency-Key": "abc"})
    theirs = submit({"Idempotency-Key": "abc", **stranger}, prompt="another")
    assert (mine.status_code, theirs.status_code) == (202, 202)


def test_a_key_on_another_route_is_another_key(client: FlaskClient, submit: Post) -> None:
    headers = {"Idempotency-Key": "abc", "Prefer": "respond-async"}
    made = submit(headers)
    for path, body in (
        ("/v1/images/generations", {"prompt": "a red fox", "response_format": "b64_json"}),
        ("/v1/images/imagine", {"name": "fox", "prompt": "a red fox"}),
    ):
        first, again = (client.post(path, json=body, headers=headers) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202), first.text
        assert first.json["id"] == again.json["id"] != made.json["id"]


def test_a_slash_at_the_end_makes_no_other_route(client: FlaskClient, submit: Post) -> None:
    body = {"model": "sdxl-lightning", "prompt": "a red fox", "width": 256, "height": 256}
    made = submit({"Idempotency-Key": "abc"})
    again = client.post("/v1/jobs/", json=body, headers={"Idempotency-Key": "abc"})
    assert again.json["id"] == made.json["id"]


@pytest.mark.parametrize("given", ["", '""', "x" * 256, 'a"b', "schlüssel"])
def test_a_malformed_idempotency_key_is_422(submit: Post, given: str) -> None:
    answer = submit({"Idempotency-Key": given})
    assert answer.status_code == 422
    assert list(answer.json["errors"]) == ["Idempotency-Key"]
