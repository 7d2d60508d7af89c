"""Every error code of Rendermill, in one table, and the exceptions that carry them.

    RendermillError
    ├── RequestInvalid       a request with wrong fields, each named
    └── (raised directly with a code of `ERRORS`)

`ERRORS` are answers to a request; `FAILURES` are reasons for which a job ends as `failed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.wording import in_a_sentence


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What a code means: its HTTP status and a title that never changes."""

    status: int
    title: str


ERRORS: dict[str, ErrorKind] = {
    "bad_json": ErrorKind(400, "The body is not JSON"),
    "bad_request": ErrorKind(400, "The request cannot be understood"),
    "unauthenticated": ErrorKind(401, "An API key is needed"),
    "insufficient_credits": ErrorKind(402, "The account's balance is too small"),
    "not_found": ErrorKind(404, "There is no such thing"),
    "method_not_allowed": ErrorKind(405, "That method is not offered here"),
    "not_acceptable": ErrorKind(406, "None of the accepted formats is offered"),
    "conflict": ErrorKind(409, "The request conflicts with the present state"),
    "gone": ErrorKind(410, "Past its retention"),
    "body_too_large": ErrorKind(413, "The body is too large"),
    "unsupported_media_type": ErrorKind(415, "That content type is not read here"),
    "invalid": ErrorKind(422, "The request has wrong fields"),
    "unknown_model": ErrorKind(422, "There is no such model"),
    "unsupported_parameter": ErrorKind(422, "The model does not take that parameter"),
    "bad_image": ErrorKind(422, "An input image cannot be used"),
    "idempotency_mismatch": ErrorKind(422, "The Idempotency-Key was used with another body"),
    "rate_limited": ErrorKind(429, "Too many requests"),
    "queue_full_account": ErrorKind(429, "Too many jobs of the account wait"),
    "internal": ErrorKind(500, "Something went wrong on this side"),
    "render_failed": ErrorKind(502, "The picture could not be rendered"),
    "busy": ErrorKind(503, "Too much waits already"),
    "queue_full": ErrorKind(503, "Too many jobs wait in the whole farm"),
    "not_ready": ErrorKind(503, "Not ready"),
    "wait_timeout": ErrorKind(504, "The picture was not ready in time"),
}


@dataclass(frozen=True, slots=True)
class FailureKind:
    """Why a job failed, and whether trying it again can help."""

    retriable: bool
    meaning: str


FAILURES: dict[str, FailureKind] = {
    "worker_lost": FailureKind(True, "The worker disappeared while it rendered"),
    "storage_unavailable": FailureKind(True, "The pictures could not be stored"),
    "out_of_memory": FailureKind(True, "The device ran out of memory"),
    "invalid_input": FailureKind(False, "An input image is gone or cannot be read"),
    "unsupported": FailureKind(False, "The model cannot do what was asked"),
    "model_unavailable": FailureKind(False, "The model's checkpoint cannot be loaded"),
    "render_failed": FailureKind(False, "The pipeline raised an error"),
    "invalid_output": FailureKind(False, "The model produced a picture that is not a number"),
}


class RendermillError(Exception):
    """An answer to a request that cannot be served, with a code of `ERRORS`.

    `detail` tells the user what to do; `extra` becomes members of the problem document; `headers` are sent along.
    """

    def __init__(self, code: str, detail: str = "", *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        self.code = code
        self.kind = ERRORS[code]
        self.detail = detail or self.kind.title
        self.headers = headers or {}
        self.extra = extra
        super().__init__(f"{code}: {self.detail}")


class RequestInvalid(RendermillError):
    """A request with wrong fields; `errors` names each with what is wrong and what would be right."""

    def __init__(self, errors: dict[str, list[str]], *, code: str = "invalid", detail: str = "", **extra: Any) -> None:
        self.errors = errors
        super().__init__(code, detail or in_a_sentence(errors), errors=errors, **extra)


class JobFailure(Exception):
    """A job that cannot be finished, with a code of `FAILURES` and words for its owner."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.kind = FAILURES[code]
        self.message = message
        super().__init__(f"{code}: {message}")


def idempotency_mismatch(what: str = "body") -> RendermillError:
    """The error for an `Idempotency-Key` that came with another request before."""
    return RendermillError(
        "idempotency_mismatch", f"This Idempotency-Key came with another {what} before; use a new key."
    )
