"""Errors as answers: RFC 9457 problem documents, or the shape of the dialect whose route was asked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, current_app, g, json, request
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

from shared.errors import ERRORS, RendermillError
from shared.storage import StorageError

_log = logging.getLogger(__name__)

#: Codes of the errors that Flask itself raises.
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    415: "unsupported_media_type",
}
#: Redis and S3 are restarted within seconds.
_RETRY_AFTER_S = "5"
#: Characters of a path that an error repeats.
_TOLD_OF_PATH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error before it has a shape. `errors` names wrong fields; `extra` are further members."""

    status: int
    code: str
    title: str
    detail: str
    errors: dict[str, list[str]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


Shape = Callable[[Problem], Response]


def problem_of(error: Exception) -> Problem:
    """What an exception means to the client."""
    match error:
        case RendermillError():
            extra = dict(error.extra)
            return Problem(
                status=error.kind.status,
                code=error.code,
                title=error.kind.title,
                detail=error.detail,
                errors=extra.pop("errors", {}),
                extra=extra,
                headers=error.headers,
            )
        case HTTPException():
            return _http_problem(error)
        case RedisError() | StorageError():
            _log.error("request %s: %s: %s", g.get("request_id"), type(error).__name__, error)
            return _problem("not_ready", "The queue or the storage does not answer; try again in a moment.", retry=True)
        case _:
            _log.error("request %s failed", g.get("request_id"), exc_info=error)
            return _problem("internal", "This is a fault of the server; its log has the details under 'instance'.")


def _problem(code: str, detail: str, *, retry: bool = False) -> Problem:
    kind = ERRORS[code]
    headers = {"Retry-After": _RETRY_AFTER_S} if retry else {}
    return Problem(status=kind.status, code=code, title=kind.title, detail=detail, headers=headers)


def _http_problem(error: HTTPException) -> Problem:
    status = error.code or 500
    code = _CODES.get(status, "bad_request" if status < 500 else "internal")
    allowed: list[str] | None = getattr(error, "valid_methods", None)
    headers = {"Allow": ", ".join(allowed)} if allowed else {}
    return Problem(status=status, code=code, title=ERRORS[code].title, detail=_detail(error, status), headers=headers)


def _detail(error: HTTPException, status: int) -> str:
    if status == 413:
        return f"The body is larger than {request.max_content_length} bytes, the limit RENDERMILL_MAX_BODY_BYTES."
    if status == 404 and request.url_rule is None:
        return _nothing_at(request.path)
    return error.description or error.name


def _nothing_at(path: str) -> str:
    """Clients often have a base address with `/v1` too little or too much."""
    routes = current_app.create_url_adapter(request)
    assert routes is not None, "there is a request"
    meant = [other for other in (f"/v1{path}", path.removeprefix("/v1")) if routes.allowed_methods(other)]
    hint = f"did you mean {meant[0][:_TOLD_OF_PATH]}?" if meant else "see /docs for what there is."
    return f"There is nothing at {path[:_TOLD_OF_PATH]}; {hint}"


def problem_document(problem: Problem) -> Response:
    """The shape of RFC 9457."""
    body: dict[str, Any] = {
        "type": f"urn:rendermill:error:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
        "instance": g.get("request_id"),
        **problem.extra,
    }
    if problem.errors:
        body["errors"] = problem.errors
    return error_response(problem, body, "application/problem+json")


def error_type(status: int) -> str:
    """What kind of error clients of the OpenAI API, and of those made in its likeness, take a status for."""
    known = {402: "insufficient_quota", 429: "rate_limit_error"}
    return known.get(status, "server_error" if status >= 500 else "invalid_request_error")


def error_response(problem: Problem, body: dict[str, Any], content_type: str = "application/json") -> Response:
    response = Response(json.dumps(body), status=problem.status, content_type=content_type)
    response.headers.update(problem.headers)
    return response


class ErrorShapes:
    """Which shape the errors of a path have; also those of paths and methods that do not exist."""

    def __init__(self) -> None:
        self._shapes: list[tuple[Callable[[str], bool], Shape]] = []

    def add(self, owns: Callable[[str], bool], shape: Shape) -> None:
        self._shapes.append((owns, shape))

    def answer(self, error: Exception) -> Response:
        problem = problem_of(error)
        for owns, shape in self._shapes:
            if owns(request.path):
                return shape(problem)
        return problem_document(problem)


def answer_errors(app: Flask, shapes: ErrorShapes) -> None:
    """Make every exception of a request an answer."""
    app.register_error_handler(Exception, shapes.answer)
    app.register_error_handler(HTTPException, shapes.answer)
