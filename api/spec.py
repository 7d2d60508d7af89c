"""Routes that describe themselves: flask-smorest with types, strict parsing and our errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar, cast

import flask_smorest
from flask import Flask, Request, current_app, request
from marshmallow import RAISE, Schema, ValidationError
from webargs.flaskparser import FlaskParser

from api.json_body import read_json
from api.schemas.problem import ProblemSchema
from api.services import services
from intake.field_errors import field_errors
from intake.means import Judging
from shared.errors import ERRORS, RendermillError, RequestInvalid

_EXTENSION = "rendermill-spec"

#: What the routes of the dialects may answer.
_DIALECT_ERRORS = (400, 401, 402, 404, 409, 413, 415, 422, 429, 502, 503, 504)

_View = TypeVar("_View", bound=Callable[..., Any])


class _StrictParser(FlaskParser):
    """Refuses what it does not know, and raises our errors."""

    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": RAISE, "files": RAISE}  # noqa: RUF012

    def parse(self, *args: Any, **options: Any) -> Any:
        with Judging(services()):
            return super().parse(*args, **options)

    def load_json(self, req: Request, schema: Schema) -> Any:  # noqa: ARG002 - the interface of webargs
        return read_json(req)

    def load_files(self, req: Request, schema: Schema) -> Any:  # noqa: ARG002
        """The fields and files of a multipart form, each once."""
        if req.mimetype != "multipart/form-data":
            raise RendermillError("unsupported_media_type", "Send a form, with 'Content-Type: multipart/form-data'.")
        return {**req.form.to_dict(), **req.files.to_dict()}

    def handle_error(
        self,
        error: ValidationError,
        req: Request,  # noqa: ARG002
        schema: Schema,  # noqa: ARG002
        *,
        error_status_code: int | None,  # noqa: ARG002
        error_headers: Mapping[str, str] | None,  # noqa: ARG002
    ) -> NoReturn:
        by_location = cast(dict[str, Any], error.messages)
        raise RequestInvalid(field_errors(next(iter(by_location.values())))) from error


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """Routes of one resource.

    Schemas are made once, when a route is defined: given a class, webargs would make one for every request, which takes
    longer than to load a body with it. Loading leaves no trace in a schema, so threads may share it.
    """

    ARGUMENTS_PARSER = _StrictParser()

    def route(self, rule: str, **options: Any) -> Callable[[_View], _View]:
        return cast(Callable[[_View], _View], super().route(rule, **options))

    def body(self, schema: type[Schema], description: str = "") -> Callable[[_View], _View]:
        """Parse the JSON body with the schema and pass it to the view."""
        example = getattr(schema, "EXAMPLE", None)
        return cast(Callable[[_View], _View], super().arguments(schema(), description=description, example=example))

    def form(self, schema: type[Schema]) -> Callable[[_View], _View]:
        """Parse a multipart form with the schema, its files among its fields, and pass it to the view."""
        return cast(
            Callable[[_View], _View],
            super().arguments(schema(), location="files"),
        )

    def query(self, schema: type[Schema]) -> Callable[[_View], _View]:
        """Parse the query with the schema and pass it to the view."""
        return cast(Callable[[_View], _View], super().arguments(schema(), location="query"))

    def answers(
        self,
        status: int,
        description: str,
        schema: type[Schema] | Mapping[str, Any] | None = None,
        content_type: str | None = None,
    ) -> Callable[[_View], _View]:
        """Document an answer of the view, which gives a finished Response."""
        return cast(
            Callable[[_View], _View],
            super().alt_response(
                status, schema=schema, description=description, content_type=content_type, success=True
            ),
        )

    def refuses(self, *statuses: int) -> Callable[[_View], _View]:
        """Document the errors of the view as problem documents."""
        responses = {status: HTTPStatus(status).name for status in statuses}
        return self.describes(responses=responses)

    def fails_with(self, schema: Mapping[str, Any]) -> Callable[[_View], _View]:
        """Document the errors of a dialect, which have a shape of their own."""
        content = {"application/json": {"schema": schema}}
        responses = {
            status: {"description": HTTPStatus(status).phrase, "content": content} for status in _DIALECT_ERRORS
        }
        return self.describes(responses=responses)

    def describes(self, **operation: Any) -> Callable[[_View], _View]:
        """Add to the operation's description, in OpenAPI's own words."""
        return cast(Callable[[_View], _View], super().doc(**operation))


class Api(flask_smorest.Api):  # type: ignore[misc]
    """The specification of all routes."""

    ERROR_SCHEMA = ProblemSchema

    def _register_error_handlers(self) -> None:
        """Ours are in api.errors."""

    def _register_responses(self) -> None:
        """Every error is a problem document, described once for each status."""
        content = {"application/problem+json": {"schema": ProblemSchema}}
        for status in {kind.status for kind in ERRORS.values()}:
            response = {"description": HTTPStatus(status).phrase, "content": content}
            self.spec.components.response(HTTPStatus(status).name, response, lazy=True)
        self.spec.components.response("DEFAULT_ERROR", {"description": "An error", "content": content}, lazy=True)


_ABOUT = """\
A self-hosted image-generation farm. Hand a job in, then poll it, wait for it, follow its events, or be told by a
signed webhook; or use the routes of the OpenAI, Hyperbolic and IMG Processing APIs with their own clients.

Errors are problem documents (RFC 9457) with a stable `code`; the dialects answer in their own services' shapes."""


def make_api(app: Flask, version: str) -> Api:
    """The specification of an application, to which its blueprints are to be added."""
    app.config.update(
        API_TITLE="Rendermill",
        API_VERSION=version,
        OPENAPI_VERSION="3.1.0",
        API_SPEC_OPTIONS={
            "info": {"description": _ABOUT, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
            # Whatever the address under which the page is read: its policy lets it ask that one only.
            "servers": [{"url": "/"}],
            "security": [{"bearer": []}, {"apiKey": []}],
        },
    )
    api = Api(app)
    api.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    api.spec.components.security_scheme("apiKey", {"type": "apiKey", "in": "header", "name": "x-api-key"})
    app.extensions[_EXTENSION] = api
    return api


def refuse_query() -> None:
    """Raise RequestInvalid where the request has a query: its route takes none."""
    if request.args:
        raise RequestInvalid({name: ["is unknown: nothing is taken from the query here"] for name in request.args})


def current_specification() -> dict[str, Any]:
    """The specification of the current application."""
    return cast(dict[str, Any], current_app.extensions[_EXTENSION].spec.to_dict())
