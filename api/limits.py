"""How near an account is to its limits, on every answer of a request that was held to them."""

from __future__ import annotations

from flask import Flask, Response, g
from prometheus_client import Counter

from shared.limits import Refused, Standing

REJECTED = Counter("rendermill_admission_rejected_total", "Requests that a limit stood against.", ["reason"])

#: Names of the policies in the headers.
_RATE, _QUEUE = "requests", "queue"


def note_standing(standing: Standing) -> None:
    """Let the answer of the current request tell where its account stands."""
    g.standing = standing


def note_refusal(refused: Refused) -> None:
    """Count the refusal, and let the answer tell where the account stands."""
    REJECTED.labels(refused.code).inc()
    note_standing(refused.standing)


def tell_limits(app: Flask) -> None:
    """Put `RateLimit-Policy` and `RateLimit` on answers, as the IETF's draft of 2025 has them."""

    @app.after_request
    def add_headers(response: Response) -> Response:
        if (standing := g.get("standing")) is not None:
            response.headers.update(_headers(standing))
        return response


def _headers(standing: Standing) -> dict[str, str]:
    policies, left = [], []
    if (rate := standing.rate) is not None:
        policies.append(f'"{_RATE}";q={rate.requests};w={rate.period_s}')
        left.append(f'"{_RATE}";r={standing.requests_left};t={standing.full_in_s}')
    if standing.max_queued is not None:
        # A job that waits is a request that is not over.
        policies.append(f'"{_QUEUE}";q={standing.max_queued};qu="concurrent-requests"')
        left.append(f'"{_QUEUE}";r={max(0, standing.max_queued - standing.queued)}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)} if policies else {}
