"""The worker's heartbeat: tells the farm it lives, its container's probe that it is well, and notices when it is not.

A connection to Redis that is half open looks healthy to Celery for ever: no ticket comes, and nothing fails. So a
worker that is idle while claimable work grows old exits, and whatever started it starts it again. So does one whose
device has been silent for so long that it must be hanging: its leases would be renewed for ever.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from redis.exceptions import RedisError

from shared.workers import HEARTBEAT_S
from worker import metrics

_log = logging.getLogger(__name__)

#: The exit status for "a temporary failure, try again" (EX_TEMPFAIL of sysexits.h).
EXIT_STUCK = 75
#: A heartbeat that last ran this long ago has stopped. Longer than one beat takes when Redis swallows packets
#: (nine tries of ten seconds): a probe must not kill a worker for that, and the pictures in its hands with it.
STALE_S = 120.0
#: No step of the slowest device and no load of the largest checkpoint takes this long; a driver that hangs does.
_SILENT_S = 3600.0


def tick_file() -> Path:
    """Touched at every beat; its age is what `python -m worker alive` looks at."""
    return Path(tempfile.gettempdir()) / "rendermill-worker.tick"


def is_alive() -> bool:
    """Whether this machine's worker beat lately."""
    try:
        return time.time() - tick_file().stat().st_mtime < STALE_S
    except FileNotFoundError:
        return False


class Watchdog:
    """Exits the process once it has taken no ticket for `patience_s` while work waited, or when its device hangs."""

    def __init__(self, patience_s: float, exit_process: Callable[[int], object] = os._exit) -> None:
        self._patience_s = patience_s
        self._exit = exit_process
        self._looked_at = time.monotonic()
        #: For how long work has been seen to wait for this worker; None while none does.
        self._neglected_s: float | None = None
        self._tickets_taken = 0

    def look(self, *, idle: bool, tickets_taken: int, work_waits: bool, device_silent_s: float) -> None:
        """Judge the worker by what it does now. `tickets_taken` counts since its start."""
        now = time.monotonic()
        # A look that is late says nothing of the time before it: where the whole machine stood still, so did those who
        # publish tickets and the thread that takes them. So each counts for one beat at most.
        passed = min(now - self._looked_at, HEARTBEAT_S)
        self._looked_at = now
        # Between two looks a quick worker may have been busy and idle again.
        neglected = idle and work_waits and tickets_taken == self._tickets_taken
        self._tickets_taken = tickets_taken
        if device_silent_s > _SILENT_S:
            _log.critical("the device has not made a step for %.0f s; exiting", device_silent_s)
            self._exit(EXIT_STUCK)
        elif not neglected:
            self._neglected_s = None
        elif self._neglected_s is None:
            self._neglected_s = 0.0
        else:
            self._neglected_s += passed
            if self._neglected_s > self._patience_s:
                _log.critical(
                    "idle for %.0f s while work waits: no ticket reaches this worker; exiting", self._neglected_s
                )
                self._exit(EXIT_STUCK)


class Heartbeat:
    """Calls `beat` every `HEARTBEAT_S` on a thread of its own; nothing that it raises ends it."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No beat begins after this returns; one that hangs on Redis is left behind."""
        self._stopped.set()
        self._thread.join(HEARTBEAT_S)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._beat()
            except RedisError as error:
                _log.warning("no heartbeat: %s", error)
            except Exception:
                _log.exception("no heartbeat")
            tick_file().touch()
            metrics.LAST_TICK.set_to_current_time()
            self._stopped.wait(HEARTBEAT_S)
