"""`rendermill watch`: see a job or a batch happen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from client.batches import Batch
from client.client import Client
from client.commands.completing import job_or_batch_id
from client.commands.many import known_kind
from client.commands.panels import FOLLOW
from client.commands.printing import JsonOption, print_batch, print_job, print_json
from client.connection import with_farm
from client.events import Event
from client.exit_codes import ExitCode
from client.jobs import Job
from client.kinds import BATCH, JOB

app = typer.Typer()

_WELL = {"succeeded", "completed"}
#: A job's bar has this many parts.
_PARTS = 100


@app.command(rich_help_panel=FOLLOW)
@with_farm
def watch(
    farm: Client,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of a job or a batch.", autocompletion=job_or_batch_id)],
    as_json: JsonOption = False,
) -> None:
    """Follow a job or a batch until it ends. The exit code is 0 where it made what it was to make.

    With --json, every event is a line. What has ended already is shown as it is.

    Example: `rendermill watch batch_4kT… && rendermill batches download batch_4kT…`
    """
    kind = known_kind(id_, JOB, BATCH)
    current: Job | Batch = farm.get_batch(id_) if kind is BATCH else farm.get(id_)
    if as_json:
        print_json([current.raw])
    if not current.finished:
        events = farm.events(id_)
        current = _print_each(events, current) if as_json else _draw(events, current)
    if not as_json:
        _print_end(current)
    if current.status not in _WELL:
        raise typer.Exit(ExitCode.FAILED)


def _print_each(events: Iterable[Event], current: Job | Batch) -> Job | Batch:
    for event in events:
        if event.data.raw != current.raw:
            current = event.data
            print_json([current.raw])
    return current


def _draw(events: Iterable[Event], current: Job | Batch) -> Job | Batch:
    """A live bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    count = MofNCompleteColumn() if isinstance(current, Batch) else TaskProgressColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(current.status, total=None)
        for event in events:
            current = event.data
            if isinstance(current, Batch):
                done, total = current.completed + current.failed, current.total or None
            else:
                done, total = int(current.progress * _PARTS), _PARTS
            progress.update(task, description=_words(current), completed=done, total=total)
    return current


def _words(current: Job | Batch) -> str:
    if isinstance(current, Batch):
        failed = f", {current.failed} failed" if current.failed else ""
        held_up = f", held up: {current.held_up['code']}" if current.held_up else ""
        return f"{current.status}{failed}{held_up}"
    if current.status == "queued" and current.queue_position is not None:
        return f"queued, {current.queue_position} before it"
    return current.stage or current.status


def _print_end(current: Job | Batch) -> None:
    if isinstance(current, Batch):
        print_batch(current, as_json=False)
    else:
        print_job(current, False, *(image.id for image in current.images))
