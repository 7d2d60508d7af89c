"""Errors as the OpenAI SDKs read them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from flask import Response, request

from api.errors import Problem, error_response, error_type, problem_document

#: Codes by which the OpenAI API's clients know what happened; for the rest it is ours.
_CODES = {
    "unauthenticated": "invalid_api_key",
    "unknown_model": "model_not_found",
    "invalid": "invalid_value",
    "insufficient_credits": "insufficient_quota",
    "rate_limited": "rate_limit_exceeded",
}
_MODELS = re.compile(r"/v1/models(/.*)?", re.DOTALL)

#: The shape, for the specification.
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def error_object(problem: Problem) -> dict[str, Any]:
    """The object under `error`; with every wrong field, which the original does not tell."""
    error: dict[str, Any] = {
        "message": problem.detail,
        "type": error_type(problem.status),
        "param": next(iter(problem.errors), None),
        "code": _CODES.get(problem.code, problem.code),
        **problem.extra,
    }
    if problem.errors:
        error["message"] = "; ".join(f"{name}: {', '.join(words)}" for name, words in problem.errors.items())
        error["errors"] = problem.errors
    return error


def is_read_by_sdks(path: str) -> bool:
    """Whether the SDKs read errors of the path, though they are problem documents: models, and what there is not."""
    return request.url_rule is None or _MODELS.fullmatch(path) is not None


def problem_with_error(problem: Problem) -> Response:
    """A problem document with the SDKs' `error` as a further member."""
    error = error_object(problem)
    shown = {name: error[name] for name in ("message", "type", "param", "code")}
    return problem_document(replace(problem, extra={**problem.extra, "error": shown}))


def error_shape(problem: Problem) -> Response:
    """The whole answer; a wrong request is 400 here, not 422."""
    response = error_response(problem, {"error": error_object(problem)})
    if problem.status == 422:
        response.status_code = 400
    if problem.status in {502, 504}:
        # The SDK would send the request again, and so make another job.
        response.headers["x-should-retry"] = "false"
    return response
