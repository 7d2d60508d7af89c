"""A webhook sender and finished jobs for it to tell of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
from redis import Redis

from shared.accounts import Accounts
from shared.deliveries import Deliveries, Delivery
from shared.outbox import Outbox
from shared.views import Views
from tests.scheduling import MODEL, complete, new_job, new_scheduler
from worker.lanes import Lanes
from worker.webhooks import WebhookSender

URL = "https://receiver.example/hook"
RETRIES_S = (5.0, 300.0)


class Sending:
    """A sender over `transport`, and what became of each delivery."""

    def __init__(
        self,
        redis: Redis,
        transport: httpx.BaseTransport,
        *,
        slow_places: int = 2,
        retries_s: Sequence[float] = RETRIES_S,
    ) -> None:
        self.redis = redis
        self.deliveries = Deliveries(redis)
        self.accounts = Accounts(redis)
        self.scheduler = new_scheduler(redis)
        self.outbox = Outbox(redis)
        self.sender = WebhookSender(
            outbox=self.outbox,
            deliveries=self.deliveries,
            accounts=self.accounts,
            views=Views(redis, self.scheduler, "https://farm.example"),
            transport=transport,
            lanes=Lanes(slow_places),
            timeout_s=1.0,
            retries_s=retries_s,
        )

    def finish(self, account: str = "alice", *, url: str | None = URL) -> str:
        """Let a job of the account succeed; its id."""
        job = replace(new_job(account, webhook_url=url), webhook_events=("job.succeeded",))
        self.scheduler.enqueue(account, [job])
        (lease,) = self.scheduler.claim(MODEL, "worker-1", max_images=1).leases
        complete(self.scheduler, lease)
        return job.id

    def delivery(self, job_id: str) -> Delivery:
        """The delivery to the job's own address."""
        found = self.deliveries.read(f"msg_{job_id.removeprefix('job_')}_succeeded")
        assert found is not None
        return found

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        return self.deliveries.attempts(self.delivery(job_id).id)

    def due_in_s(self, job_id: str) -> float | None:
        """Seconds until the delivery is tried again; None where it is over."""
        due = self.redis.zscore("rm:due", self.delivery(job_id).id)
        seconds, microseconds = self.redis.time()
        return None if due is None else due / 1000 - seconds - microseconds / 1e6

    def make_due(self) -> None:
        """Make every waiting delivery due at once."""
        for delivery_id in self.redis.zrange("rm:due", 0, -1):
            self.redis.zadd("rm:due", {delivery_id: 0})


#: A status, one with headers, a whole response, or what goes wrong.
Answer = int | tuple[int, dict[bytes, bytes]] | httpx.Response | Exception


class Receiver:
    """Answers as it is told, and keeps what it was sent."""

    def __init__(self, *answers: Answer) -> None:
        """The answers in turn, the last one for ever."""
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        status, headers = (answer, {}) if isinstance(answer, int) else answer
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(b"what it says"))

    @property
    def transport(self) -> httpx.BaseTransport:
        return httpx.MockTransport(self)
