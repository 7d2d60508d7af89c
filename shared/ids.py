"""Identifiers: random ones, and ones that follow from what they stand for."""

from __future__ import annotations

import hashlib
import os
import string

_ALPHABET = (string.ascii_letters + string.digits).encode()
#: 24 letters and digits are 142 bits: two ids never meet, and none can be guessed.
_LENGTH = 24
#: A random byte becomes a character; the last ones, which would make some characters likelier than others, do not.
_CHARACTERS = (_ALPHABET * (256 // len(_ALPHABET))).ljust(256, b"?")
_UNUSED = bytes(range(256 // len(_ALPHABET) * len(_ALPHABET), 256))
#: One byte in 32 is unused: with so many drawn, hardly ever too few are left.
_DRAWN = 32


def new_id(kind: str) -> str:
    """A new identifier such as `job_9f3…`, of the form `<kind>_` and 24 letters or digits."""
    # One draw for all of it: batches need tens of thousands of ids.
    characters = b""
    while len(characters) < _LENGTH:
        characters += os.urandom(_DRAWN).translate(_CHARACTERS, delete=_UNUSED)
    return f"{kind}_{characters[:_LENGTH].decode()}"


def derived_id(kind: str, source: str) -> str:
    """An identifier like those of `new_id`, the same for the same source."""
    # Of 64 bytes some two are unused; that fewer than 24 are left does not happen.
    characters = hashlib.sha512(source.encode()).digest().translate(_CHARACTERS, delete=_UNUSED)
    return f"{kind}_{characters[:_LENGTH].decode()}"
