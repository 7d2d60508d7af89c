"""Whether a request was sent before, told by its `Idempotency-Key`, or by an SDK that says it tries again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from flask import json, request

from shared.errors import RequestInvalid
from shared.settings import Settings

#: The header is a quoted string in the standard's draft; a bare one, as most clients send it, is taken as well.
_IDEMPOTENCY_KEY = re.compile(r'"([\x21\x23-\x7e ]{1,255})"|([\x21\x23-\x7e]{1,255})')
#: Sent by the OpenAI SDKs: how often they sent this request before.
_RETRY_COUNT = "X-Stainless-Retry-Count"
#: Begins keys made here; those of clients begin with their routes.
_OWN = '"'


#: The header, for the specification.
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key with the same body gives what it gave at first; with another body it is refused.",
}


@dataclass(frozen=True, slots=True)
class Once:
    """Under which key the current request makes a job, batch or file, and makes no other when it is repeated."""

    #: Empty where every request makes one.
    key: str
    #: The same for the same request: what was asked of which route, whatever the order of the fields. Empty where the
    #: key is.
    fingerprint: str
    remember_s: float
    #: Whether it is a first request, whose key means nothing yet.
    anew: bool

    @classmethod
    def of_request(cls, body: Mapping[str, Any], settings: Settings) -> Self:
        """Raises RequestInvalid for a key that cannot be read."""
        if (key := _idempotency_key()) is not None:
            return cls(key, _fingerprint(body), settings.idempotency_s, anew=False)
        retries = request.headers.get(_RETRY_COUNT, "")
        if settings.retry_window_s > 0 and retries.isascii() and retries.isdigit():
            fingerprint = _fingerprint(body)
            return cls(_OWN + fingerprint, fingerprint, settings.retry_window_s, anew=not retries.strip("0"))
        return cls("", "", 0.0, anew=True)


def _route() -> str:
    return request.path.rstrip("/")


def _idempotency_key() -> str | None:
    """The key under which the request is remembered for its account: its route's and its own."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    match = _IDEMPOTENCY_KEY.fullmatch(given.strip())
    if match is None:
        raise RequestInvalid({"Idempotency-Key": ["must be 1 to 255 visible characters of ASCII, quoted or not"]})
    return f"{_route()} {match[1] or match[2]}"


def _fingerprint(body: Mapping[str, Any]) -> str:
    canonical = json.dumps([_route(), body], sort_keys=True, default=_digest)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _digest(uploaded: bytes) -> str:
    return hashlib.sha256(uploaded).hexdigest()
