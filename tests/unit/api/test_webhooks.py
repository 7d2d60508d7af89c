"""Receivers, secrets and the log of deliveries."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from intake.job_body import EVENTS
from shared.deliveries import MAX_ENDPOINTS, Deliveries
from shared.outbox import Outbox
from tests.fake_worker import FakeWorker
from tests.unit.api.conftest import Post

HOOK = "https://example.com/hook"


def test_the_secret_stays_until_it_is_rotated(client: FlaskClient) -> None:
    secret = client.get("/v1/webhooks/secret").json["secret"]
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) >= 24
    assert client.get("/v1/webhooks/secret").json["secret"] == secret
    rotated = client.post("/v1/webhooks/secret/rotate").json["secret"]
    assert rotated != secret
    assert client.get("/v1/webhooks/secret").json["secret"] == rotated


def test_an_endpoint_is_added_shown_and_removed(client: FlaskClient) -> None:
    answer = client.post("/v1/webhooks", json={"url": HOOK, "events": ["job.failed"]})
    assert answer.status_code == 201
    made = answer.json
    secret = made.pop("secret")
    assert (made["url"], made["events"], made["disabled"]) == (HOOK, ["job.failed"], None)
    assert client.get(f"/v1/webhooks/{made['id']}").json == made
    assert client.get("/v1/webhooks").json == {"object": "list", "data": [made]}
    assert client.get(f"/v1/webhooks/{made['id']}/secret").json == {"secret": secret}
    assert client.delete(f"/v1/webhooks/{made['id']}").status_code == 204
    assert client.get(f"/v1/webhooks/{made['id']}").status_code == 404
    assert client.get("/v1/webhooks").json["data"] == []


def test_an_endpoint_is_told_of_everything_unless_it_says_otherwise(client: FlaskClient) -> None:
    events = client.post("/v1/webhooks", json={"url": HOOK}).json["events"]
    assert events == list(EVENTS)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"url"}),
        ({"url": "http://1.1.1.1/", "events": ["job.lost"], "secret": "x"}, {"url", "events.0", "secret"}),
        ({"url": HOOK, "events": []}, {"events"}),
        ({"url": HOOK, "events": "job.failed"}, {"events"}),
        ({"url": "https://192.168.1.1/"}, {"url"}),
        ({"url": 5}, {"url"}),
    ],
)
def test_a_wrong_endpoint_is_refused(client: FlaskClient, body: dict[str, Any], fields: set[str]) -> None:
    answer = client.post("/v1/webhooks", json=body)
    assert (answer.status_code, set(answer.json["errors"])) == (422, fields)


def test_an_account_has_a_bounded_number_of_endpoints(client: FlaskClient) -> None:
    for _ in range(MAX_ENDPOINTS):
        assert client.post("/v1/webhooks", json={"url": HOOK}).status_code == 201
    assert client.post("/v1/webhooks", json={"url": HOOK}).status_code == 409


def test_deliveries_are_logged_with_their_attempts_and_sent_again(
    client: FlaskClient, submit: Post, worker: FakeWorker, redis: Redis
) -> None:
    job_id = submit(webhook_url=HOOK).json["id"]
    worker.work()
    deliveries = Deliveries(redis)
    outbox = Outbox(redis)
    claimed = outbox.claim(60)
    assert claimed
    delivery_id = claimed.delivery.id
    attempt = {"at": "2026-01-01T00:00:00Z", "seconds": 0.1, "result": "http_5xx", "http_status": 500, "detail": ""}
    outbox.record(delivery_id, attempt, status="failed")
    (shown,) = client.get("/v1/webhooks/deliveries").json["data"]
    assert (shown["id"], shown["job_id"], shown["event"]) == (delivery_id, job_id, "job.succeeded")
    assert (shown["status"], shown["endpoint_id"], shown["attempts"]) == ("failed", None, [attempt])
    assert client.get(f"/v1/webhooks/deliveries/{delivery_id}").json == shown
    assert deliveries.due() == 0
    again = client.post(f"/v1/webhooks/deliveries/{delivery_id}/redeliver")
    assert (again.status_code, again.json["id"], again.json["status"]) == (202, delivery_id, "pending")
    assert deliveries.due() == 1


def test_the_log_has_pages(client: FlaskClient, submit: Post, worker: FakeWorker) -> None:
    for _ in range(3):
        submit(webhook_url=HOOK)
        worker.work()
    first = client.get("/v1/webhooks/deliveries?limit=2").json
    second = client.get(f"/v1/webhooks/deliveries?limit=2&after={first['after']}").json
    assert (len(first["data"]), first["has_more"]) == (2, True)
    assert (len(second["data"]), second["has_more"], second["after"]) == (1, False, None)
    assert len({delivery["id"] for delivery in first["data"] + second["data"]}) == 3
    assert client.get("/v1/webhooks/deliveries?after=msg_nothing").status_code == 400
