"""The lines of a batch with what became of each: read from the input file and the jobs' records, in line order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from intake.batch_lines import LineRefused, custom_id_of, lines_of, parsed
from intake.jsonl import RawLine
from shared.batches import Batch, job_id
from shared.files import File
from shared.images import Image, Images
from shared.jobs import Job
from shared.picture_names import PictureNames, numbered
from shared.records import Records
from shared.storage import Storage

#: Lines whose records are read in one round trip.
_STEP = 200
COLUMNS = (
    *("line", "custom_id", "job_id", "status", "file", "image_id", "seed", "width", "height", "model"),
    *("error_code", "error_message"),
)
#: What begins a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A line. `job` is None where it became none, or has not yet; `images` are those of its pictures that exist."""

    number: int
    custom_id: str | None
    body: dict[str, Any]
    job_id: str
    job: Job | None
    images: list[Image]


def rows_of(storage: Storage, records: Records, images: Images, batch: Batch, file: File) -> Iterator[BatchRow]:
    """Every line of the batch that is not blank. Raises StorageError and RedisError."""
    lines = lines_of(storage, file.key, file.bytes)
    while step := list(islice(lines, _STEP)):
        ids = [job_id(batch.id, line.number) for line in step]
        jobs = records.read(ids)
        found = images.read([id_ for job in jobs if job is not None for id_ in job.images])
        for line, id_, job in zip(step, ids, jobs, strict=True):
            yield _row(line, id_, job, found)


def _row(line: RawLine, id_: str, job: Job | None, found: Mapping[str, Image]) -> BatchRow:
    try:
        asked = parsed(line)
    except LineRefused:
        return BatchRow(line.number, None, {}, id_, None, [])
    body = asked.get("body")
    pictures = [found[image] for image in job.images if image in found] if job else []
    return BatchRow(line.number, custom_id_of(asked), body if isinstance(body, dict) else {}, id_, job, pictures)


def manifest(rows: Iterable[BatchRow]) -> Iterator[bytes]:
    """The batch as CSV: a row for each picture, and one for each line without."""
    names = PictureNames()
    yield _csv([COLUMNS])
    for row in rows:
        yield _csv(_records(row, names))


def _records(row: BatchRow, names: PictureNames) -> list[tuple[object, ...]]:
    job, custom_id = row.job, row.custom_id or ""
    if job is None:
        return [(row.number, custom_id, "", "refused", *[""] * 8)]
    head = (row.number, custom_id, job.id, job.status)
    if not row.images:
        error = job.error or {"code": "", "message": ""}
        return [(*head, *[""] * 5, job.request.model, error["code"], error["message"])]
    count = len(row.images)
    stems = numbered(names.take(row.number, custom_id, count), count)
    return [
        (*head, f"{stem}.{image.format}", *_picture(image), "", "")
        for stem, image in zip(stems, row.images, strict=True)
    ]


def _picture(image: Image) -> tuple[object, ...]:
    return image.id, image.seed, image.width, image.height, image.model


def _csv(rows: Iterable[Iterable[object]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    """A text that a spreadsheet would run as a formula gets a quote before it, as OWASP advises."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
