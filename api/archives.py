"""A batch's pictures as a ZIP that is made while it is sent, a few pictures in memory at a time."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import IO

from zipstream import ZipStream

from api.services import Services
from intake.batch_rows import COLUMNS
from shared.storage import ObjectMissing, Storage

_FILE, _IMAGE = COLUMNS.index("file"), COLUMNS.index("image_id")
#: Pictures fetched while another one is sent: an archive is not to wait for S3 at each of them.
_AHEAD = 4
#: Pictures whose records are read in one round trip.
_STEP = 100
#: A manifest beyond this is kept on disk until it is sent, as the last file of the archive.
_MANIFEST_IN_MEMORY = 2**20
_PIECE_BYTES = 64 * 1024


def archive(farm: Services, manifest: Iterator[bytes]) -> Iterator[bytes]:
    """The pictures that the manifest names, and the manifest. They are stored as they are: pictures do not shrink.

    A picture that was removed is left out.
    """
    bundle = ZipStream()
    with SpooledTemporaryFile(_MANIFEST_IN_MEMORY) as kept, ThreadPoolExecutor(_AHEAD, "archive") as pool:
        for name, data in _pictures(farm, csv.reader(_lines(manifest, kept)), pool):
            bundle.add(data, name)
            yield from bundle.all_files()
        kept.seek(0)
        bundle.add(iter(lambda: kept.read(_PIECE_BYTES), b""), "manifest.csv")
        yield from bundle.finalize()


def _pictures(farm: Services, rows: Iterator[list[str]], pool: ThreadPoolExecutor) -> Iterator[tuple[str, bytes]]:
    """Names and contents, in the order of the rows."""
    coming: deque[tuple[str, Future[bytes | None]]] = deque()
    for name, key in _places(farm, rows):
        coming.append((name, pool.submit(_content, farm.storage, key)))
        if len(coming) > _AHEAD:
            yield from _arrived(*coming.popleft())
    for name, content in coming:
        yield from _arrived(name, content)


def _arrived(name: str, content: Future[bytes | None]) -> Iterator[tuple[str, bytes]]:
    data = content.result()
    if data is not None:
        yield name, data


def _places(farm: Services, rows: Iterator[list[str]]) -> Iterator[tuple[str, str]]:
    """Of each picture that exists, its name in the archive and its key in S3."""
    named: Iterator[Sequence[str]] = (row for row in rows if row[_IMAGE])
    next(named)  # the heads of the columns
    while step := list(islice(named, _STEP)):
        found = farm.images.read([row[_IMAGE] for row in step])
        yield from ((row[_FILE], found[row[_IMAGE]].key) for row in step if row[_IMAGE] in found)


def _content(storage: Storage, key: str) -> bytes | None:
    try:
        return storage.get(key)
    except ObjectMissing:
        return None


def _lines(pieces: Iterable[bytes], kept: IO[bytes]) -> Iterator[str]:
    """The lines of a text in pieces, which are all kept."""
    rest = b""
    for piece in pieces:
        kept.write(piece)
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.decode() + "\n" for line in lines)
    if rest:
        yield rest.decode()
