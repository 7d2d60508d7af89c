"""Webhook deliveries as records: made once, due until they are over, and sent again on demand."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from shared.deliveries import MAX_ENDPOINTS, Deliveries
from shared.errors import RendermillError
from shared.jobs import NewJob
from shared.outbox import Outbox
from tests.scheduling import claim_one, complete, enqueue, new_scheduler

URL = "https://receiver.test/hook"


@pytest.fixture
def deliveries(redis: Redis) -> Deliveries:
    return Deliveries(redis)


@pytest.fixture
def outbox(redis: Redis) -> Outbox:
    return Outbox(redis)


def finish_job(redis: Redis, **shape: Any) -> NewJob:
    scheduler = new_scheduler(redis)
    job = enqueue(scheduler, **{"webhook_url": URL, **shape})
    complete(scheduler, claim_one(scheduler))
    return job


def attempt(number: int) -> dict[str, Any]:
    return {"at": f"2026-01-01T00:00:{number:02}Z", "result": "http_5xx"}


def only_id(deliveries: Deliveries) -> str:
    (delivery,), _ = deliveries.page("alice", limit=10, after=None)
    return delivery.id


def claimed_id(outbox: Outbox) -> str | None:
    dispatch = outbox.claim(lease_s=60)
    return dispatch.delivery.id if dispatch else None


def make_due(redis: Redis, delivery_id: str) -> None:
    redis.zadd("rm:due", {delivery_id: 0}, xx=True)


def test_a_delivery_that_is_claimed_is_due_again_when_its_sender_dies(
    redis: Redis, deliveries: Deliveries, outbox: Outbox
) -> None:
    job = finish_job(redis)
    delivery_id = only_id(deliveries)
    assert claimed_id(outbox) == delivery_id
    assert claimed_id(outbox) is None, "nobody else sends it meanwhile"
    assert deliveries.due() == 0
    make_due(redis, delivery_id)
    assert claimed_id(outbox) == delivery_id
    delivery = deliveries.get(delivery_id, "alice")
    assert (delivery.job, delivery.event, delivery.status, delivery.attempts) == (job.id, "job.succeeded", "pending", 0)


def test_attempts_are_recorded_until_the_delivery_is_over(redis: Redis, deliveries: Deliveries, outbox: Outbox) -> None:
    finish_job(redis)
    delivery_id = claimed_id(outbox) or ""
    outbox.record(delivery_id, attempt(1), status="pending", retry_in_s=300)
    due_ms = redis.zscore("rm:due", delivery_id) or 0
    assert 290_000 < due_ms - redis.time()[0] * 1000 < 310_000
    outbox.record(delivery_id, attempt(2), status="delivered")
    delivery = deliveries.get(delivery_id, "alice")
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    assert deliveries.attempts(delivery_id) == [attempt(1), attempt(2)]
    assert redis.zcard("rm:due") == 0
    assert redis.hgetall("rm:deliveries_finished") == {"delivered": "1"}
    assert redis.ttl(f"rm:delivery:{delivery_id}") == redis.ttl(f"rm:attempts:{delivery_id}") == 30 * 86400


def test_a_record_whose_reply_was_lost_can_be_made_again(redis: Redis, deliveries: Deliveries, outbox: Outbox) -> None:
    finish_job(redis)
    delivery_id = only_id(deliveries)
    for _ in range(2):
        outbox.record(delivery_id, attempt(1), status="pending", retry_in_s=300)
    assert deliveries.get(delivery_id, "alice").attempts == 1
    for _ in range(2):
        outbox.record(delivery_id, attempt(2), status="failed")
    assert deliveries.get(delivery_id, "alice").attempts == 2
    assert redis.hgetall("rm:deliveries_finished") == {"failed": "1"}


def test_a_late_record_does_not_reopen_a_delivery_that_is_over(
    redis: Redis, deliveries: Deliveries, outbox: Outbox
) -> None:
    finish_job(redis)
    delivery_id = only_id(deliveries)
    outbox.record(delivery_id, attempt(1), status="delivered")
    outbox.record(delivery_id, attempt(2), status="pending", retry_in_s=1)
    assert deliveries.get(delivery_id, "alice").status == "delivered"
    assert redis.zcard("rm:due") == 0


def test_a_redelivery_is_due_at_once_under_the_same_id(redis: Redis, deliveries: Deliveries, outbox: Outbox) -> None:
    finish_job(redis)
    delivery_id = only_id(deliveries)
    outbox.record(delivery_id, attempt(1), status="failed")
    deliveries.redeliver(deliveries.get(delivery_id, "alice"))
    assert claimed_id(outbox) == delivery_id
    delivery = deliveries.get(delivery_id, "alice")
    assert (delivery.status, delivery.attempts) == ("pending", 0)
    assert redis.ttl(f"rm:delivery:{delivery_id}") == redis.ttl(f"rm:attempts:{delivery_id}") == -1
    assert deliveries.attempts(delivery_id) == [attempt(1)], "the log goes on"


def test_the_log_keeps_the_last_attempts_only(redis: Redis, deliveries: Deliveries, outbox: Outbox) -> None:
    finish_job(redis)
    delivery_id = only_id(deliveries)
    for number in range(30):
        outbox.record(delivery_id, attempt(number), status="pending", retry_in_s=1)
    assert deliveries.attempts(delivery_id) == [attempt(number) for number in range(10, 30)]


def test_a_record_of_a_delivery_that_is_gone_only_stops_it(redis: Redis, outbox: Outbox) -> None:
    redis.zadd("rm:due", {"msg_gone": 0})
    outbox.record("msg_gone", attempt(1), status="pending")
    assert redis.keys("rm:*") == []


def test_every_endpoint_that_asked_gets_a_delivery_of_its_own(redis: Redis, deliveries: Deliveries) -> None:
    wanted = deliveries.add_endpoint("alice", URL, ["job.succeeded", "job.failed"])
    deliveries.add_endpoint("alice", URL, ["job.failed"])
    deliveries.add_endpoint("bob", URL, ["job.succeeded"])
    finish_job(redis)
    found, _ = deliveries.page("alice", limit=10, after=None)
    assert {delivery.endpoint for delivery in found} == {"", wanted.id}
    assert len({delivery.id for delivery in found}) == 2
    assert deliveries.page("bob", limit=10, after=None)[0] == []


def test_a_removed_or_disabled_endpoint_gets_nothing_more(redis: Redis, deliveries: Deliveries) -> None:
    removed, disabled = (deliveries.add_endpoint("alice", URL, ["job.succeeded"]) for _ in range(2))
    deliveries.remove_endpoint(removed)
    deliveries.disable_endpoint(disabled, "it answered 410")
    finish_job(redis, webhook_url=None)
    assert deliveries.page("alice", limit=10, after=None) == ([], None)
    assert [(endpoint.id, endpoint.disabled) for endpoint in deliveries.endpoints("alice")] == [
        (disabled.id, "it answered 410")
    ]


def test_endpoints_are_limited_and_belong_to_their_account(deliveries: Deliveries) -> None:
    endpoints = [deliveries.add_endpoint("alice", URL, ["job.failed"]) for _ in range(MAX_ENDPOINTS)]
    with pytest.raises(RendermillError, match="conflict"):
        deliveries.add_endpoint("alice", URL, ["job.failed"])
    assert [endpoint.id for endpoint in deliveries.endpoints("alice")] == [endpoint.id for endpoint in endpoints]
    with pytest.raises(RendermillError, match="not_found"):
        deliveries.endpoint(endpoints[0].id, "bob")


def test_the_log_of_deliveries_is_paged_newest_first(redis: Redis, deliveries: Deliveries) -> None:
    for _ in range(5):
        finish_job(redis)
    everything, _ = deliveries.page("alice", limit=10, after=None)
    first, after = deliveries.page("alice", limit=3, after=None)
    rest, end = deliveries.page("alice", limit=3, after=after)
    assert first + rest == everything
    assert (len(everything), end) == (5, None)
    with pytest.raises(RendermillError, match="bad_request"):
        deliveries.page("alice", limit=3, after="msg_never_was")
    with pytest.raises(RendermillError, match="not_found"):
        deliveries.get(everything[0].id, "bob")


def test_what_is_past_its_time_leaves_the_log(redis: Redis, deliveries: Deliveries) -> None:
    finish_job(redis)
    old = only_id(deliveries)
    redis.zadd("rm:deliveries:alice", {old: (redis.time()[0] - 31 * 86400) * 1000})
    finish_job(redis)
    deliveries.prune("alice")
    assert redis.zcard("rm:deliveries:alice") == 1
    assert only_id(deliveries) != old
