"""A farm that answers what a test says, without a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from farm.cli import app

Answer = Callable[[httpx.Request], httpx.Response] | httpx.Response | Any


class FakeApi:
    """`answers["GET /v1/jobs"]` is an object, a response, or what makes one of a request; all else is 404.

    Path and query may stand in a name; without a query it stands for every one.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[httpx.Request] = []

    @property
    def asked(self) -> list[str]:
        """What was asked, in order: method, path and query."""
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        name = f"{request.method} {request.url.raw_path.decode()}"
        answer = self.answers.get(name, self.answers.get(name.partition("?")[0]))
        if answer is None:
            id_ = request.url.path.removesuffix("/cancel").rpartition("/")[2]
            return httpx.Response(404, json={"code": "not_found", "detail": f"There is no such thing: {id_}."})
        if isinstance(answer, httpx.Response):
            return answer
        return answer(request) if callable(answer) else httpx.Response(200, json=answer)


def run(*arguments: str) -> Result:
    """Run `rendermill` with these arguments, as in a pipe."""
    return CliRunner().invoke(app, list(arguments))
