"""The commands that speak to a farm by HTTP: `submit`, `jobs`, `models`, `cancel`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.client import Client
from client.errors import ClientError
from client.jobs import Job
from client.lines import Line, read_lines
from client.terminal import fail, output

DEFAULT_URL = "http://127.0.0.1:8080"
#: Where `rendermill up`, started in this folder, leaves a key.
KEY_FILE = Path(".rendermill/api-key")
#: What a file name is made of; the rest of a line's `custom_id` is replaced.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

app = typer.Typer()
_stderr = Console(stderr=True)

UrlOption = Annotated[str, typer.Option("--url", envvar="RENDERMILL_URL", help="Address of the farm.")]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key", envvar="RENDERMILL_API_KEY", help=f"API key; otherwise the one in {KEY_FILE}."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@app.command()
def submit(
    file: Annotated[str, typer.Argument(help="A file of JSON lines, or '-' for standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every job is finished.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the pictures in this folder; implies --wait.")] = None,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a file of requests, one JSON object a line.

    A line is the body of a job, such as {"model": "flux-schnell", "prompt": "a lighthouse"}, or an envelope
    {"url": "/v1/images/imagine", "body": {…}} for any other route that makes pictures. Prints the jobs' ids. The exit
    code is 1 when a line is refused or a job fails; the other lines go on.
    """
    with _farm(url, api_key) as farm:
        lines = list(read_lines(_read(file)))
        jobs: list[tuple[Line, Job]] = []
        refused = 0
        for line in lines:
            try:
                job = _submit(farm, line)
            except ClientError as error:
                refused += 1
                typer.echo(f"line {line.number}: {error}", err=True)
                continue
            jobs.append((line, job))
            if not wait and out is None:
                _print_job(job, as_json)
        if wait or out is not None:
            jobs = _wait_for_all(farm, jobs, out, as_json)
        failed = sum(job.finished and job.status != "succeeded" for _, job in jobs)
    if refused or failed:
        typer.echo(f"{len(lines)} lines: {refused} refused, {failed} not succeeded", err=True)
        raise typer.Exit(1)


@app.command()
def jobs(
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed, canceled or expired.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 20,
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """List your newest jobs."""
    with _farm(url, api_key) as farm:
        found = list(farm.jobs(status=status, limit=limit))
    if as_json:
        _print_json(job.raw for job in found)
        return
    table = Table("job", "status", "progress", "model", "made", "prompt")
    for job in found:
        prompt = str(job.raw.get("input", {}).get("prompt", ""))
        table.add_row(job.id, job.status, f"{job.progress:.0%}", job.model, str(job.raw.get("created_at")), prompt)
    output().print(table)


@app.command()
def models(url: UrlOption = DEFAULT_URL, api_key: KeyOption = None, as_json: JsonOption = False) -> None:
    """List the models that the farm serves."""
    with _farm(url, api_key) as farm:
        found = farm.models()
    if as_json:
        _print_json(found)
        return
    table = Table("model", "also called", "makes")
    for model in found:
        table.add_row(model["id"], ", ".join(model.get("aliases", [])), ", ".join(model.get("modes", [])))
    output().print(table)


@app.command()
def cancel(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of jobs.")],
    url: UrlOption = DEFAULT_URL,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel jobs: queued ones at once, running ones at their next step."""
    with _farm(url, api_key) as farm:
        for id_ in ids:
            _print_job(farm.cancel(id_), as_json)


@contextmanager
def _farm(url: str, api_key: str | None) -> Iterator[Client]:
    """A client; what goes wrong with it becomes one line and the exit code 1."""
    if api_key is None:
        if not KEY_FILE.exists():
            fail(f"An API key is needed: give --api-key, or set RENDERMILL_API_KEY ({KEY_FILE} does not exist).")
        api_key = KEY_FILE.read_text(encoding="utf-8").strip()
    try:
        with Client(url, api_key) as client:
            yield client
    except ClientError as error:
        fail(str(error))
    except KeyboardInterrupt:
        typer.echo("rendermill: stopped; what was submitted goes on", err=True)
        raise typer.Exit(130) from None


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {error}")


def _submit(farm: Client, line: Line) -> Job:
    # The routes of other services wait for the picture unless they are asked not to.
    headers = httpx.Headers(line.headers)
    headers["Prefer"] = "respond-async"
    return Job.from_json(farm.request("POST", line.url, json=dict(line.body), headers=headers).json())


def _wait_for_all(
    farm: Client, jobs: Sequence[tuple[Line, Job]], out: Path | None, as_json: bool
) -> list[tuple[Line, Job]]:
    finished = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_stderr, transient=True, disable=not _stderr.is_terminal) as progress:
        task = progress.add_task("rendering", total=len(jobs))
        for line, submitted in jobs:
            job = farm.wait(submitted)
            files = _save(farm, line, job, out) if out is not None else []
            _print_job(job, as_json, *(str(path) for path in files))
            finished.append((line, job))
            progress.advance(task)
    return finished


def _save(farm: Client, line: Line, job: Job, out: Path) -> list[Path]:
    name = _UNSAFE.sub("_", line.custom_id or f"{line.number:05d}").lstrip(".") or f"{line.number:05d}"
    files = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(job.images):
            path = out / f"{name}-{index}.{image.format}"
            path.write_bytes(farm.download(image))
            files.append(path)
    except OSError as error:
        raise ClientError(f"{out} cannot be written: {error.strerror}") from error
    return files


def _print_job(job: Job, as_json: bool, *more: str) -> None:
    if as_json:
        _print_json([job.raw])
        return
    reason = [job.error["message"]] if job.error else []
    typer.echo("  ".join([job.id, job.status, *reason, *more]))


def _print_json(objects: Any) -> None:
    for item in objects:
        typer.echo(json.dumps(item, ensure_ascii=False))
