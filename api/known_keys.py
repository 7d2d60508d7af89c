"""The keys that were used a moment ago, so that not every request asks Redis whose its key is."""

from __future__ import annotations

import time

from shared.accounts import Accounts

#: How long a process takes a key's word for it: for so long a key that is revoked still works where it was just used.
KNOWN_S = 1.0
#: More than are used in that time; beyond it all are forgotten.
_MOST = 10_000


class KnownKeys:
    """Safe to share between threads. A key that is not valid is never remembered: a new one works at once."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        #: The account of a key, and when that is asked again.
        self._known: dict[str, tuple[str, float]] = {}

    def account_of(self, key: str) -> str | None:
        """The account a key belongs to, or None for an unknown key."""
        now = time.monotonic()
        account, until = self._known.get(key, ("", now))
        if now < until:
            return account
        found = self._accounts.account_of(key)
        if found is None:
            self._known.pop(key, None)
            return None
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = (found, now + KNOWN_S)
        return found
