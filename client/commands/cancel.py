"""`rendermill cancel`: call jobs and batches off."""

from __future__ import annotations

from typing import Annotated

import typer

from client.client import Client
from client.commands.completing import unfinished_id
from client.commands.many import for_each
from client.commands.panels import FOLLOW
from client.commands.printing import JsonOption, print_batch, print_job
from client.connection import with_farm
from client.kinds import BATCH, JOB, kind_of

app = typer.Typer()


@app.command(rich_help_panel=FOLLOW)
@with_farm
def cancel(
    farm: Client,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID…", help="Ids of jobs and batches.", autocompletion=unfinished_id)
    ],
    as_json: JsonOption = False,
) -> None:
    """Cancel jobs and batches: what waits at once, what is rendered at its next step. What is done stays.

    Example: `rendermill jobs --status queued | cut -f1 | xargs rendermill cancel`
    """

    def call_off(id_: str) -> None:
        if kind_of(id_) is JOB:
            print_job(farm.cancel(id_), as_json)
        else:
            print_batch(farm.cancel_batch(id_), as_json)

    for_each(ids, call_off, JOB, BATCH)
