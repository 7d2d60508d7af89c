"""The webhooks of an account: its endpoints, its secrets, and the log of deliveries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

from client.answers import Answer, answer_of, items
from client.client import Client

_PATH = "/v1/webhooks"
_PAGE = 100


class Event(StrEnum):
    """What an endpoint can be told of."""

    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELED = "job.canceled"
    JOB_EXPIRED = "job.expired"
    BATCH_COMPLETED = "batch.completed"
    BATCH_FAILED = "batch.failed"
    BATCH_EXPIRED = "batch.expired"
    BATCH_CANCELLED = "batch.cancelled"


class Webhooks:
    """Raises what Client raises."""

    def __init__(self, farm: Client) -> None:
        self._farm = farm

    def endpoints(self) -> list[Answer]:
        """Every endpoint, oldest first."""
        return items(self._ask("GET", _PATH))

    def create(self, url: str, events: Sequence[Event] = ()) -> Answer:
        """A new endpoint with its `secret`; it is told of all events where none is named."""
        return self._ask("POST", _PATH, json={"url": url, **({"events": list(events)} if events else {})})

    def delete(self, endpoint_id: str) -> None:
        """Tell this endpoint nothing more."""
        self._farm.request("DELETE", f"{_PATH}/{endpoint_id}")

    def secret(self, endpoint_id: str | None = None) -> str:
        """The secret that signs what an endpoint is sent; without an id, what goes to the `webhook_url` of jobs."""
        path = f"{_PATH}/{endpoint_id}/secret" if endpoint_id else f"{_PATH}/secret"
        return str(self._ask("GET", path)["secret"])

    def rotate_secret(self) -> str:
        """A new secret for the `webhook_url` of jobs; for a day the old one signs beside it."""
        return str(self._ask("POST", f"{_PATH}/secret/rotate")["secret"])

    def deliveries(self, *, limit: int | None = None) -> Iterator[Answer]:
        """The newest deliveries first, at most `limit`, with every attempt."""
        left, after = limit, None
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            page = self._ask("GET", f"{_PATH}/deliveries", limit=size, after=after)
            yield from items(page)
            after = page["after"]
            if after is None:
                return
            left = None if left is None else left - size

    def redeliver(self, delivery_id: str) -> Answer:
        """Send it again, with the same id."""
        return self._ask("POST", f"{_PATH}/deliveries/{delivery_id}/redeliver")

    def _ask(self, method: str, path: str, **how: Any) -> Answer:
        return answer_of(self._farm.request(method, path, **how))
