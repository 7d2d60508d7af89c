"""Sending webhooks, signed as Standard Webhooks says: https://www.standardwebhooks.com

Tickets say that something is due; what is due is read from Redis. So a delivery survives its sender, and is sent
again, with the same id, until its receiver takes it or its schedule ends. A receiver takes it with any 2xx; the rest
of its answer is not waited for.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from redis.exceptions import RedisError
from standardwebhooks import Webhook

from shared.accounts import Accounts
from shared.batches import Batches
from shared.deliveries import Deliveries, Delivery
from shared.egress import EgressBlocked
from shared.errors import RendermillError
from shared.images import iso_time
from shared.records import Records
from shared.views import Views
from worker import metrics
from worker.lanes import Lanes
from worker.patience import patiently

_log = logging.getLogger(__name__)

#: A claimed delivery is due again after the receiver's time and this much, should its sender die. The receiver's time
#: does not bound the look-up of its name, which takes a dead name server half a minute.
_LEASE_MARGIN_S = 45.0
#: Retries are spread by up to this share, so that receivers that come back are not hit by all at once.
_JITTER = 0.1
#: The longest wait that a receiver's Retry-After can ask for.
_MAX_RETRY_AFTER_S = 86400.0
#: How much of a receiver's answer is kept for the log.
_ANSWER_KEPT = 500
#: A delivery that found no free place is put off by this to twice this: about one try of a slow receiver.
_POSTPONED_S = 15.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one attempt. `result` is the label of the metric."""

    result: str
    http_status: int | None = None
    detail: str = ""
    #: No retry can mend it.
    final: bool = False
    retry_after_s: float | None = None

    @property
    def delivered(self) -> bool:
        return self.result == "delivered"


@dataclass(frozen=True, slots=True)
class _Subject:
    """A job or a batch that ended; `url` is where it itself says that this is to be told."""

    url: str | None
    ended_at: float | None
    view: Callable[[], dict[str, Any]]


class WebhookSender:
    """Sends what is due. Safe to share between threads."""

    def __init__(
        self,
        *,
        deliveries: Deliveries,
        records: Records,
        accounts: Accounts,
        views: Views,
        http: httpx.Client,
        lanes: Lanes,
        timeout_s: float,
        retries_s: Sequence[float],
        batches: Batches,
    ) -> None:
        self._deliveries = deliveries
        self._records = records
        self._accounts = accounts
        self._views = views
        self._http = http
        self._lanes = lanes
        self._lease_s = timeout_s + _LEASE_MARGIN_S
        self._retries_s = retries_s
        self._batches = batches
        #: Set when the process is told to go: what is being sent is finished, nothing more is begun.
        self.draining = False

    def send_due(self) -> None:
        """Send deliveries, one after the other, until none is due."""
        while not self.draining and (claimed := self._deliveries.claim_due(1, self._lease_s)):
            for delivery in claimed:
                self._send(delivery)

    def _send(self, delivery: Delivery) -> None:
        with self._lanes.place(delivery.account) as free:
            if not free:
                metrics.WEBHOOKS_POSTPONED.inc()
                self._deliveries.postpone(delivery.id, _POSTPONED_S * random.uniform(1, 2))
                return
            started = time.time()
            outcome = self._attempt(delivery)
        seconds = time.time() - started
        metrics.WEBHOOK_ATTEMPTS.labels(outcome.result).inc()
        metrics.WEBHOOK_SECONDS.observe(seconds)
        self._record(delivery, outcome, started, seconds)

    def _record(self, delivery: Delivery, outcome: _Outcome, started: float, seconds: float) -> None:
        attempt = {
            "at": iso_time(started),
            "seconds": round(seconds, 3),
            "result": outcome.result,
            "http_status": outcome.http_status,
            "detail": outcome.detail,
        }
        status, wait_s = "pending", 0.0
        if outcome.delivered:
            status = "delivered"
        elif outcome.final or delivery.attempts >= len(self._retries_s):
            status = "failed"
            _log.warning("gave %s up: %s %s", delivery.id, outcome.result, outcome.detail)
        else:
            wait_s = self._retries_s[delivery.attempts] * random.uniform(1, 1 + _JITTER)
            wait_s = max(wait_s, outcome.retry_after_s or 0)
        # What is not recorded is sent again; later than this it is anyway.
        patiently(
            lambda: self._deliveries.record(delivery.id, attempt, status=status, retry_in_s=wait_s),
            RedisError,
            _LEASE_MARGIN_S,
        )

    def _attempt(self, delivery: Delivery) -> _Outcome:
        """One attempt, whatever happens in it: one that was not recorded would be made again and again."""
        try:
            return self._post(delivery, self._subject(delivery))
        except RedisError:
            raise
        except RendermillError as error:
            return _Outcome("gone", detail=error.detail, final=True)
        except Exception as error:
            _log.exception("%s could not be sent", delivery.id)
            return _Outcome("error", detail=f"{type(error).__name__} while sending")

    def _subject(self, delivery: Delivery) -> _Subject:
        """What the message is about. Raises RendermillError where that is gone."""
        if delivery.is_of_batch:
            batch = self._batches.get(delivery.job)
            return _Subject(None, batch.ended_at, batch.view)
        job = self._records.get(delivery.job)
        return _Subject(job.webhook_url, job.finished_at, lambda: self._views.job(job))

    def _post(self, delivery: Delivery, subject: _Subject) -> _Outcome:
        if not delivery.endpoint:
            assert subject.url, "a delivery without an endpoint is made only for a job with a webhook_url"
            return self._send_to(subject.url, self._accounts.webhook_secrets(delivery.account), delivery, subject)
        endpoint = self._deliveries.endpoint(delivery.endpoint, delivery.account)
        if endpoint.disabled:
            return _Outcome("gone", detail=f"the endpoint is disabled: {endpoint.disabled}", final=True)
        outcome = self._send_to(endpoint.url, [endpoint.secret], delivery, subject)
        if outcome.http_status == httpx.codes.GONE:
            self._deliveries.disable_endpoint(endpoint, "it answered 410")
        return outcome

    def _send_to(self, url: str, secrets: Sequence[str], delivery: Delivery, subject: _Subject) -> _Outcome:
        now = datetime.now(UTC)
        body = self._body(delivery, subject)
        headers = {
            "content-type": "application/json",
            "user-agent": "Rendermill",
            # What is kept of an answer is kept as it comes: unpacking could make much of little.
            "accept-encoding": "identity",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(Webhook(secret).sign(delivery.id, now, body) for secret in secrets),
        }
        try:
            with self._http.stream("POST", url, content=body.encode(), headers=headers) as response:
                if response.is_success:
                    _end_short_answer(response)
                    return _Outcome("delivered", response.status_code)
                return _refused(response)
        except EgressBlocked as error:
            return _Outcome("blocked", detail=str(error), final=True)
        except httpx.TimeoutException:
            return _Outcome("timeout", detail="the receiver took too long")
        except httpx.HTTPError as error:
            return _Outcome("unreachable", detail=f"{type(error).__name__}: {error}")

    def _body(self, delivery: Delivery, subject: _Subject) -> str:
        ended = subject.ended_at or delivery.created_at
        body = {"type": delivery.event, "timestamp": iso_time(ended), "data": subject.view()}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _refused(response: httpx.Response) -> _Outcome:
    return _Outcome(
        f"http_{response.status_code // 100}xx",
        response.status_code,
        detail=_beginning(response),
        final=response.status_code == httpx.codes.GONE,
        retry_after_s=_retry_after(response),
    )


def _end_short_answer(response: httpx.Response) -> None:
    """Read what there is, where that is next to nothing: only then can the connection be used again."""
    length = response.headers.get("content-length", "")
    if response.status_code == httpx.codes.NO_CONTENT or (length.isdecimal() and int(length) <= _ANSWER_KEPT):
        with suppress(httpx.HTTPError):
            for _ in response.iter_raw():
                pass


def _beginning(response: httpx.Response) -> str:
    """The first part of an answer, however long it is, and though its sender may die in the middle."""
    try:
        for chunk in response.iter_raw(_ANSWER_KEPT):
            return chunk[:_ANSWER_KEPT].decode("utf-8", "replace")
    except httpx.HTTPError:
        pass
    return ""


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of a Retry-After header; dates, which receivers hardly send, are left to the schedule."""
    text = response.headers.get("retry-after", "")
    return min(float(text), _MAX_RETRY_AFTER_S) if text.isdecimal() else None
