"""What is to be sent now: how senders of webhooks are woken, what they claim, and what they report.

A sender sleeps until it is woken. A wake-up names no delivery: like a ticket it may be lost, late or doubled, for what
is due is read from Redis. One script then answers everything that a message takes, so that between the end of a job and
its webhook lie two answers of Redis.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from shared.batches import Batch
from shared.deliveries import KEPT_S, Delivery, Endpoint
from shared.images import Image
from shared.jobs import Job
from shared.records import job_of
from shared.redis_client import PREFIX, Script, now_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """A delivery that is to be sent now, and all that its message takes, as it was when it was claimed."""

    delivery: Delivery
    #: None for the job's own `webhook_url`, and for an endpoint that was removed.
    endpoint: Endpoint | None
    #: The account's webhook secrets that sign now, the present one first; none where it never had one.
    secrets: list[str]
    #: What it tells of; None where that is past its retention.
    subject: Job | Batch | None
    #: Of a job, those of its images that exist, by id, and those of them that are published.
    images: Mapping[str, Image]
    published: set[str]


class Outbox:
    """The senders' side of deliveries. Safe to share between threads."""

    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix
        self._wake = Script(redis, "wake_senders", prefix)
        self._claim = Script(redis, "claim_delivery", prefix)
        self._record = Script(redis, "record_delivery", prefix)

    def sleep(self, seconds: float) -> bool:
        """Return when something may be due, at the latest after `seconds`; whether it may.

        `seconds` must be well below the time after which an answer of Redis counts as lost: a connection that is half
        open is then told from a quiet one, and replaced.
        """
        return self._redis.blpop([self._prefix + "wake_ups"], timeout=seconds) is not None

    def wake_senders(self) -> None:
        """Wake senders for what has become due, or has lost its wake-up."""
        self._wake()

    def claim(self, lease_s: float) -> Dispatch | None:
        """A delivery to send now, or None; it is due again after `lease_s` unless `record` is called."""
        answer = self._claim(round(lease_s * 1000))
        return _dispatch(*answer) if answer else None

    def postpone(self, delivery_id: str, wait_s: float) -> None:
        """Put a claimed delivery off without an attempt."""
        due_ms = now_ms(self._redis) + wait_s * 1000
        self._redis.zadd(self._prefix + "due", {delivery_id: due_ms}, xx=True)

    def record(self, delivery_id: str, attempt: dict[str, Any], *, status: str, retry_in_s: float = 0) -> None:
        """Write an attempt down. `status` is `delivered`, `failed`, or `pending` to try again in `retry_in_s`.

        `attempt` tells when it was made: the same one a second time is taken for a repeated call, and changes nothing.
        """
        self._record(delivery_id, json.dumps(attempt), status, round(retry_in_s * 1000), KEPT_S)


def _dispatch(
    id_: str,
    record: Sequence[str],
    endpoint: Sequence[str],
    secret: str,
    old_secret: str,
    subject: Sequence[str],
    spec: str = "",
    result: str = "",
    images: Sequence[str] = (),
    published: Sequence[str] = (),
) -> Dispatch:
    delivery = Delivery.from_record(id_, _record(record))
    return Dispatch(
        delivery=delivery,
        endpoint=Endpoint.from_record(delivery.endpoint, _record(endpoint)) if endpoint else None,
        secrets=[one for one in (secret, old_secret) if one],
        subject=_subject(delivery, _record(subject), spec, result),
        images={image: Image.from_record(image, text) for image, text in _record(images).items()},
        published=set(published),
    )


def _subject(delivery: Delivery, record: dict[str, str], spec: str, result: str) -> Job | Batch | None:
    if delivery.is_of_batch:
        return Batch.from_record(delivery.job, record) if "status" in record else None
    return job_of(delivery.job, record, spec, result)


def _record(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
