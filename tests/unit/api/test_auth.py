"""Who may do what."""

from __future__ import annotations

import time

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from api.known_keys import KnownKeys
from shared.accounts import Accounts
from tests.fake_worker import FakeWorker
from tests.unit.api.conftest import Post

#: Routes that answer without a key.
PUBLIC = {
    "/healthz",
    "/readyz",
    "/metrics",
    "/",
    "/openapi.json",
    "/docs",
    "/docs/start.js",
    "/docs/assets/<name>",
    "/images/<image_id>.<format_>",
}


def test_every_route_but_the_public_ones_asks_for_a_key(app: Flask, anonymous: FlaskClient) -> None:
    asked = 0
    for rule in app.url_map.iter_rules():
        if rule.rule in PUBLIC:
            continue
        path = rule.rule
        for name in rule.arguments:
            path = path.replace(f"<path:{name}>", "x").replace(f"<{name}>", "x")
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            answer = anonymous.open(path, method=method)
            assert answer.status_code == 401, f"{method} {rule.rule}"
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            asked += 1
    assert asked > 30


def test_a_key_is_taken_from_either_header(anonymous: FlaskClient, key: str) -> None:
    for headers in ({"Authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}, {"x-api-key": key}):
        assert anonymous.get("/v1/jobs", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer rm_wrong"},
        {"Authorization": "Basic cm06"},
        {"x-api-key": "rm_wrong"},
        {"x-api-key": "ключ"},
    ],
)
def test_without_a_valid_key_the_answer_is_401(anonymous: FlaskClient, headers: dict[str, str]) -> None:
    answer = anonymous.get("/v1/jobs", headers=headers)
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.json is not None
    assert answer.json["code"] == "unauthenticated"


def test_a_revoked_key_stops_to_work_within_a_second(client: FlaskClient, key: str) -> None:
    accounts = Accounts(client.application.extensions["rendermill"].redis)
    assert client.get("/v1/jobs").status_code == 200
    assert accounts.revoke_key(key) is not None
    time.sleep(1.0)
    assert client.get("/v1/jobs").status_code == 401


def test_a_key_that_was_refused_works_as_soon_as_it_is_made(
    anonymous: FlaskClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.accounts.new_id", lambda kind: f"{kind}_foreseen")
    monkeypatch.setattr("shared.accounts.secrets.token_hex", lambda _: "")
    headers = {"x-api-key": "rm_foreseen"}
    assert anonymous.get("/v1/jobs", headers=headers).status_code == 401
    Accounts(redis).create_key("alice")
    assert anonymous.get("/v1/jobs", headers=headers).status_code == 200


def test_redis_is_asked_once_a_second_whose_a_key_is(redis: Redis) -> None:
    asked: list[str] = []

    class Asked(Accounts):
        def account_of(self, key: str) -> str | None:
            asked.append(key)
            return super().account_of(key)

    accounts = Asked(redis)
    alices, bobs, known = accounts.create_key("alice"), accounts.create_key("bob"), KnownKeys(accounts)
    for _ in range(3):
        assert known.account_of(alices) == "alice"
        assert known.account_of(bobs) == "bob"
    assert asked == [alices, bobs]


def test_no_more_keys_are_remembered_than_have_room(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.known_keys._MOST", 2)
    accounts = Accounts(redis)
    known = KnownKeys(accounts)
    for account in ("alice", "bob", "carol"):
        assert known.account_of(accounts.create_key(account)) == account
    assert len(known._known) == 1


def test_another_accounts_records_do_not_exist(
    client: FlaskClient, submit: Post, worker: FakeWorker, stranger: dict[str, str]
) -> None:
    job_id = submit(webhook_url="https://example.com/hook").json["id"]
    worker.work()
    image_id = client.get(f"/v1/jobs/{job_id}").json["images"][0]["id"]
    endpoint_id = client.post("/v1/webhooks", json={"url": "https://example.com"}).json["id"]
    delivery_id = client.get("/v1/webhooks/deliveries").json["data"][0]["id"]
    routes = [
        ("GET", f"/v1/jobs/{job_id}"),
        ("POST", f"/v1/jobs/{job_id}/cancel"),
        ("GET", f"/v1/jobs/{job_id}/events"),
        ("GET", f"/v1/images/{image_id}"),
        ("GET", f"/v1/images/{image_id}/download"),
        ("POST", f"/v1/images/{image_id}/publish"),
        ("POST", f"/v1/images/{image_id}/unpublish"),
        ("DELETE", f"/v1/images/{image_id}"),
        ("GET", f"/v1/webhooks/{endpoint_id}"),
        ("GET", f"/v1/webhooks/{endpoint_id}/secret"),
        ("DELETE", f"/v1/webhooks/{endpoint_id}"),
        ("GET", f"/v1/webhooks/deliveries/{delivery_id}"),
        ("POST", f"/v1/webhooks/deliveries/{delivery_id}/redeliver"),
    ]
    other = client.application.test_client()
    for method, path in routes:
        assert other.open(path, method=method, headers=stranger).status_code == 404, f"{method} {path}"
    for path in ("/v1/jobs", "/v1/images", "/v1/webhooks", "/v1/webhooks/deliveries"):
        assert other.get(path, headers=stranger).json["data"] == []
    used = other.post(
        "/v1/jobs", json={"model": "sdxl-lightning", "prompt": "x", "input_image": image_id}, headers=stranger
    )
    assert used.status_code == 422
    assert client.get(f"/v1/images/{image_id}/download").status_code == 200
