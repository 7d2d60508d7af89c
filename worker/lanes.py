"""Keeping slow receivers of webhooks from holding every sender.

A dead receiver with hundreds of webhooks due would take all sender threads, fifteen seconds for each try, and
everybody else would wait for minutes. So the webhooks of an account that was slow lately share a part of the threads;
the rest stays free for accounts whose receivers answer. A receiver that turns slow holds the others up once, for one
timeout at most.

By account, not by address: an account can have as many addresses as it likes. What is remembered is this process's
own; another one learns it with its first slow try.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: An answer that took longer than this is slow: a thread then sends fewer than one webhook in two seconds.
_SLOW_S = 2.0
#: How long a slow answer is remembered. Not forgotten at the next quick one: an account may have a good receiver
#: beside a dead one.
_REMEMBERED_S = 60.0


class Lanes:
    """Places to send from: any number for the quick, `slow_places` for all the slow together."""

    def __init__(self, slow_places: int) -> None:
        self._slow_places = slow_places
        self._slow_sends = 0
        self._slow_until: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def place(self, account: str) -> Iterator[bool]:
        """Send within the block; False where no place is free, and nothing is to be sent now."""
        started = time.monotonic()
        with self._lock:
            slow = self._slow_until.get(account, 0.0) > started
            free = not slow or self._slow_sends < self._slow_places
            self._slow_sends += slow and free
        if not free:
            yield False
            return
        try:
            yield True
        finally:
            now = time.monotonic()
            with self._lock:
                self._slow_sends -= slow
                if now - started > _SLOW_S:
                    self._slow_until[account] = now + _REMEMBERED_S
