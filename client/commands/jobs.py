"""`rendermill jobs`: your newest jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from client.client import Client
from client.commands.cells import Bar, Moment, Status
from client.commands.completing import batch_id, statuses
from client.commands.panels import FOLLOW
from client.commands.printing import JsonOption, print_json, print_table
from client.connection import with_farm

app = typer.Typer()


@app.command(rich_help_panel=FOLLOW)
@with_farm
def jobs(
    farm: Client,
    status: Annotated[
        str | None,
        typer.Option(
            help="queued, running, succeeded, failed, canceled or expired; several with commas.",
            autocompletion=statuses,
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="ID", help="Those of this batch.", autocompletion=batch_id)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List your newest jobs.

    Example: `rendermill jobs --status failed,expired --batch batch_4kT…`
    """
    found = farm.jobs(status=status, batch=batch, limit=limit)
    if as_json:
        print_json(job.raw for job in found)
        return
    print_table(
        ("job", "status", "progress", "made", "model", "prompt"),
        (
            (
                job.id,
                Status(job.status),
                Bar(job.progress),
                Moment(job.raw.get("created_at")),
                job.model,
                job.raw.get("input", {}).get("prompt"),
            )
            for job in found
        ),
        cut="prompt",
        none="No jobs.",
    )
