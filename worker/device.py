"""Who has the device, and when it will be free: so that its next batch is ready just then, and not long before.

Between two batches a device waits for a claim and for input images out of S3, unless somebody sees to them while it is
still at work. Too early is no better: a job that comes later could have had the place, and waits for one batch more. So
the next batch is prepared when the present one has as much time left as preparing took lately. A batch is taken to last
as long as the last one of its kind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable

#: Kinds of batches whose durations are remembered: users are free to ask for any size and number of steps.
_KINDS = 1000
#: No batch is prepared before this share of the one before it is over: a job comes late by half a batch at most.
_NOT_BEFORE = 0.5
#: What a thread's wake-up and a batch's duration vary by, on a machine that has something else to do.
_MARGIN_S = 0.005
#: What remains from batch to batch of the time that a preparation took: a tenth after some twenty.
_REMAINS = 0.9


class Device:
    """A device that works on one batch at a time. Safe to share between threads, of which one at a time prepares."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy_since: float | None = None
        self._free_since = time.monotonic()
        #: Of the batch that has it; None where nobody can tell how long it will take.
        self._kind: Hashable | None = None
        self._seconds: dict[Hashable, float] = {}
        self._preparing_s = 0.0

    @property
    def busy(self) -> bool:
        """Whether a batch has it."""
        return self._busy_since is not None

    def wait_until_nearly_free(self) -> None:
        """Return when it is time to prepare the next batch; at the latest when the device is free."""
        with self._changed:
            while (left_s := self._left_s()) is None or left_s > 0:
                self._changed.wait(left_s)

    def _left_s(self) -> float | None:
        """Seconds until the next batch is to be prepared; None where that is not known."""
        if self._busy_since is None:
            return 0.0
        if self._kind not in self._seconds:
            return None
        seconds = self._seconds[self._kind]
        begin_s = max(_NOT_BEFORE * seconds, seconds - self._preparing_s - _MARGIN_S)
        return self._busy_since + begin_s - time.monotonic()

    def prepared(self, seconds: float) -> None:
        """To prepare a batch took so long."""
        self._preparing_s = max(seconds, _REMAINS * self._preparing_s)

    def take(self, kind: Hashable | None) -> float:
        """Wait until the device is free, and have it; for how many seconds it had been free.

        Batches of a kind take equally long; the kind is None where nobody can tell.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self.busy)
            self._kind, self._busy_since = kind, time.monotonic()
            return self._busy_since - self._free_since

    def leave(self, *, as_usual: bool) -> None:
        """The batch is over. `as_usual` says that nothing went wrong: the next of its kind will take as long."""
        with self._changed:
            assert self._busy_since is not None, "whoever leaves it has taken it"
            self._free_since = time.monotonic()
            if as_usual and self._kind is not None:
                self._seconds.pop(self._kind, None)
                self._seconds[self._kind] = self._free_since - self._busy_since
                if len(self._seconds) > _KINDS:
                    del self._seconds[next(iter(self._seconds))]
            self._busy_since = None
            self._changed.notify_all()
