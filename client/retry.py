"""When a call is worth another try, and how long to wait before it."""

from __future__ import annotations

import random
import time

from client.errors import ApiError, ClientError, Unreachable

#: Seconds before the second try, doubled with each further one up to the second number.
FIRST_WAIT_S = 0.5
LAST_WAIT_S = 8.0
#: Too many requests; the farm waits for Redis or S3; and what a proxy answers for a farm that is being restarted.
PASSING = frozenset({429, 502, 503, 504})


class Patience:
    """The time within which a call may be tried again."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._wait = FIRST_WAIT_S

    def wait_s(self, error: ClientError) -> float | None:
        """How long to wait after `error`; None where no other try is worth it or time is over."""
        if not passes(error):
            return None
        # Clients that one restart threw out do not come back all at the same moment.
        wait = self._wait * random.uniform(0.5, 1.0)
        self._wait = min(2 * self._wait, LAST_WAIT_S)
        if isinstance(error, ApiError) and error.retry_after_s is not None:
            wait = max(wait, error.retry_after_s)
        return None if time.monotonic() + wait > self._deadline else wait


def passes(error: ClientError) -> bool:
    """Whether the same call may go well a little later."""
    return isinstance(error, Unreachable) or (isinstance(error, ApiError) and error.status in PASSING)
