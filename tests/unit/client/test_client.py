"""client.Client against a farm that is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from client import ApiError, Client, Unreachable, WaitTimeout

Handler = Callable[[httpx.Request], httpx.Response]


def _client(handler: Handler) -> Client:
    return Client("http://farm", "rm_key", transport=httpx.MockTransport(handler))


def _job(status: str = "queued", **more: Any) -> dict[str, Any]:
    return {"id": "job_1", "object": "job", "status": status, "model": "m", "images": [], **more}


def _naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client sleeps, without sleeping."""
    naps: list[float] = []
    monkeypatch.setattr("client.client.time", SimpleNamespace(sleep=naps.append))
    return naps


def test_a_job_is_submitted_with_the_key_and_its_idempotency_key() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202, json=_job())

    with _client(handler) as farm:
        job = farm.submit({"prompt": "a cat"}, wait_s=30, idempotency_key="once")
    assert (job.id, job.status, job.finished) == ("job_1", "queued", False)
    assert seen[0].headers["authorization"] == "Bearer rm_key"
    assert seen[0].headers["idempotency-key"] == "once"
    assert seen[0].headers["prefer"] == "wait=30"
    assert json.loads(seen[0].content) == {"prompt": "a cat"}


def test_wait_asks_until_the_job_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = _naps(monkeypatch)
    answers = iter(["queued", "running", "running", "succeeded"])
    image = {
        "id": "image_1",
        "format": "png",
        "width": 8,
        "height": 8,
        "size": 9,
        "created_at": "now",
        "later": "field",
    }

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=_job(next(answers), images=[image]))

    with _client(handler) as farm:
        job = farm.wait("job_1")
    assert job.status == "succeeded"
    assert job.images[0].id == "image_1"
    assert len(waits) == 3
    assert waits == sorted(waits)


def test_wait_gives_up_when_its_time_is_over() -> None:
    with (
        _client(lambda _: httpx.Response(200, json=_job())) as farm,
        pytest.raises(WaitTimeout, match="job_1 is queued"),
    ):
        farm.wait("job_1", timeout_s=0.05)


def test_lists_go_on_over_pages_until_the_limit() -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        number = len(asked)
        following = f"http://farm/v1/jobs?after=job_{number}"
        return httpx.Response(200, json={"data": [_job(), _job()], "links": {"next": following}})

    with _client(handler) as farm:
        assert len(list(farm.jobs(status="queued", limit=3))) == 3
    assert asked == ["http://farm/v1/jobs?status=queued&limit=3", "http://farm/v1/jobs?after=job_1"]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (
            {"code": "invalid", "title": "Wrong", "detail": "Wrong: n.", "errors": {"n": ["must be at most 10"]}},
            "invalid",
            "Wrong: n. (n: must be at most 10)",
        ),
        (
            {"error": "Validation Error", "message": "Wrong: name.", "errors": ["name: too long", "seed: below 0"]},
            "422",
            "Wrong: name. (name: too long; seed: below 0)",
        ),
        (
            {"detail": "a: is wrong; b: is missing.", "errors": {"a": ["is wrong."], "b": ["is missing."]}},
            "422",
            "a: is wrong; b: is missing.",
        ),
        ({"detail": "No model 'x'.", "errors": {"model": ["No model 'x'."]}}, "422", "No model 'x'."),
        ({"error": {"message": "Bad size", "type": "invalid_request_error", "code": None}}, "422", "Bad size"),
        ({"error": "Bad size"}, "422", "Bad size"),
        ({"message": "Bad size"}, "422", "Bad size"),
        (None, "422", "The farm answers 422 Unprocessable Entity."),
    ],
)
def test_an_error_of_any_dialect_becomes_one_exception(body: Any, code: str, words: str) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(422, json=body) if body else httpx.Response(422, text="<html>")

    with _client(handler) as farm, pytest.raises(ApiError) as caught:
        farm.submit({})
    assert (caught.value.status, caught.value.code, str(caught.value)) == (422, code, words)


def test_a_farm_that_does_not_answer_is_unreachable() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    with _client(handler) as farm, pytest.raises(Unreachable, match="No farm answers at http://farm"):
        farm.models()


def _flaky(monkeypatch: pytest.MonkeyPatch, *answers: httpx.Response) -> tuple[Client, list[float]]:
    """A patient client of a farm that gives these answers, the first to warm it up, and the waits between them."""
    waits = _naps(monkeypatch)
    left = iter([httpx.Response(200, json={"data": []}), *answers])
    farm = Client("http://farm", "k", patience_s=60, transport=httpx.MockTransport(lambda _: next(left)))
    farm.models()
    return farm, waits


def test_a_call_that_can_be_repeated_is_tried_again_no_sooner_than_the_farm_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "7"})
    farm, waits = _flaky(monkeypatch, httpx.Response(429), busy, httpx.Response(202, json=_job()))
    assert farm.submit({}, idempotency_key="once").id == "job_1"
    assert len(waits) == 2
    assert 0.25 <= waits[0] <= 0.5
    assert waits[1] == 7


def test_who_waits_for_a_farm_is_told_why_and_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    _naps(monkeypatch)
    page = httpx.Response(200, json={"data": []})
    left = iter([page, httpx.Response(503), httpx.Response(502), page, page])
    told: list[int | None] = []
    farm = Client(
        "http://farm",
        "k",
        transport=httpx.MockTransport(lambda _: next(left)),
        on_retry=lambda error: told.append(error.status if isinstance(error, ApiError) else None),
    )
    for _ in range(3):
        farm.models()
    assert told == [503, 502, None]


def test_a_wait_beyond_ones_patience_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    farm, waits = _flaky(monkeypatch, httpx.Response(503, headers={"Retry-After": "61"}))
    with pytest.raises(ApiError):
        farm.get("job_1")
    assert not waits


def test_a_job_without_a_key_is_never_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    farm, waits = _flaky(monkeypatch, httpx.Response(503))
    with pytest.raises(ApiError):
        farm.submit({})
    assert not waits


def test_what_the_farm_refuses_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    farm, waits = _flaky(monkeypatch, httpx.Response(422, json={}))
    with pytest.raises(ApiError):
        farm.submit({}, idempotency_key="once")
    assert not waits


def test_a_prompt_is_sent_again_under_one_key_when_its_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    _naps(monkeypatch)
    keys: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            keys.append(request.headers.get("idempotency-key"))
        if len(keys) == 1 and request.method == "POST":
            raise httpx.ReadError("Connection reset", request=request)
        return httpx.Response(200, json={**_job("succeeded"), "data": []})

    with _client(handler) as farm:
        farm.models()
        assert not farm.generate("a cat", model="m")
    assert len(keys) == 2
    assert keys[0] == keys[1] is not None
