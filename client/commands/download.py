"""`rendermill download`: pictures of finished jobs as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from client.client import Client
from client.commands.completing import job_or_batch_id
from client.commands.fetching import fetch
from client.commands.many import for_each
from client.commands.panels import MAKE
from client.commands.printing import JsonOption, print_saved
from client.connection import with_farm
from client.errors import ClientError
from client.images import Image
from client.kinds import BATCH, IMAGE, JOB, kind_of

app = typer.Typer()


@app.command(rich_help_panel=MAKE)
@with_farm
def download(
    farm: Client,
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID…",
            help="Ids of jobs, images and batches.",
            autocompletion=job_or_batch_id,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Save in this folder, which is made where there is none.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Save pictures, and print the files' names: those of finished jobs, single ones, or a batch's as one ZIP.

    Example: `rendermill download job_9f3… --out pictures`
    """

    def save(id_: str) -> None:
        if kind_of(id_) is BATCH:
            print_saved(id_, fetch(farm, f"{BATCH.url(id_)}/archive", out / f"{id_}.zip"), as_json)
            return
        images = [farm.image(id_)] if kind_of(id_) is IMAGE else _images_of(farm, id_)
        for index, image in enumerate(images):
            print_saved(image.id, _saved(image, out / f"{id_}-{index}.{image.format}"), as_json)

    for_each(ids, save, JOB, IMAGE, BATCH)


def _images_of(farm: Client, job_id: str) -> Sequence[Image]:
    job = farm.get(job_id)
    if job.status != "succeeded":
        raise ClientError(f"{job_id} is {job.status}, and has no pictures")
    return job.images


def _saved(image: Image, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return image.save(path)
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror}") from error
