"""Waiting for what is away: storage or Redis that is started again while a worker has finished pictures in hand."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Between two tries. Short: with Redis it decides whether a finished job or the sweeper is first.
PAUSE_S = 0.5


def patiently(action: Callable[[], T], away: type[Exception], patience_s: float) -> T:
    """What `action` returns once it does not raise `away`. Raises `away` when it still does after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return action()
        except away as error:
            if time.monotonic() >= deadline:
                raise
            _log.warning("trying again: %s", error)
            time.sleep(PAUSE_S)
