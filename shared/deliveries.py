"""Webhooks: where they go, and what became of each.

A delivery is made by the script that makes its job terminal, so each exists exactly once; its id is the `webhook-id`
of every attempt. It is sent at least once: a receiver that sees an id again has had it before. `shared/outbox.py` is
the side of those who send.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

from redis import Redis

from shared.accounts import new_webhook_secret
from shared.errors import RendermillError
from shared.ids import new_id
from shared.pages import newest_ids
from shared.redis_client import PREFIX, Script, now_ms

#: Finished deliveries can be looked at and sent again for this long.
KEPT_S = 30 * 86400
#: Endpoints of one account. Each costs every finished job of the account a delivery.
MAX_ENDPOINTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A receiver that is told of all of an account's jobs."""

    id: str
    account: str
    url: str
    events: list[str]
    secret: str
    #: Unix seconds.
    created_at: float
    #: Why it is not used any more, such as its answer 410.
    disabled: str | None = None

    @classmethod
    def from_record(cls, id_: str, record: Mapping[str, str]) -> Self:
        return cls(
            id=id_,
            account=record["account"],
            url=record["url"],
            events=record["events"].split(","),
            secret=record["secret"],
            created_at=float(record["created"]),
            disabled=record.get("disabled"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one receiver. `endpoint` is empty where it goes to the job's own `webhook_url`."""

    id: str
    account: str
    job: str
    event: str
    endpoint: str
    #: `pending`, `delivered` or `failed`.
    status: str
    attempts: int
    created_at: float

    @classmethod
    def from_record(cls, id_: str, record: Mapping[str, str]) -> Self:
        return cls(
            id=id_,
            account=record["account"],
            job=record["job"],
            event=record["event"],
            endpoint=record["endpoint"],
            status=record["status"],
            attempts=int(record["attempts"]),
            created_at=int(record["created"]) / 1000,
        )

    @property
    def is_of_batch(self) -> bool:
        """Whether `job` is the id of a batch: its end is told as the end of a job is."""
        return self.job.startswith("batch_")


class Deliveries:
    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix
        self._wake_senders = Script(redis, "wake_senders", prefix)

    # Endpoints

    def add_endpoint(self, account: str, url: str, events: Sequence[str]) -> Endpoint:
        """A new endpoint with a secret of its own. Raises RendermillError `conflict` beyond `MAX_ENDPOINTS`."""
        if self._redis.scard(f"{self._prefix}endpoint_ids:{account}") >= MAX_ENDPOINTS:
            raise RendermillError("conflict", f"An account has at most {MAX_ENDPOINTS} endpoints; delete one first.")
        endpoint = Endpoint(
            id=new_id("ep"),
            account=account,
            url=url,
            events=list(events),
            secret=new_webhook_secret(),
            created_at=time.time(),
        )
        self._save(endpoint)
        return endpoint

    def endpoints(self, account: str) -> list[Endpoint]:
        """The account's endpoints, oldest first."""
        ids = cast(set[str], self._redis.smembers(f"{self._prefix}endpoint_ids:{account}"))
        found = [self._read_endpoint(id_) for id_ in ids]
        return sorted((endpoint for endpoint in found if endpoint), key=lambda endpoint: endpoint.created_at)

    def endpoint(self, endpoint_id: str, account: str) -> Endpoint:
        """The endpoint. Raises RendermillError `not_found`, also for another account's."""
        endpoint = self._read_endpoint(endpoint_id)
        if endpoint is None or endpoint.account != account:
            raise RendermillError("not_found", f"There is no webhook endpoint {endpoint_id}.")
        return endpoint

    def remove_endpoint(self, endpoint: Endpoint) -> None:
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(f"{self._prefix}endpoint:{endpoint.id}")
        pipeline.srem(f"{self._prefix}endpoint_ids:{endpoint.account}", endpoint.id)
        pipeline.hdel(f"{self._prefix}endpoints:{endpoint.account}", endpoint.id)
        pipeline.execute()

    def disable_endpoint(self, endpoint: Endpoint, why: str) -> None:
        """Send it nothing more. (Standard Webhooks: a receiver answers 410 to say so.)"""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(f"{self._prefix}endpoint:{endpoint.id}", "disabled", why)
        pipeline.hdel(f"{self._prefix}endpoints:{endpoint.account}", endpoint.id)
        pipeline.execute()

    def _save(self, endpoint: Endpoint) -> None:
        events = ",".join(endpoint.events)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(
            f"{self._prefix}endpoint:{endpoint.id}",
            mapping={
                "account": endpoint.account,
                "url": endpoint.url,
                "events": events,
                "secret": endpoint.secret,
                "created": repr(endpoint.created_at),
            },
        )
        pipeline.sadd(f"{self._prefix}endpoint_ids:{endpoint.account}", endpoint.id)
        # The scripts that end a job look here.
        pipeline.hset(f"{self._prefix}endpoints:{endpoint.account}", endpoint.id, events)
        pipeline.execute()

    def _read_endpoint(self, endpoint_id: str) -> Endpoint | None:
        record = cast(dict[str, str], self._redis.hgetall(f"{self._prefix}endpoint:{endpoint_id}"))
        return Endpoint.from_record(endpoint_id, record) if record else None

    # Deliveries

    def due(self) -> int:
        """How many deliveries are due."""
        return self._redis.zcount(self._prefix + "due", "-inf", now_ms(self._redis))

    def read(self, delivery_id: str) -> Delivery | None:
        record = cast(dict[str, str], self._redis.hgetall(f"{self._prefix}delivery:{delivery_id}"))
        return Delivery.from_record(delivery_id, record) if record else None

    def get(self, delivery_id: str, account: str) -> Delivery:
        """The delivery. Raises RendermillError `not_found`, also for another account's."""
        delivery = self.read(delivery_id)
        if delivery is None or delivery.account != account:
            raise RendermillError("not_found", f"There is no webhook delivery {delivery_id}.")
        return delivery

    def attempts(self, delivery_id: str) -> list[dict[str, Any]]:
        """The delivery's attempts, oldest first."""
        rows = cast(list[str], self._redis.lrange(f"{self._prefix}attempts:{delivery_id}", 0, -1))
        return [json.loads(row) for row in rows]

    def page(self, account: str, *, limit: int, after: str | None) -> tuple[list[Delivery], str | None]:
        """Up to `limit` deliveries, newest first, after the delivery `after`; and the id to go on after.

        Raises RendermillError `bad_request` where `after` is not one of them.
        """
        index = f"{self._prefix}deliveries:{account}"
        ids, has_more = newest_ids(self._redis, index, limit=limit, after=after, kind="deliveries")
        found = [delivery for id_ in ids if (delivery := self.read(id_))]
        return found, ids[-1] if has_more else None

    def redeliver(self, delivery: Delivery) -> None:
        """Send it again now, with the same id."""
        due_ms = now_ms(self._redis)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hset(f"{self._prefix}delivery:{delivery.id}", mapping={"status": "pending", "attempts": 0})
        pipeline.persist(f"{self._prefix}delivery:{delivery.id}")
        pipeline.persist(f"{self._prefix}attempts:{delivery.id}")
        pipeline.zadd(self._prefix + "due", {delivery.id: due_ms})
        self._wake_senders.into(pipeline)
        pipeline.execute()

    def prune(self, account: str) -> None:
        """Drop what is past its time from the account's log."""
        oldest_ms = now_ms(self._redis) - KEPT_S * 1000
        self._redis.zremrangebyscore(f"{self._prefix}deliveries:{account}", "-inf", oldest_ms)
