"""Pictures as files: how they are named, and how they get there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from client.client import Client
from client.errors import ClientError
from client.jobs import Image
from client.lines import Line

#: Not in a file's name: what separates folders, what shells and Windows take amiss, what nobody sees.
_UNSAFE = re.compile(r"[^\w.-]+")
#: Characters of a name; four bytes each, and the rest of the file's name, fit into the 255 bytes of file systems.
_LONGEST_NAME = 50


def stem_of(line: Line) -> str:
    """What the files of a line are called: its number, which makes them unique and sorts them, and its name."""
    name = line.custom_id or line.body.get("name") or ""
    words = _UNSAFE.sub("-", str(name))[:_LONGEST_NAME].strip("-.")
    return f"{line.number:05d}-{words}" if words else f"{line.number:05d}"


def save(farm: Client, images: Iterable[Image], out: Path, stem: str) -> list[Path]:
    """Download the images into the folder `out`. Raises ClientError where that cannot be written to."""
    files = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(images):
            path = out / f"{stem}-{index}.{image.format}"
            path.write_bytes(farm.download(image))
            files.append(path)
    except OSError as error:
        raise ClientError(f"{out} cannot be written: {error.strerror}") from error
    return files
