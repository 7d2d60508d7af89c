"""`rendermill files`: input and output of batches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.client import Client
from client.commands.cells import Moment, Number, size
from client.commands.completing import file_id
from client.commands.fetching import fetch
from client.commands.groups import group
from client.commands.many import for_each
from client.commands.panels import FOLLOW
from client.commands.printing import JsonOption, print_deleted, print_json, print_saved, print_table
from client.connection import with_farm
from client.kinds import FILE

files = group("Files: what batches are made of, and what came of them.")
app = typer.Typer()
app.add_typer(files, name="files", rich_help_panel=FOLLOW)

IdsArgument = Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of files.", autocompletion=file_id)]


@files.command("list")
@with_farm
def list_(
    farm: Client,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List your files, newest first.

    Example: `rendermill files`
    """
    found = farm.files(limit=limit)
    if as_json:
        print_json(file.raw for file in found)
        return
    print_table(
        ("file", "size", "made", "gone", "purpose", "name"),
        (
            (
                file.id,
                Number(size(file.bytes)),
                Moment(file.raw["created_at"]),
                Moment(file.raw.get("expires_at")),
                file.purpose,
                file.filename,
            )
            for file in found
        ),
        cut="name",
        none="No files.",
    )


@files.command()
@with_farm
def download(
    farm: Client,
    ids: IdsArgument,
    out: Annotated[Path, typer.Option(help="Save in this folder, which is made where there is none.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Save files under their ids, and print the files' names.

    Example: `rendermill files download file_7Qd… --out results`
    """

    def save(id_: str) -> None:
        print_saved(id_, fetch(farm, f"{FILE.url(id_)}/content", out / f"{id_}.jsonl"), as_json)

    for_each(ids, save, FILE)


@files.command()
@with_farm
def delete(farm: Client, ids: IdsArgument, as_json: JsonOption = False) -> None:
    """Delete files. A file that a batch still needs is kept, and said so.

    Example: `rendermill files delete file_7Qd…`
    """

    def remove(id_: str) -> None:
        farm.request("DELETE", FILE.url(id_))
        print_deleted(id_, as_json)

    for_each(ids, remove, FILE)
