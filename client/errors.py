"""What can go wrong between a client and the farm.

ClientError
├── Unreachable    nobody answers at the address
├── ApiError       the farm says no, and why
└── WaitTimeout    the job goes on, but longer than one wanted to wait
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx


class ClientError(Exception):
    """The call did not do what was asked; the message says why in one line."""


class Unreachable(ClientError):
    """Nobody answers at the farm's address."""


class WaitTimeout(ClientError):
    """The job is not finished yet."""


class ApiError(ClientError):
    """An error answer of the farm: its HTTP status, its code, and what is wrong with each field, as `field: words`.

    `retry_after_s` is set where the farm says when to come back.
    """

    def __init__(
        self, status: int, code: str, detail: str, errors: Sequence[str] = (), retry_after_s: float | None = None
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s
        super().__init__(f"{detail} ({'; '.join(errors)})" if errors else detail)


def api_error(response: httpx.Response) -> ApiError:
    """The error that `response` describes, in the native shape or in that of any dialect."""
    try:
        body = response.json()
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    # OpenAI's shape wraps its object; the other dialects and the native one do not.
    problem: dict[str, Any] = body["error"] if isinstance(body.get("error"), dict) else body
    detail = problem.get("detail") or problem.get("message") or problem.get("title") or body.get("error")
    return ApiError(
        response.status_code,
        str(problem.get("code") or response.status_code),
        str(detail or f"The farm answers {response.status_code} {response.reason_phrase}."),
        _by_field(problem.get("errors")),
        _seconds(response.headers.get("Retry-After")),
    )


def _by_field(errors: object) -> list[str]:
    """Wrong fields come as lists of words by name, or as a list of `name: words`."""
    match errors:
        case dict():
            return [
                f"{name}: {', '.join(words) if isinstance(words, list) else words}" for name, words in errors.items()
            ]
        case list():
            return [str(error) for error in errors]
    return []


def _seconds(retry_after: str | None) -> float | None:
    """The header's seconds. Its other form, a date, is for caches and crawlers; the farm never sends one."""
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
