"""Clients that wait: how many may, and what they asked for in `Prefer` (RFC 7240)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flask import request

#: The longest `Prefer: wait` that is honoured, in seconds.
MAX_WAIT_S = 300
_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?", re.IGNORECASE)
#: One thread in so many is kept from waiting clients, for all those who do not wait.
_RESERVE_SHARE = 4


class Waiters:
    """The threads of this process that clients may hold by waiting. Some are kept back for requests that are quick."""

    def __init__(self, threads: int) -> None:
        self._free = threading.BoundedSemaphore(max(1, threads - max(1, threads // _RESERVE_SHARE)))

    def try_hold(self) -> bool:
        """Take a place, to be given back with `release`; False where all are taken."""
        return self._free.acquire(blocking=False)

    def release(self) -> None:
        self._free.release()

    @contextmanager
    def place(self) -> Iterator[bool]:
        """A place for the time of a `with` block; False where all are taken."""
        held = self.try_hold()
        try:
            yield held
        finally:
            if held:
                self.release()


@dataclass(frozen=True, slots=True)
class Preference:
    """What the client prefers. `wait_s` is None where it named no time to wait."""

    wait_s: int | None
    respond_async: bool

    def applied(self) -> dict[str, str]:
        """The header that says which preferences were honoured."""
        names = ["respond-async"] if self.respond_async else []
        if self.wait_s is not None:
            names.append(f"wait={self.wait_s}")
        return {"Preference-Applied": ", ".join(names)} if names else {}


def preference() -> Preference:
    """What the current request prefers. As RFC 7240 says, what cannot be understood is passed over."""
    wait_s: int | None = None
    respond_async = False
    # WSGI joins headers of the same name with commas.
    for part in request.headers.get("Prefer", "").split(","):
        name = part.split(";")[0].strip()
        if name.lower() == "respond-async":
            respond_async = True
        elif (match := _WAIT.fullmatch(name)) and wait_s is None and int(match[1]) > 0:
            wait_s = min(int(match[1]), MAX_WAIT_S)
    return Preference(wait_s, respond_async)
