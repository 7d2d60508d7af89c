"""What a sender makes of each answer, and when it tries again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import httpx
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from standardwebhooks import Webhook, WebhookVerificationError

from shared.egress import EgressBlocked
from shared.records import Records
from shared.views import Views
from tests.scheduling import MODEL, new_job
from tests.sending import URL, Answer, Receiver, Sending
from tests.unit.worker.fakes import Failing


def test_a_delivered_webhook_tells_the_job_and_verifies(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    job_id = sending.finish()
    sending.sender.send_due()
    (request,) = receiver.requests
    body = Webhook(sending.accounts.webhook_secret("alice")).verify(request.content, dict(request.headers))
    assert (body["type"], body["data"]["id"], body["data"]["status"]) == ("job.succeeded", job_id, "succeeded")
    assert sending.delivery(job_id).status == "delivered"
    assert sending.due_in_s(job_id) is None


def test_a_webhook_tells_the_same_job_as_the_api(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    job = new_job(webhook_url=URL, n=2)
    sending.scheduler.enqueue("alice", [job])
    (lease,) = sending.scheduler.claim(MODEL, "worker-1", max_images=2).leases
    shape = {"name": "fox", "width": 8, "height": 8, "format": "png", "size": 1, "created_at": 1.0, "job_id": job.id}
    images = {f"image_{name}": {"account": "alice", "key": f"{name}.png", **shape} for name in "ab"}
    sending.scheduler.complete(lease, images=images, result={"images": list(images)}, render_s=None)
    redis.sadd("rm:published", "image_b")
    sending.sender.send_due()
    told = json.loads(receiver.requests[0].content)["data"]
    assert told == Views(redis, sending.scheduler, "https://farm.example").job(Records(redis).get(job.id))
    assert [image["url"] for image in told["images"]] == [None, "https://farm.example/images/image_b.png"]


def test_for_a_day_after_a_rotation_both_secrets_verify(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    secrets = [sending.accounts.webhook_secret("alice"), sending.accounts.rotate_webhook_secret("alice")]
    assert 86_000 < redis.ttl("rm:old_webhook_secret:alice") <= 86_400
    sending.finish()
    sending.sender.send_due()
    redis.delete("rm:old_webhook_secret:alice")
    sending.finish()
    sending.sender.send_due()
    soon, later = receiver.requests
    for secret in secrets:
        Webhook(secret).verify(soon.content, dict(soon.headers))
    Webhook(secrets[1]).verify(later.content, dict(later.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(secrets[0]).verify(later.content, dict(later.headers))


def test_every_try_bears_the_same_id_and_a_valid_signature_of_its_own_time(redis: Redis) -> None:
    receiver = Receiver(500, httpx.ConnectError("refused"), 204)
    sending = Sending(redis, receiver.transport)
    job_id = sending.finish()
    secret = Webhook(sending.accounts.webhook_secret("alice"))
    for tries in range(3):
        with patch("worker.webhooks.datetime") as clock:
            clock.now.return_value = datetime.now(UTC) + timedelta(seconds=tries)
            sending.sender.send_due()
        sending.make_due()
    assert len(receiver.requests) == 3
    for request in receiver.requests:
        secret.verify(request.content, dict(request.headers))
    assert {request.headers["webhook-id"] for request in receiver.requests} == {sending.delivery(job_id).id}
    assert len({request.headers["webhook-timestamp"] for request in receiver.requests}) == 3
    assert [attempt["result"] for attempt in sending.attempts(job_id)] == ["http_5xx", "unreachable", "delivered"]


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (500, "http_5xx"),
        (404, "http_4xx"),
        ((302, {b"location": URL.encode()}), "http_3xx"),
        (httpx.ReadTimeout("slow"), "timeout"),
        (httpx.ConnectError("refused"), "unreachable"),
        (httpx.RemoteProtocolError("no HTTP"), "unreachable"),
        (httpx.InvalidURL("odd"), "error"),
        (ValueError("a bug"), "error"),
    ],
)
def test_what_a_retry_may_mend_is_retried_on_schedule_and_then_given_up(
    redis: Redis, answer: Answer, result: str
) -> None:
    receiver = Receiver(answer)
    sending = Sending(redis, receiver.transport)
    job_id = sending.finish()
    for low, high in ((4, 6), (299, 331)):
        sending.sender.send_due()
        due_in_s = sending.due_in_s(job_id)
        assert due_in_s is not None
        assert low <= due_in_s <= high
        assert sending.delivery(job_id).status == "pending"
        sending.make_due()
    sending.sender.send_due()
    assert sending.delivery(job_id).status == "failed"
    assert [attempt["result"] for attempt in sending.attempts(job_id)] == [result] * 3
    assert sending.due_in_s(job_id) is None


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("60", 59, 61), ("999999999", 86399, 86401), ("0", 4, 6), ("²", 4, 6), ("Wed, 21 Oct 2026 07:28:00 GMT", 4, 6)],
)
def test_a_receiver_may_ask_for_a_longer_wait_in_seconds(redis: Redis, header: str, low: float, high: float) -> None:
    receiver = Receiver((429, {b"retry-after": header.encode("latin-1")}))
    sending = Sending(redis, receiver.transport)
    job_id = sending.finish()
    sending.sender.send_due()
    due_in_s = sending.due_in_s(job_id)
    assert due_in_s is not None
    assert low <= due_in_s <= high


def test_an_address_that_is_blocked_is_not_tried_again(redis: Redis) -> None:
    sending = Sending(redis, Receiver(EgressBlocked("10.0.0.1 is not a public address")).transport)
    job_id = sending.finish()
    sending.sender.send_due()
    assert sending.delivery(job_id).status == "failed"
    assert "not a public address" in sending.attempts(job_id)[0]["detail"]


def test_an_endpoint_that_answers_410_is_sent_nothing_more_not_even_what_was_due(redis: Redis) -> None:
    receiver = Receiver(410)
    sending = Sending(redis, receiver.transport)
    endpoint = sending.deliveries.add_endpoint("alice", URL, ["job.succeeded"])
    for _ in range(3):
        sending.finish(url=None)
    sending.sender.send_due()
    assert len(receiver.requests) == 1
    assert sending.deliveries.endpoint(endpoint.id, "alice").disabled
    found, _ = sending.deliveries.page("alice", limit=10, after=None)
    assert [delivery.status for delivery in found] == ["failed"] * 3
    sending.finish(url=None)
    assert sending.deliveries.due() == 0


def test_a_deleted_endpoint_is_sent_nothing(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    endpoint = sending.deliveries.add_endpoint("alice", URL, ["job.succeeded"])
    sending.finish(url=None)
    sending.deliveries.remove_endpoint(endpoint)
    sending.sender.send_due()
    assert not receiver.requests
    assert sending.deliveries.page("alice", limit=1, after=None)[0][0].status == "failed"


def test_a_job_past_its_retention_is_not_told_of(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    job_id = sending.finish()
    redis.delete(f"rm:job:{job_id}")
    sending.sender.send_due()
    assert not receiver.requests
    assert sending.delivery(job_id).status == "failed"


def test_an_endpoint_is_signed_for_with_its_own_secret(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    endpoint = sending.deliveries.add_endpoint("alice", URL, ["job.succeeded"])
    sending.finish(url=None)
    sending.sender.send_due()
    (request,) = receiver.requests
    Webhook(endpoint.secret).verify(request.content, dict(request.headers))


def test_while_one_sends_no_other_does(redis: Redis) -> None:
    sending = Sending(redis, Receiver(200).transport)
    sending.finish()
    assert sending.outbox.claim(60)
    other = Receiver(200)
    Sending(redis, other.transport).sender.send_due()
    assert not other.requests


def test_what_a_sender_that_died_had_in_hand_is_sent_after_its_lease_with_the_same_id(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    job_id = sending.finish()
    claimed = sending.outbox.claim(0.01)
    assert claimed
    time.sleep(0.02)
    sending.sender.send_due()
    assert [request.headers["webhook-id"] for request in receiver.requests] == [claimed.delivery.id]
    assert sending.delivery(job_id).status == "delivered"


def test_a_sender_that_was_presumed_dead_does_not_undo_the_delivery(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    job_id = sending.finish()
    sending.sender.send_due()
    late = {"at": "2026-01-01T00:00:00.000Z", "result": "timeout"}
    sending.outbox.record(sending.delivery(job_id).id, late, status="pending", retry_in_s=5)
    assert sending.delivery(job_id).status == "delivered"
    assert sending.due_in_s(job_id) is None
    assert [attempt["result"] for attempt in sending.attempts(job_id)] == ["delivered", "timeout"]


def test_a_redelivery_bears_the_same_id(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    job_id = sending.finish()
    sending.sender.send_due()
    sending.deliveries.redeliver(sending.delivery(job_id))
    sending.sender.send_due()
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len(receiver.requests) == 2
    assert sending.delivery(job_id).status == "delivered"


def test_a_delivery_whose_record_is_gone_is_dropped(redis: Redis) -> None:
    redis.zadd("rm:due", {"msg_unknown": 0})
    sending = Sending(redis, Receiver(200).transport)
    sending.sender.send_due()
    assert redis.zcard("rm:due") == 0


def test_redis_that_goes_away_while_sending_leaves_the_delivery_due(redis: Redis) -> None:
    sending = Sending(redis, Receiver(200).transport)
    job_id = sending.finish()
    redis.hdel("rm:account:alice", "webhook_secret")
    sending.sender._accounts = Failing(sending.accounts, "webhook_secret", RedisConnectionError("away"), 1)
    with pytest.raises(RedisConnectionError):
        sending.sender.send_due()
    assert sending.delivery(job_id).status == "pending"
    assert sending.due_in_s(job_id) is not None


def test_what_was_sent_while_redis_went_away_is_recorded_when_it_is_back_and_not_sent_again(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.patience.PAUSE_S", 0.005)
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    job_id = sending.finish()
    sending.sender._outbox = Failing(sending.outbox, "record", RedisConnectionError("away"), 3)
    sending.sender.send_due()
    sending.make_due()
    sending.sender.send_due()
    assert sending.delivery(job_id).status == "delivered"
    assert len(receiver.requests) == 1


def test_a_sender_that_is_told_to_go_finishes_one_and_begins_none(redis: Redis) -> None:
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport)
    first, second = sending.finish(), sending.finish()

    def goes(request: httpx.Request) -> httpx.Response:
        sending.sender.draining = True
        return receiver(request)

    sending.sender._transport = httpx.MockTransport(goes)
    sending.sender.send_due()
    assert {sending.delivery(first).status, sending.delivery(second).status} == {"delivered", "pending"}


def test_webhooks_of_a_slow_account_are_put_off_without_an_attempt_and_others_are_sent(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.lanes._SLOW_S", 0.01)
    receiver = Receiver(200)
    sending = Sending(redis, receiver.transport, slow_places=0)

    def slow_for_mallory(request: httpx.Request) -> httpx.Response:
        if request.url.host == "slow.example":
            time.sleep(0.02)
        return receiver(request)

    sending.sender._transport = httpx.MockTransport(slow_for_mallory)
    slow = [sending.finish("mallory", url="https://slow.example/") for _ in range(3)]
    quick = sending.finish("alice")
    sending.sender.send_due()
    assert sending.delivery(quick).status == "delivered"
    assert sorted(sending.delivery(id_).status for id_ in slow) == ["delivered", "pending", "pending"]
    for id_ in slow:
        if sending.delivery(id_).status == "pending":
            assert sending.attempts(id_) == []
            assert 10 < (sending.due_in_s(id_) or 0) < 31


class Endless(httpx.SyncByteStream):
    """An answer that never ends."""

    def __init__(self) -> None:
        self.chunks = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.chunks += 1
            yield b"x" * 100


@pytest.mark.parametrize(("status", "result"), [(200, "delivered"), (500, "http_5xx")])
def test_of_a_giant_answer_only_the_beginning_is_read(redis: Redis, status: int, result: str) -> None:
    answer = Endless()
    sending = Sending(redis, Receiver(httpx.Response(status, stream=answer)).transport)
    job_id = sending.finish()
    sending.sender.send_due()
    (attempt,) = sending.attempts(job_id)
    assert attempt["result"] == result
    assert len(attempt["detail"]) == (500 if status == 500 else 0)
    assert answer.chunks < 10
