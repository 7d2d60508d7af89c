"""What can go wrong between a client and the farm.

ClientError
├── MissingKey               nobody says which API key is to be used
├── Unreachable              nobody answers at the address
├── NotUnderstood            what answers there does not speak as a farm does
├── ApiError                 the farm says no, and why: `status`, `code`, `detail`, `errors`
│   ├── Invalid              the request is wrong (400, 413, 415, 422)
│   ├── Unauthenticated      the key is not known (401)
│   ├── InsufficientCredits  the account's balance is too small (402)
│   ├── NotFound             there is no such thing, or not any more (404, 410)
│   ├── Conflict             not in its present state (409)
│   └── Busy                 too much waits, or too many requests came: later (429, 503)
├── JobFailed                a job that was waited for ended without pictures; `job` is the job
├── WaitTimeout              the job or batch goes on, but longer than one wanted to wait
├── LineError                a line of a file is no request
└── NotLoaded                a picture's file was not fetched, and cannot be fetched from here
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from client.jobs import Job


class ClientError(Exception):
    """The call did not do what was asked; the message says why in one line."""


class MissingKey(ClientError):
    """There is no API key."""


class Unreachable(ClientError):
    """Nobody answers at the farm's address."""


class NotUnderstood(ClientError):
    """What answers is no farm of Rendermill, or one of another version."""


class WaitTimeout(ClientError):
    """It is not finished yet."""


class LineError(ClientError):
    """A line that is no request; the message begins with its number."""


class NotLoaded(ClientError):
    """The picture's file is not at hand."""


class JobFailed(ClientError):
    """The job ended without pictures."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"{job.id} {job.status}: {job.reason}")


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
        more = [error for error in errors if not _said(error, detail)]
        super().__init__(f"{detail} ({'; '.join(more)})" if more else detail)


class Invalid(ApiError):
    """The request is wrong; another try will not do."""


class Unauthenticated(ApiError):
    """The key is not known."""


class InsufficientCredits(ApiError):
    """The account's balance is too small."""


class NotFound(ApiError):
    """There is no such thing, or not any more."""


class Conflict(ApiError):
    """What was asked does not go in its present state."""


class Busy(ApiError):
    """Too much waits, or too many requests came."""


_KINDS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthenticated,
    402: InsufficientCredits,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Busy,
    503: Busy,
}


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
    return _KINDS.get(response.status_code, ApiError)(
        response.status_code,
        str(problem.get("code") or response.status_code),
        str(detail or f"The farm answers {response.status_code} {response.reason_phrase}."),
        _by_field(problem.get("errors")),
        _seconds(response.headers.get("Retry-After")),
    )


def _said(error: str, detail: str) -> bool:
    """Whether the detail has the words already: among others, or as the only ones without the field's name."""
    return error.rstrip(".") in detail or error.partition(": ")[2].rstrip(".") == detail.rstrip(".")


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
