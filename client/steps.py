"""What a client does, without doing it.

A *script* is a generator that yields steps and returns a result. It decides everything: which request, which wait,
which answer means what. Client and AsyncClient perform the steps, one with threads and the other with tasks, and know
nothing else; so there is one text of each method's logic.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import httpx

from client.errors import ClientError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Send a request; its answer when that is no error. Performing it may raise Unreachable and ApiError."""

    method: str
    #: Or a whole address.
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Fields and files of a form.
    form: Mapping[str, str] | None = None
    files: Mapping[str, Any] | None = None
    #: Whether it may be sent again when nobody knows what became of it.
    repeatable: bool = False

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request for `http` to send."""
        params = {name: value for name, value in self.params.items() if value is not None}
        try:
            return http.build_request(
                self.method,
                self.path,
                params=params or None,
                json=self.json,
                headers=self.headers,
                data=self.form,
                files=self.files,
            )
        except httpx.InvalidURL as error:
            raise ClientError(f"{self.path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Listen:
    """Send a request whose answer comes line by line; its status. An answer before it is ended."""

    call: Call


@dataclass(frozen=True, slots=True)
class NextLine:
    """The next line of the answer, or None at its end. Performing it may raise Unreachable."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Together:
    """Perform scripts side by side; their results in order."""

    scripts: Sequence[Script[Any]]


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand an item to who iterates."""

    item: Any


Step: TypeAlias = Call | Listen | NextLine | Pause | Together | Emit
Script: TypeAlias = Generator[Step, Any, T]


class Performance:
    """A script under way: takes out its steps one by one, and hands back what came of each."""

    def __init__(self, script: Script[Any]) -> None:
        self._script = script
        self._problem: ClientError | None = None
        #: What came of the last step.
        self.answer: Any = None
        #: What the script returned.
        self.result: Any = None
        #: The answer that comes line by line, and its lines.
        self.stream: tuple[Any, Any] | None = None

    def step(self) -> Step | None:
        """The next step; None at the end."""
        answer, problem = self.answer, self._problem
        self.answer = self._problem = None
        try:
            return self._script.send(answer) if problem is None else self._script.throw(problem)
        except StopIteration as end:
            self.result = end.value
            return None

    @contextmanager
    def telling(self) -> Iterator[None]:
        """A ClientError in this block is the script's affair: it learns of it at its next step."""
        try:
            yield
        except ClientError as error:
            self._problem = error
