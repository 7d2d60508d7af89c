"""Random identifiers and keys."""

from __future__ import annotations

import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
#: 24 letters and digits are 142 bits: two ids never meet, and none can be guessed.
_LENGTH = 24


def new_id(kind: str) -> str:
    """A new identifier such as `job_9f3…`, of the form `<kind>_` and 24 letters or digits."""
    return f"{kind}_{''.join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))}"
