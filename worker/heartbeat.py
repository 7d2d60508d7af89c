"""The worker's heartbeat: tells the farm it lives, its container's probe that it is well, and notices when it is not.

A connection to Redis that is half open looks healthy to Celery for ever: no ticket comes, and nothing fails. So a
worker that is idle while claimable work grows old exits, and whatever started it starts it again.
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
_EXIT_STUCK = 75
#: A heartbeat that last ran this long ago has stopped.
STALE_S = 30.0


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
    """Exits the process once it has been idle for `patience_s` while work waited all the time."""

    def __init__(self, patience_s: float, exit_process: Callable[[int], object] = os._exit) -> None:
        self._patience_s = patience_s
        self._exit = exit_process
        self._neglected_since: float | None = None

    def look(self, *, idle: bool, work_waits: bool) -> None:
        now = time.monotonic()
        if not (idle and work_waits):
            self._neglected_since = None
        elif self._neglected_since is None:
            self._neglected_since = now
        elif now - self._neglected_since > self._patience_s:
            _log.critical("idle for %.0f s while work waits: no ticket reaches this worker; exiting", self._patience_s)
            self._exit(_EXIT_STUCK)


def start_heartbeat(beat: Callable[[], None]) -> None:
    """Call `beat` every `HEARTBEAT_S` on a thread of its own; a Redis that is away does not end it."""

    def run() -> None:
        while True:
            try:
                beat()
            except RedisError as error:
                _log.warning("no heartbeat: %s", error)
            tick_file().touch()
            metrics.LAST_TICK.set_to_current_time()
            time.sleep(HEARTBEAT_S)

    threading.Thread(target=run, name="heartbeat", daemon=True).start()
