"""Requests that an OpenAI SDK sends again by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from flask.testing import FlaskClient
from redis import Redis

from api.app import create_app
from shared.accounts import Accounts
from tests.memory_storage import MemoryStorage
from tests.unit.conftest import SETTINGS

BODY = {"prompt": "a fox", "size": "256x256"}


def send(client: FlaskClient, retries: str | None, **change: Any) -> Any:
    """Send the request as an SDK does that has tried so often; its answer."""
    headers = {"Prefer": "respond-async"} | ({} if retries is None else {"X-Stainless-Retry-Count": retries})
    return client.post("/v1/images/generations", json=BODY | change, headers=headers)


def test_a_retry_gets_the_job_of_its_first_request(client: FlaskClient) -> None:
    first = send(client, "0").get_json()
    for retries in ("1", "2"):
        again = send(client, retries)
        assert again.get_json()["id"] == first["id"]
        assert again.headers["Idempotent-Replayed"] == "true"


def test_first_requests_are_as_many_jobs(client: FlaskClient) -> None:
    ids = [send(client, "0").get_json()["id"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert send(client, "1").get_json()["id"] == ids[-1]


@pytest.mark.parametrize("retries", [None, "", "many", "-1"])
def test_what_no_sdk_counted_is_no_retry(client: FlaskClient, retries: str | None) -> None:
    first = send(client, "0").get_json()
    assert send(client, retries).get_json()["id"] != first["id"]


def test_a_retry_whose_first_request_never_came_makes_a_job_once(client: FlaskClient) -> None:
    assert send(client, "1").get_json()["id"] == send(client, "2").get_json()["id"]


def test_another_request_is_no_retry(client: FlaskClient, redis: Redis) -> None:
    first = send(client, "0").get_json()
    assert send(client, "1", prompt="a hen").get_json()["id"] != first["id"]
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {Accounts(redis).create_key('bob')}"
    assert send(client, "1").get_json()["id"] != first["id"]


def test_a_retry_that_comes_too_late_makes_a_job(client: FlaskClient, redis: Redis) -> None:
    first = send(client, "0").get_json()
    [name] = cast(list[str], redis.keys("rm:idempotency:*"))
    assert 0 < cast(int, redis.pttl(name)) <= 10_000
    redis.delete(name)
    assert send(client, "1").get_json()["id"] != first["id"]


def test_without_a_window_every_request_makes_a_job(redis: Redis, storage: MemoryStorage, key: str) -> None:
    client = create_app(replace(SETTINGS, retry_window_s=0), redis, storage, lambda *_: None).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    first = send(client, "0").get_json()
    assert send(client, "1").get_json()["id"] != first["id"]
    assert redis.keys("rm:idempotency:*") == []


def test_a_clients_own_key_comes_first(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "k", "Prefer": "respond-async", "X-Stainless-Retry-Count": "0"}
    ids = {client.post("/v1/images/generations", json=BODY, headers=headers).get_json()["id"] for _ in range(2)}
    assert len(ids) == 1
