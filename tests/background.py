"""Workers of a farm that run in the process of its tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Between two rounds, in seconds: tests wait for what is done.
_PAUSE_S = 0.02


@contextmanager
def working_on(*duties: Callable[[], object]) -> Iterator[None]:
    """Do these things again and again for the time of a `with` block."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(_PAUSE_S):
            for duty in duties:
                duty()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
