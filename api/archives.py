"""A batch's pictures as a ZIP that is made while it is sent, one picture in memory at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from zipstream import ZipStream

from api.services import Services
from intake.batch_rows import COLUMNS
from shared.storage import ObjectMissing

_FILE, _IMAGE = COLUMNS.index("file"), COLUMNS.index("image_id")


def archive(farm: Services, manifest: Iterator[bytes]) -> Iterator[bytes]:
    """The pictures that the manifest names, and the manifest. They are stored as they are: pictures do not shrink.

    A picture that was removed is left out.
    """
    bundle = ZipStream()
    kept: list[bytes] = []
    for row in csv.reader(_lines(manifest, kept)):
        image = farm.images.read([row[_IMAGE]]).get(row[_IMAGE]) if row[_IMAGE] else None
        if image is None:
            continue
        try:
            data = farm.storage.get(image.key)
        except ObjectMissing:
            continue
        bundle.add(data, row[_FILE])
        yield from bundle.all_files()
    bundle.add(b"".join(kept), "manifest.csv")
    yield from bundle.finalize()


def _lines(pieces: Iterable[bytes], kept: list[bytes]) -> Iterator[str]:
    """The lines of a text in pieces, which are all kept."""
    rest = b""
    for piece in pieces:
        kept.append(piece)
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode() + "\n" for line in lines)
    if rest:
        yield rest.decode()
