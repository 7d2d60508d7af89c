"""Sending webhooks, signed as Standard Webhooks says: https://www.standardwebhooks.com

Tickets say that something is due; what is due is read from Redis. So a delivery survives its sender, and is sent
again, with the same id, until its receiver takes it or its schedule ends.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from shared.egress import EgressBlocked
from standardwebhooks import Webhook

from shared.accounts import Accounts
from shared.deliveries import Deliveries, Delivery, Endpoint
from shared.errors import RendermillError
from shared.images import iso_time
from shared.jobs import Job
from shared.records import Records
from shared.views import Views
from worker import metrics

_log = logging.getLogger(__name__)

#: A claimed delivery is due again after the receiver's time and this much, should its sender die.
_LEASE_MARGIN_S = 15.0
#: Retries are spread by up to this share, so that receivers that come back are not hit by all at once.
_JITTER = 0.1
#: The longest wait that a receiver's Retry-After can ask for.
_MAX_RETRY_AFTER_S = 86400.0
#: How much of a receiver's answer is kept for the log.
_ANSWER_KEPT = 500


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
        timeout_s: float,
        retries_s: Sequence[float],
    ) -> None:
        self._deliveries = deliveries
        self._records = records
        self._accounts = accounts
        self._views = views
        self._http = http
        self._lease_s = timeout_s + _LEASE_MARGIN_S
        self._retries_s = retries_s

    def send_due(self) -> None:
        """Send deliveries, one after the other, until none is due."""
        while ids := self._deliveries.claim_due(1, self._lease_s):
            for delivery_id in ids:
                self._send(delivery_id)

    def _send(self, delivery_id: str) -> None:
        delivery = self._deliveries.read(delivery_id)
        if delivery is None:
            self._deliveries.record(delivery_id, {}, status="failed")
            return
        started = time.time()
        outcome = self._attempt(delivery)
        metrics.WEBHOOK_ATTEMPTS.labels(outcome.result).inc()
        metrics.WEBHOOK_SECONDS.observe(time.time() - started)
        attempt = {
            "at": iso_time(started),
            "seconds": round(time.time() - started, 3),
            "result": outcome.result,
            "http_status": outcome.http_status,
            "detail": outcome.detail,
        }
        retries_left = delivery.attempts < len(self._retries_s)
        if outcome.delivered:
            self._deliveries.record(delivery.id, attempt, status="delivered")
        elif outcome.final or not retries_left:
            self._deliveries.record(delivery.id, attempt, status="failed")
            _log.warning("gave %s up: %s %s", delivery.id, outcome.result, outcome.detail)
        else:
            wait = self._retries_s[delivery.attempts] * random.uniform(1, 1 + _JITTER)
            self._deliveries.record(
                delivery.id, attempt, status="pending", retry_in_s=max(wait, outcome.retry_after_s or 0)
            )

    def _attempt(self, delivery: Delivery) -> _Outcome:
        try:
            job = self._records.get(delivery.job)
        except RendermillError:
            return _Outcome("gone", detail="the job is past its retention", final=True)
        endpoint: Endpoint | None = None
        if delivery.endpoint:
            try:
                endpoint = self._deliveries.endpoint(delivery.endpoint, delivery.account)
            except RendermillError:
                return _Outcome("gone", detail="the endpoint was deleted", final=True)
        url = endpoint.url if endpoint else job.webhook_url
        secret = endpoint.secret if endpoint else self._accounts.webhook_secret(delivery.account)
        assert url is not None, "a delivery without an endpoint is made only for a job with a webhook_url"
        outcome = self._post(url, secret, delivery, self._body(delivery, job))
        if endpoint and outcome.http_status == httpx.codes.GONE:
            self._deliveries.disable_endpoint(endpoint, "it answered 410")
        return outcome

    def _body(self, delivery: Delivery, job: Job) -> str:
        finished = job.finished_at or delivery.created_at
        body = {"type": delivery.event, "timestamp": iso_time(finished), "data": self._views.job(job)}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))

    def _post(self, url: str, secret: str, delivery: Delivery, body: str) -> _Outcome:
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": "Rendermill",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(delivery.id, now, body),
        }
        try:
            with self._http.stream("POST", url, content=body.encode(), headers=headers) as response:
                answer = _beginning(response)
        except EgressBlocked as error:
            return _Outcome("blocked", detail=str(error), final=True)
        except httpx.TimeoutException:
            return _Outcome("timeout", detail="the receiver took too long")
        except httpx.HTTPError as error:
            return _Outcome("unreachable", detail=f"{type(error).__name__}: {error}")
        if response.is_success:
            return _Outcome("delivered", response.status_code)
        kind = f"http_{response.status_code // 100}xx"
        gone = response.status_code == httpx.codes.GONE
        return _Outcome(kind, response.status_code, answer, gone, _retry_after(response))


def _beginning(response: httpx.Response) -> str:
    """The first part of an answer, however long it is."""
    for chunk in response.iter_bytes(_ANSWER_KEPT):
        return chunk[:_ANSWER_KEPT].decode("utf-8", "replace")
    return ""


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of a Retry-After header; dates, which receivers hardly send, are left to the schedule."""
    text = response.headers.get("retry-after", "")
    return min(float(text), _MAX_RETRY_AFTER_S) if text.isdigit() else None
