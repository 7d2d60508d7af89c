"""Submit a file of lines so that it can be cut short anywhere and run again, and nothing is rendered twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from client.client import Client
from client.errors import ApiError, ClientError, Unreachable
from client.jobs import Job
from client.lines import Line
from client.retry import passes
from client.saving import save, stem_of

UNAUTHENTICATED = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A line that became a job, now or, `replayed`, in an earlier run."""

    line: Line
    job: Job
    replayed: bool
    files: Sequence[Path] = ()

    @property
    def raw(self) -> dict[str, Any]:
        """The job with the line that it came from."""
        return {
            "line": self.line.number,
            "custom_id": self.line.custom_id,
            "replayed": self.replayed,
            **self.job.raw,
            "files": [str(file) for file in self.files],
        }


@dataclass(slots=True)
class Troubles:
    """What did not go well, by the numbers of lines; `tell` hears of each at once."""

    tell: Callable[[str], None]
    #: The farm says no to them.
    refused: list[int] = field(default_factory=list)
    #: Their jobs ended without pictures, or cannot be had any more.
    failed: list[int] = field(default_factory=list)
    #: Not sent, or not waited for, as the farm went away.
    left: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.refused or self.failed or self.left)

    def notice(self, accepted: Accepted) -> None:
        """Remember a line whose job ended without pictures."""
        if accepted.job.finished and accepted.job.status != "succeeded":
            self.failed.append(accepted.line.number)

    def summary(self, lines: int) -> list[str]:
        """What happened, and which lines to send again, for a person."""
        counts = f"{len(self.refused)} refused, {len(self.failed)} not succeeded, {len(self.left)} left over"
        advice = [
            (self.refused, "refused: {}. Correct them, and submit them as a file of their own."),
            (self.failed, "not succeeded: {}. To try again, submit them as a file of their own."),
            (self.left, "left over: {}. Run the same command again: no line that was accepted is rendered twice."),
        ]
        return [f"{lines} lines: {counts}", *(words.format(ranges(numbers)) for numbers, words in advice if numbers)]


def send(farm: Client, lines: Sequence[Line], salt: str, troubles: Troubles) -> Iterator[Accepted]:
    """Submit the lines, one after another, and give those that are accepted.

    `salt` makes the lines' keys differ from those of other files. Raises ClientError where nothing would come of any
    line: the farm is not there, or does not know the key.
    """
    accepted = False
    for position, line in enumerate(lines):
        try:
            submitted = _send(farm, line, salt)
        except ClientError as error:
            hopeless = passes(error) or (isinstance(error, ApiError) and error.status == UNAUTHENTICATED)
            if hopeless and not accepted:
                raise
            troubles.tell(f"line {line.number}: {error}")
            if hopeless:
                troubles.left += [line.number for line in lines[position:]]
                return
            troubles.refused.append(line.number)
        else:
            accepted = True
            yield submitted


def finish(farm: Client, sent: Sequence[Accepted], out: Path | None, troubles: Troubles) -> Iterator[Accepted]:
    """Wait for the jobs and give them finished, with their pictures saved in `out`."""
    for position, accepted in enumerate(sent):
        number = accepted.line.number
        try:
            job = farm.wait(accepted.job)
            files = save(farm, job.images, out, stem_of(accepted.line)) if out is not None else []
        except (ApiError, Unreachable) as error:
            troubles.tell(f"line {number}: {accepted.job.id}: {error}")
            if passes(error):
                troubles.left += [later.line.number for later in sent[position:]]
                return
            troubles.failed.append(number)
            continue
        finished = replace(accepted, job=job, files=files)
        troubles.notice(finished)
        yield finished


def idempotency_key(salt: str, line: Line) -> str:
    """The same for the same line at the same place of the same file."""
    said = json.dumps([salt, line.number, line.url, line.body], sort_keys=True)
    return f"submit-{hashlib.sha256(said.encode()).hexdigest()}"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers for a person: 1, 3-5."""
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _send(farm: Client, line: Line, salt: str) -> Accepted:
    headers = httpx.Headers(line.headers)
    # The routes of other services wait for the picture unless they are asked not to.
    headers["Prefer"] = "respond-async"
    headers.setdefault("Idempotency-Key", idempotency_key(salt, line))
    answer = farm.request("POST", line.url, json=dict(line.body), headers=headers)
    try:
        job = Job.from_json(answer.json())
    except (ValueError, KeyError, TypeError) as error:
        raise ClientError(f"{line.url} does not answer with a job") from error
    return Accepted(line=line, job=job, replayed=answer.headers.get("Idempotent-Replayed") == "true")
