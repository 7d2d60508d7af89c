"""Limits and credits, as clients of the native API and of the dialects see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from api.services import services
from shared.credits import MICROS
from shared.limits import AccountLimits, Rate
from shared.scheduler import Scheduler
from tests.fake_worker import FakeWorker
from tests.memory_storage import MemoryStorage
from tests.unit.api.conftest import Post

#: One of each of the routes that make jobs, small enough for a test.
ROUTES = [
    pytest.param("/v1/jobs", {"model": "sdxl-lightning", "prompt": "a fox"}, id="native"),
    pytest.param("/v1/images/generations", {"prompt": "a fox", "size": "256x256"}, id="openai"),
    pytest.param("/v1/image/generation", {"model_name": "sdxl-lightning", "prompt": "a fox"}, id="hyperbolic"),
    pytest.param("/v1/images/imagine", {"name": "fox", "prompt": "a fox"}, id="img_processing"),
]
NO_WAIT = {"Prefer": "respond-async"}


@pytest.fixture
def limits(redis: Redis, key: str) -> AccountLimits:  # noqa: ARG001 - makes alice
    return AccountLimits(redis)


@pytest.fixture
def priced(app: Flask) -> Iterator[None]:
    """SDXL-Lightning costs a credit for a megapixel and step."""
    with app.app_context():
        models = services().catalog.models
    model = models["ByteDance/SDXL-Lightning"]
    models[model.id] = replace(model, price=Decimal(1))
    yield
    models[model.id] = model


@pytest.mark.parametrize(("route", "body"), ROUTES)
def test_every_route_that_makes_jobs_tells_how_near_the_limits_are(
    client: FlaskClient, limits: AccountLimits, route: str, body: dict[str, Any]
) -> None:
    limits.set_rate("alice", Rate(10, 3600))
    limits.set_max_queued("alice", 5)
    answer = client.post(route, json=body, headers=NO_WAIT)
    assert answer.status_code == 202
    assert answer.headers["RateLimit-Policy"] == '"requests";q=10;w=3600, "queue";q=5;qu="concurrent-requests"'
    assert answer.headers["RateLimit"] == '"requests";r=9;t=360, "queue";r=4'


def test_without_limits_there_is_nothing_to_tell(submit: Post) -> None:
    assert not {name for name, _ in submit().headers} & {"RateLimit", "RateLimit-Policy"}


@pytest.mark.parametrize(("route", "body"), ROUTES)
def test_a_request_too_many_is_429_in_the_shape_of_its_route(
    client: FlaskClient, limits: AccountLimits, route: str, body: dict[str, Any]
) -> None:
    limits.set_rate("alice", Rate(1, 3600))
    client.post(route, json=body, headers=NO_WAIT)
    answer = client.post(route, json=body, headers=NO_WAIT)
    assert answer.status_code == 429
    assert 3590 <= int(answer.headers["Retry-After"]) <= 3600
    assert answer.headers["RateLimit"].startswith('"requests";r=0;t=3')
    shape = answer.get_json()
    match route:
        case "/v1/jobs":
            assert (shape["code"], shape["violated-policies"]) == ("rate_limited", ["requests"])
            assert answer.content_type == "application/problem+json"
        case "/v1/images/generations":
            assert shape["error"]["type"] == "rate_limit_error"
            assert shape["error"]["code"] == "rate_limit_exceeded"
        case "/v1/image/generation":
            assert shape["error"]["code"] == "rate_limited"
        case _:
            assert (shape["status"], shape["error"]) == (429, "Too many requests")


@pytest.mark.parametrize(("route", "body"), ROUTES)
def test_a_full_queue_of_the_account_is_429(
    client: FlaskClient, limits: AccountLimits, route: str, body: dict[str, Any]
) -> None:
    limits.set_max_queued("alice", 0)
    answer = client.post(route, json=body, headers=NO_WAIT)
    assert answer.status_code == 429
    assert answer.headers["Retry-After"]
    assert answer.headers["RateLimit"] == '"queue";r=0'
    assert "of the account's jobs wait" in answer.get_data(as_text=True)


@pytest.mark.parametrize(("route", "body"), ROUTES)
def test_a_full_farm_is_503(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, submit: Post, route: str, body: dict[str, Any]
) -> None:
    with app.app_context():
        monkeypatch.setattr(services().scheduler, "_max_queued", 1)
    submit()
    answer = client.post(route, json=body, headers=NO_WAIT)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize(("route", "body"), ROUTES)
@pytest.mark.usefixtures("priced")
def test_who_cannot_pay_is_answered_402(
    client: FlaskClient, limits: AccountLimits, route: str, body: dict[str, Any]
) -> None:
    limits.set_balance("alice", 1000)
    answer = client.post(route, json=body, headers=NO_WAIT)
    assert answer.status_code == 402
    assert "the balance is 0.001" in answer.get_data(as_text=True)
    assert "Retry-After" not in answer.headers


def test_input_images_of_a_refused_request_are_not_kept(
    client: FlaskClient, limits: AccountLimits, storage: MemoryStorage, submit: Post
) -> None:
    limits.set_rate("alice", Rate(1, 3600))
    submit()
    image = "data:image/png;base64," + _PIXEL
    assert submit(input_image=image).status_code == 429
    assert not storage.objects
    assert client.get("/v1/jobs").get_json()["data"][0]["status"] == "queued"


def test_a_replay_is_not_refused(limits: AccountLimits, submit: Post) -> None:
    limits.set_rate("alice", Rate(1, 3600))
    first = submit(headers={"Idempotency-Key": "k"}).get_json()
    again = submit(headers={"Idempotency-Key": "k"})
    assert again.get_json()["id"] == first["id"]
    assert again.headers["Idempotent-Replayed"] == "true"


def test_refusals_are_counted(client: FlaskClient, limits: AccountLimits, submit: Post) -> None:
    limits.set_max_queued("alice", 0)
    submit()
    assert 'rendermill_admission_rejected_total{reason="queue_full_account"}' in client.get("/metrics").text


@pytest.mark.usefixtures("priced")
def test_a_job_tells_its_price_and_the_account_pays_it(
    client: FlaskClient, limits: AccountLimits, submit: Post, worker: FakeWorker
) -> None:
    limits.set_balance("alice", MICROS)
    job = submit(width=512, height=512, num_steps=4, n=1)
    assert job.status_code == 402
    job = submit(n=2).get_json()
    assert job["price"] == 0.524288
    account = client.get("/v1/account").get_json()
    assert (account["balance"], account["reserved"], account["charged"]) == (0.475712, 0.524288, 0)
    worker.work()
    account = client.get("/v1/account").get_json()
    assert (account["balance"], account["reserved"], account["charged"]) == (0.475712, 0, 0.524288)
    [today] = account["usage"]
    assert (today["model"], today["succeeded"], today["images"]) == ("ByteDance/SDXL-Lightning", 1, 2)
    assert today["credits"] == 0.524288
    assert client.get(f"/v1/jobs/{job['id']}").get_json()["price"] == 0.524288


@pytest.mark.usefixtures("priced")
def test_a_canceled_job_is_given_back(client: FlaskClient, limits: AccountLimits, submit: Post) -> None:
    limits.set_balance("alice", MICROS)
    job = submit().get_json()
    assert client.post(f"/v1/jobs/{job['id']}/cancel").get_json()["price"] == 0
    assert client.get("/v1/account").get_json()["balance"] == 1


def test_an_account_without_limits_says_so(client: FlaskClient) -> None:
    account = client.get("/v1/account").get_json()
    assert (account["id"], account["balance"], account["usage"]) == ("alice", None, [])
    assert account["limits"] == {"weight": 1, "rate": None, "max_queued": None, "max_running": None}
    assert account["used"] == {"requests_left": None, "queued": 0, "running": 0}


def test_an_account_tells_its_limits_and_what_is_taken_of_them(
    client: FlaskClient, redis: Redis, limits: AccountLimits, submit: Post
) -> None:
    limits.set_rate("alice", Rate(10, 60))
    limits.set_max_queued("alice", 5)
    limits.set_max_running("alice", 3)
    submit()
    submit()
    Scheduler(redis, lease_s=60, max_attempts=1, retry_delay_s=1).claim("ByteDance/SDXL-Lightning", "w", max_images=1)
    account = client.get("/v1/account").get_json()
    rate = {"requests": 10, "period_s": 60}
    assert account["limits"] == {"weight": 1, "rate": rate, "max_queued": 5, "max_running": 3}
    assert account["used"] == {"requests_left": 8, "queued": 1, "running": 1}


@pytest.mark.parametrize("days", ["0", "93", "x"])
def test_usage_is_asked_for_in_days(client: FlaskClient, days: str) -> None:
    assert client.get(f"/v1/account?days={days}").status_code == 422


@pytest.mark.usefixtures("priced")
def test_a_dry_run_tells_the_price_and_accepts_nothing(
    client: FlaskClient, redis: Redis, limits: AccountLimits, submit: Post, storage: MemoryStorage
) -> None:
    submit()
    limits.set_balance("alice", 0)
    limits.set_rate("alice", Rate(1, 3600))
    before = sorted(redis.keys("*"))
    for _ in range(3):
        answer = submit(
            dry_run=True, seed=7, n=10, width=1024, height=1024, input_image="data:image/png;base64," + _PIXEL
        )
    assert answer.status_code == 200, answer.text
    estimate = answer.get_json()
    assert (estimate["object"], estimate["price"], estimate["queue_position"]) == ("estimate", 41.94304, 1)
    assert estimate["estimated_s"] is None, "nothing was measured yet"
    assert (estimate["input"]["seed"], estimate["input"]["num_steps"]) == (7, 4)
    assert sorted(redis.keys("*")) == before
    assert not storage.objects
    assert len(client.get("/v1/jobs").get_json()["data"]) == 1


def test_a_dry_run_of_a_wrong_request_is_refused_as_the_request_would_be(submit: Post) -> None:
    assert submit(dry_run=True, width=5).status_code == 422
    assert submit(dry_run="yes").status_code == 422


def test_a_run_that_is_not_dry_is_a_job(submit: Post) -> None:
    assert submit(dry_run=False).get_json()["object"] == "job"


@pytest.mark.usefixtures("priced")
def test_models_tell_their_price(client: FlaskClient) -> None:
    prices = {model["id"]: model["price"] for model in client.get("/v1/models").get_json()["data"]}
    assert prices["ByteDance/SDXL-Lightning"] == 1
    assert prices["black-forest-labs/FLUX.1-schnell"] == 0


#: A PNG of one pixel.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
