"""`rendermill batches`: what was handed in as files, and what came of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from client.batches import Batch
from client.client import Client
from client.commands.cells import Bar, Moment, Status
from client.commands.completing import batch_id, unfinished_batch_id
from client.commands.fetching import fetch
from client.commands.groups import group
from client.commands.many import for_each, known_kind
from client.commands.panels import FOLLOW
from client.commands.printing import JsonOption, print_batch, print_json, print_saved, print_table
from client.commands.show import print_thing
from client.connection import with_farm
from client.errors import ClientError
from client.kinds import BATCH, FILE

batches = group("Batches: thousands of requests in one file.")
app = typer.Typer()
app.add_typer(batches, name="batches", rich_help_panel=FOLLOW)

IdsArgument = Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of batches.", autocompletion=batch_id)]


class Part(StrEnum):
    """What can be downloaded of a batch."""

    ARCHIVE = "archive"
    MANIFEST = "manifest"
    OUTPUT = "output"
    ERRORS = "errors"


@batches.command("list")
@with_farm
def list_(
    farm: Client,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List your batches, newest first.

    Example: `rendermill batches --limit 5`
    """
    found = farm.batches(limit=limit)
    if as_json:
        print_json(batch.raw for batch in found)
        return
    print_table(
        ("batch", "status", "progress", "completed", "failed", "lines", "made", "for"),
        (
            (
                batch.id,
                Status(batch.status),
                Bar((batch.completed + batch.failed) / batch.total if batch.total else 0.0),
                batch.completed,
                batch.failed,
                batch.total,
                Moment(batch.raw["created_at"]),
                batch.endpoint,
            )
            for batch in found
        ),
        cut="for",
        none="No batches. 'rendermill submit FILE' hands one in.",
    )


@batches.command()
@with_farm
def show(
    farm: Client,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of a batch.", autocompletion=batch_id)],
    as_json: JsonOption = False,
) -> None:
    """Show a batch: how far it is, what went wrong, and its files.

    Example: `rendermill batches show batch_4kT…`
    """
    print_thing(farm, id_, known_kind(id_, BATCH), as_json)


@batches.command()
@with_farm
def cancel(
    farm: Client,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID…", help="Ids of batches.", autocompletion=unfinished_batch_id)
    ],
    as_json: JsonOption = False,
) -> None:
    """Call batches off. What is rendered already stays, and is in the output file.

    Example: `rendermill batches cancel batch_4kT…`
    """
    for_each(ids, lambda id_: print_batch(farm.cancel_batch(id_), as_json), BATCH)


@batches.command()
@with_farm
def download(
    farm: Client,
    ids: IdsArgument,
    out: Annotated[Path, typer.Option(help="Save in this folder, which is made where there is none.")] = Path(),
    part: Annotated[
        list[Part] | None,
        typer.Option(help="What to save; may be repeated. The archive, if absent."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Save what a batch made, and print the files' names.

    archive: a ZIP of all pictures that are finished, named by custom_id, with the manifest. manifest: a CSV with a row
    for each picture, and for each line without. output and errors: the files of JSON lines, as in the Batch API of
    OpenAI, which are there once the batch has ended.

    Example: `rendermill batches download batch_4kT… --part output --part errors --out results`
    """

    def save(id_: str) -> None:
        batch = farm.get_batch(id_)
        for each in part or [Part.ARCHIVE]:
            path, name = _where(batch, each)
            print_saved(id_, fetch(farm, path, out / name), as_json)

    for_each(ids, save, BATCH)


def _where(batch: Batch, part: Part) -> tuple[str, str]:
    """Where the farm has this part of the batch, and what its file is called."""
    match part:
        case Part.ARCHIVE:
            return f"{BATCH.url(batch.id)}/archive", f"{batch.id}.zip"
        case Part.MANIFEST:
            return f"{BATCH.url(batch.id)}/manifest", f"{batch.id}.csv"
        case Part.OUTPUT:
            file_id = batch.output_file_id
        case Part.ERRORS:
            file_id = batch.error_file_id
    if file_id is None:
        why = "has none" if batch.finished else f"is {batch.status}; 'rendermill watch {batch.id}' follows it"
        raise ClientError(f"There is no file of {part} of {batch.id}: it {why}.")
    return f"{FILE.url(file_id)}/content", f"{batch.id}-{part}.jsonl"
