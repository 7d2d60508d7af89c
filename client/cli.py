"""The commands that speak to a farm by HTTP: `submit`, `show`, `download`, `jobs`, `models`, `cancel`."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.client import Client
from client.connection import DEFAULT_DATA_DIR, DataDirOption, KeyOption, UrlOption, connected
from client.errors import ClientError
from client.jobs import Image, Job
from client.lines import read_lines
from client.saving import save
from client.submitting import Accepted, Troubles, finish, send
from client.terminal import fail, output

app = typer.Typer()
_stderr = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@app.command()
def submit(
    file: Annotated[str, typer.Argument(help="A file of JSON lines, or '-' for standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every job is finished.")] = False,
    out: Annotated[Path | None, typer.Option(help="Save the pictures in this folder; implies --wait.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Make new jobs of a file that was submitted before.")] = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Submit a file of requests, one JSON object a line.

    A line is the body of a job, such as {"model": "flux-schnell", "prompt": "a lighthouse"}, or an envelope
    {"url": "/v1/images/imagine", "body": {…}} for any other route that makes pictures. Prints the jobs' ids.

    A farm that is being restarted is waited for. The same file, submitted again within a day, leads to the same
    jobs: run an interrupted command again to go on. The exit code is 1 when a line is refused or a job fails; the
    other lines go on.
    """
    with connected(url, api_key, data_dir) as farm:
        text = _read(file)
        lines = list(read_lines(text))
        salt = secrets.token_hex() if again else hashlib.sha256(text.encode()).hexdigest()
        troubles = Troubles(tell=lambda words: typer.echo(words, err=True))
        sent = []
        for accepted in send(farm, lines, salt, troubles):
            sent.append(accepted)
            if not wait and out is None:
                _print_accepted(accepted, as_json)
                troubles.notice(accepted)
        if wait or out is not None:
            _finish(farm, sent, out, as_json, troubles)
    if troubles:
        typer.echo("\n".join(troubles.summary(len(lines))), err=True)
        raise typer.Exit(1)


@app.command()
def show(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of a job.")],
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show a job: how far it is, what it made, or why it failed."""
    with connected(url, api_key, data_dir) as farm:
        job = farm.get(id_)
    if as_json:
        _print_json([job.raw])
        return
    table = Table(show_header=False, box=None)
    for name, value in job.raw.items():
        if value not in (None, [], {}) and name not in {"object", "images"}:
            table.add_row(name, _readable(value))
    for image in job.images:
        table.add_row("image", f"{image.id}  {image.width}×{image.height} {image.format}  seed {image.seed}")
    output().print(table)


@app.command()
def download(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of jobs, for all their pictures, or of images.")],
    out: Annotated[Path, typer.Option(help="Save the pictures in this folder.")] = Path(),
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Save the pictures of finished jobs, or single pictures, and print the files' names."""
    with connected(url, api_key, data_dir) as farm:
        for id_ in ids:
            for file in save(farm, _images_of(farm, id_), out, id_):
                typer.echo(file)


@app.command()
def jobs(
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed, canceled or expired.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 20,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List your newest jobs."""
    with connected(url, api_key, data_dir) as farm:
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
def models(
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List the models that the farm serves."""
    with connected(url, api_key, data_dir) as farm:
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
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Cancel jobs: queued ones at once, running ones at their next step."""
    with connected(url, api_key, data_dir) as farm:
        for id_ in ids:
            _print_job(farm.cancel(id_), as_json)


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {error}")


def _finish(farm: Client, sent: Sequence[Accepted], out: Path | None, as_json: bool, troubles: Troubles) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_stderr, transient=True, disable=not _stderr.is_terminal) as progress:
        task = progress.add_task("rendering", total=len(sent))
        for accepted in finish(farm, sent, out, troubles):
            _print_accepted(accepted, as_json)
            progress.advance(task)


def _images_of(farm: Client, id_: str) -> Sequence[Image]:
    if id_.startswith("image_"):
        return [farm.image(id_)]
    job = farm.get(id_)
    if job.status != "succeeded":
        raise ClientError(f"{id_} is {job.status}, and has no pictures")
    return job.images


def _print_accepted(accepted: Accepted, as_json: bool) -> None:
    if as_json:
        _print_json([accepted.raw])
        return
    replayed = ["already submitted"] if accepted.replayed else []
    _print_job(accepted.job, False, *replayed, *(str(file) for file in accepted.files))


def _print_job(job: Job, as_json: bool, *more: str) -> None:
    if as_json:
        _print_json([job.raw])
        return
    reason = [job.error["message"]] if job.error else []
    typer.echo("  ".join([job.id, job.status, *reason, *more]))


def _print_json(objects: Iterable[Mapping[str, Any]]) -> None:
    for item in objects:
        typer.echo(json.dumps(item, ensure_ascii=False))


def _readable(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
