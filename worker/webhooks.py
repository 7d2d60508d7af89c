"""Sending webhooks, signed as Standard Webhooks says: https://www.standardwebhooks.com

A wake-up says that something may be due; what is due is read from Redis. So a delivery survives its sender, and is sent
again, with the same id, until its receiver takes it or its schedule ends. A receiver takes it with any 2xx; the rest
of its answer is not waited for.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from redis.exceptions import RedisError
from standardwebhooks import Webhook

from shared.accounts import Accounts
from shared.batches import Batch
from shared.deliveries import Deliveries, Delivery
from shared.egress import EgressBlocked
from shared.images import iso_time
from shared.jobs import Job
from shared.outbox import Dispatch, Outbox
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
#: A sender that is woken by nobody looks up this often: how long one that is told to go may take, and how long a
#: machine that vanished may swallow the wake-ups of its senders. Well below the time-out of a connection to Redis.
_SLEEP_S = 2.0
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


class WebhookSender:
    """Sends what is due. Safe to share between threads."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        deliveries: Deliveries,
        accounts: Accounts,
        views: Views,
        transport: httpx.BaseTransport,
        lanes: Lanes,
        timeout_s: float,
        retries_s: Sequence[float],
    ) -> None:
        self._outbox = outbox
        self._deliveries = deliveries
        self._accounts = accounts
        self._views = views
        self._transport = transport
        self._lanes = lanes
        self._lease_s = timeout_s + _LEASE_MARGIN_S
        self._retries_s = retries_s
        #: Set when the process is told to go: what is being sent is finished, nothing more is begun.
        self.draining = False

    def send_when_woken(self) -> None:
        """Sleep until something may be due, though not for long, and send it."""
        if self._outbox.sleep(_SLEEP_S):
            self.send_due()

    def send_due(self) -> None:
        """Send deliveries, one after the other, until none is due."""
        while not self.draining and (dispatch := self._outbox.claim(self._lease_s)):
            self._send(dispatch)

    def _send(self, dispatch: Dispatch) -> None:
        delivery = dispatch.delivery
        with self._lanes.place(delivery.account) as free:
            if not free:
                metrics.WEBHOOKS_POSTPONED.inc()
                self._outbox.postpone(delivery.id, _POSTPONED_S * random.uniform(1, 2))
                return
            started = time.time()
            outcome = self._attempt(dispatch)
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
            lambda: self._outbox.record(delivery.id, attempt, status=status, retry_in_s=wait_s),
            RedisError,
            _LEASE_MARGIN_S,
        )

    def _attempt(self, dispatch: Dispatch) -> _Outcome:
        """One attempt, whatever happens in it: one that was not recorded would be made again and again."""
        try:
            return self._post(dispatch)
        except RedisError:
            raise
        except Exception as error:
            _log.exception("%s could not be sent", dispatch.delivery.id)
            return _Outcome("error", detail=f"{type(error).__name__} while sending")

    def _post(self, dispatch: Dispatch) -> _Outcome:
        delivery, endpoint, subject = dispatch.delivery, dispatch.endpoint, dispatch.subject
        if subject is None:
            return _gone(f"{delivery.job} is past its retention and was removed")
        if not delivery.endpoint:
            assert isinstance(subject, Job), "batches are told to endpoints only"
            assert subject.webhook_url, "a delivery without an endpoint is made only for a job with a webhook_url"
            secrets = dispatch.secrets or [self._accounts.webhook_secret(delivery.account)]
            return self._send_to(subject.webhook_url, secrets, dispatch, subject)
        if endpoint is None:
            return _gone("the endpoint was removed")
        if endpoint.disabled:
            return _gone(f"the endpoint is disabled: {endpoint.disabled}")
        outcome = self._send_to(endpoint.url, [endpoint.secret], dispatch, subject)
        if outcome.http_status == httpx.codes.GONE:
            self._deliveries.disable_endpoint(endpoint, "it answered 410")
        return outcome

    def _send_to(self, url: str, secrets: Sequence[str], dispatch: Dispatch, subject: Job | Batch) -> _Outcome:
        delivery = dispatch.delivery
        now = datetime.now(UTC)
        body = self._body(dispatch, subject)
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
            request = httpx.Request("POST", url, content=body.encode(), headers=headers)
            with closing(self._transport.handle_request(request)) as response:
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

    def _body(self, dispatch: Dispatch, subject: Job | Batch) -> str:
        if isinstance(subject, Batch):
            ended, view = subject.ended_at, subject.view()
        else:
            ended = subject.finished_at
            view = self._views.ended_job(subject, dispatch.images, dispatch.published)
        delivery = dispatch.delivery
        body = {"type": delivery.event, "timestamp": iso_time(ended or delivery.created_at), "data": view}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _gone(detail: str) -> _Outcome:
    return _Outcome("gone", detail=detail, final=True)


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
