"""Send the example lines through the public API, each in its own shape, and keep what comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client import Client, ClientError, Job
from client.lines import Line
from farm.demo.pictures import PictureError, pictures_of, save

#: By the end of the route; whoever serves another one finds its path in the summary.
DIALECTS = {
    "/v1/jobs": "native",
    "/v1/images/imagine": "IMG Processing",
    "/api/images/generations": "AIGNE Hub",
    "/v1/images/generations": "OpenAI",
    "/v1/image/generation": "Hyperbolic",
}
#: No line of the examples takes this long on any machine that can run them at all.
JOB_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a line."""

    line: Line
    seconds: float
    #: The job, once the farm has answered.
    job_id: str | None = None
    files: list[Path] = field(default_factory=list)
    error: str | None = None

    @property
    def dialect(self) -> str:
        return DIALECTS.get(self.line.url, self.line.url)

    @property
    def title(self) -> str:
        return title_of(self.line)

    @property
    def model(self) -> str:
        body = self.line.body
        return str(body.get("model") or body.get("model_name") or "(default)").rpartition("/")[2]


def title_of(line: Line) -> str:
    """A line's name, or its prompt."""
    return str(line.body.get("name") or line.body["prompt"])


def render_all(farm: Client, lines: Sequence[Line], webhook_url: str, out: Path) -> Iterator[Outcome]:
    """Send all lines at once; give each one's outcome when it is there."""
    with ThreadPoolExecutor(max_workers=max(1, len(lines))) as threads:
        for future in as_completed([threads.submit(_render, farm, line, webhook_url, out) for line in lines]):
            yield future.result()


def _render(farm: Client, line: Line, webhook_url: str, out: Path) -> Outcome:
    started = time.monotonic()
    job_id = None
    files: list[Path] = []
    error = None
    # The dialects have no place for a webhook's address.
    body = {**line.body, "webhook_url": webhook_url} if line.native else dict(line.body)
    try:
        response = farm.request("POST", line.url, json=body, headers=line.headers)
        answer: dict[str, Any] = response.json()
        job_id = response.headers.get("X-Job-Id")
        if answer.get("object") == "job":
            job = farm.wait(Job.from_json(answer), timeout_s=JOB_TIMEOUT_S)
            job_id, answer = job.id, dict(job.raw)
            if job.status != "succeeded":
                raise PictureError(f"{job.id} {job.status}: {job.error['message'] if job.error else 'no reason given'}")
        files = save(pictures_of(answer, farm), out, line.number, title_of(line))
        if len(files) != line.body.get("n", 1):
            raise PictureError(f"{line.body.get('n', 1)} pictures were asked for, {len(files)} came")
    except ClientError as problem:
        error = str(problem)
    return Outcome(line=line, seconds=time.monotonic() - started, job_id=job_id, files=files, error=error)
