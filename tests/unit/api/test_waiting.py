"""Clients that wait."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.waiting import Preference, Waiters, preference
from tests.unit.api.conftest import Post


@pytest.mark.parametrize(
    ("header", "expected", "applied"),
    [
        ("wait=5", Preference(5, False), "wait=5"),
        ("Wait = 5", Preference(5, False), "wait=5"),
        ('wait="5"', Preference(5, False), "wait=5"),
        ("wait=5; why=not", Preference(5, False), "wait=5"),
        ("respond-async", Preference(None, True), "respond-async"),
        ("respond-async, wait=10", Preference(10, True), "respond-async, wait=10"),
        ("wait=10, wait=20", Preference(10, False), "wait=10"),
        ("wait=301", Preference(300, False), "wait=300"),
        ("wait=0", Preference(None, False), None),
        ("wait=-1", Preference(None, False), None),
        ("wait=soon", Preference(None, False), None),
        ("wait", Preference(None, False), None),
        ("return=minimal", Preference(None, False), None),
        ("", Preference(None, False), None),
    ],
)
def test_a_preference_is_understood_or_passed_over(
    app: Flask, header: str, expected: Preference, applied: str | None
) -> None:
    with app.test_request_context(headers={"Prefer": header}):
        assert preference() == expected
        assert preference().applied().get("Preference-Applied") == applied


@pytest.mark.usefixtures("working")
def test_a_client_that_waits_gets_the_finished_job_with_201(submit: Post) -> None:
    answer = submit({"Prefer": "wait=5"})
    assert (answer.status_code, answer.json["status"]) == (201, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=5"
    assert answer.headers["Location"].endswith(answer.json["id"])


@pytest.mark.usefixtures("working")
def test_a_job_that_fails_while_its_client_waits_is_201_as_well(submit: Post) -> None:
    answer = submit({"Prefer": "wait=5"}, prompt="fail: out_of_memory")
    assert (answer.status_code, answer.json["status"]) == (201, "failed")
    assert answer.json["error"] == {"code": "out_of_memory", "message": "it went wrong"}


def test_a_client_whose_time_is_up_gets_the_job_as_it_is_with_202(submit: Post) -> None:
    started = time.monotonic()
    answer = submit({"Prefer": "wait=1"})
    assert time.monotonic() - started > 0.9
    assert (answer.status_code, answer.json["status"]) == (202, "queued")


def test_a_client_that_does_not_want_to_wait_is_told_so(submit: Post) -> None:
    answer = submit({"Prefer": "respond-async"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "respond-async")


def test_some_threads_are_kept_for_clients_that_do_not_wait() -> None:
    waiters = Waiters(8)
    held = [waiters.try_hold() for _ in range(8)]
    assert held == [True] * 6 + [False] * 2
    waiters.release()
    assert waiters.try_hold()


def test_a_single_thread_may_be_held() -> None:
    assert Waiters(1).try_hold()


@pytest.fixture
def full(app: Flask) -> Any:
    """All places taken."""
    waiters: Waiters = app.extensions["rendermill"].waiters
    held = 0
    while waiters.try_hold():
        held += 1
    yield
    for _ in range(held):
        waiters.release()


@pytest.mark.usefixtures("full")
def test_where_too_many_wait_a_job_is_accepted_all_the_same(submit: Post) -> None:
    answer = submit({"Prefer": "wait=5"})
    assert (answer.status_code, answer.json["status"]) == (202, "queued")
    assert "Preference-Applied" not in answer.headers


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/imagine", {"name": "x", "prompt": "x"}),
        ("/v1/images/generations", {"prompt": "x", "response_format": "b64_json"}),
        ("/v1/images/generations", {"prompt": "x", "stream": True}),
        ("/v1/image/generation", {"model_name": "sdxl-lightning", "prompt": "x"}),
    ],
)
def test_where_too_many_wait_the_dialects_refuse_before_anything_is_accepted(
    client: FlaskClient, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/v1/jobs").json["data"] == []
    assert client.post(path, json={**body, "stream": None} if "stream" in body else body).status_code == 503
    if "stream" not in body:
        assert client.post(path, json=body, headers={"Prefer": "respond-async"}).status_code == 202


@pytest.mark.usefixtures("full")
def test_where_too_many_wait_events_are_refused(client: FlaskClient, submit: Post) -> None:
    answer = client.get(f"/v1/jobs/{submit().json['id']}/events")
    assert (answer.status_code, answer.json["code"]) == (503, "busy")


def test_a_place_is_given_back_whatever_happens(app: Flask, submit: Post, client: FlaskClient) -> None:
    waiters: Waiters = app.extensions["rendermill"].waiters
    submit({"Prefer": "wait=1"}, prompt="")
    client.post("/v1/images/generations", json={"prompt": "x", "stream": True, "size": "1x1"})
    client.get("/v1/jobs/job_nothing/events")
    held = [waiters.try_hold() for _ in range(6)]
    for _ in held:
        waiters.release()
    assert all(held)


@pytest.mark.usefixtures("working")
def test_many_wait_at_the_same_time(app: Flask, key: str) -> None:
    statuses: list[int] = []

    def ask() -> None:
        body = {"model": "sdxl-lightning", "prompt": "x", "width": 256, "height": 256}
        headers = {"x-api-key": key, "Prefer": "wait=5"}
        statuses.append(app.test_client().post("/v1/jobs", json=body, headers=headers).status_code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 6
