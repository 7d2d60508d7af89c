"""A file of requests as its lines: JSON lines, a table with a header, or prompts."""

from __future__ import annotations

import codecs
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from client.errors import LineError
from client.lines import Line, json_lines, line_of, prompt_lines

#: The fields of a job body that are not texts, by how a cell of a table becomes one.
NUMBERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("width", "height", "num_steps", "seed", "n", "output_quality"), int),
    **dict.fromkeys(("guidance_scale", "strength", "deadline_s"), float),
}
TEXTS = (
    *("model", "prompt", "negative_prompt", "input_image", "mask_image"),
    *("scheduler", "output_format", "name", "priority", "webhook_url"),
)
_METADATA = "metadata."
#: A cell may hold a picture; beyond this a line is refused in any case.
csv.field_size_limit(2**27)


@contextmanager
def lines_of(file: str) -> Iterator[Iterator[Line]]:
    """The lines of a file, or of standard input where it is '-', which are read as they are asked for.

    A name that ends in `.csv` or `.tsv`, or standard input that does not begin with a brace, is a table; one that ends
    in `.txt` has a prompt a line. Raises LineError, also in the middle, and OSError.
    """
    with _opened(file) as content:
        first, rows = _begun(content)
        suffix = Path(file).suffix.lower()
        if suffix in (".csv", ".tsv") or (file == "-" and first and not first.lstrip().startswith("{")):
            yield table_lines(rows, "\t" if suffix == ".tsv" else ",")
        elif suffix == ".txt":
            yield prompt_lines(rows)
        else:
            yield json_lines(rows)


def name_of(file: str) -> str:
    """What a person calls the file."""
    return "standard input" if file == "-" else file


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
    else:
        with Path(file).open("rb") as content:
            yield content


def _begun(content: BinaryIO) -> tuple[str, Iterator[str]]:
    """The first row that is not blank, and all rows. A BOM is passed over; rows end with a line feed, as in files."""
    rows = _decoded(content)
    before = []
    for row in rows:
        before.append(row)
        if row.strip():
            break
    return (before[-1] if before else ""), chain(before, rows)


def _decoded(content: BinaryIO) -> Iterator[str]:
    for number, row in enumerate(content, start=1):
        data = row.removeprefix(codecs.BOM_UTF8) if number == 1 else row
        try:
            yield data.decode()
        except UnicodeDecodeError as error:
            raise LineError(f"line {number} is not UTF-8: {error.reason} at byte {error.start}") from error


def table_lines(rows: Iterable[str], delimiter: str = ",") -> Iterator[Line]:
    """The requests of a table whose header names fields of a job body. Empty cells are left out. Raises LineError."""
    reader = csv.reader(rows, delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check(header)
        number = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _row(number, header, cells)
            number = reader.line_num + 1
    except csv.Error as error:
        raise LineError(f"line {reader.line_num} is no row of a table: {error}") from error


def _check(header: list[str]) -> None:
    known = {*NUMBERS, *TEXTS, "custom_id"}
    unknown = [name for name in header if name not in known and not name.startswith(_METADATA)]
    if unknown or not header:
        named = ", ".join(map(repr, unknown)) or "nothing"
        raise LineError(
            f"line 1: the header must name fields of a job, not {named}; there are custom_id, "
            f"{', '.join(sorted([*NUMBERS, *TEXTS]))}, and metadata.NAME"
        )
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise LineError(f"line 1: the header names {', '.join(twice)} twice")


def _row(number: int, header: list[str], cells: list[str]) -> Line:
    if len(cells) > len(header):
        raise LineError(f"line {number} has {len(cells)} cells, the header {len(header)}; quote cells with a comma")
    body: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=False):
        if not cell.strip():
            continue
        if name.startswith(_METADATA):
            body.setdefault("metadata", {})[name.removeprefix(_METADATA)] = cell
            continue
        try:
            body[name] = NUMBERS[name](cell.strip()) if name in NUMBERS else cell
        except ValueError as error:
            raise LineError(f"line {number}: {name} must be a number, not {cell!r}") from error
    custom_id = body.pop("custom_id", None)
    envelope = {} if custom_id is None else {"custom_id": custom_id}
    return line_of(number, {**envelope, **body})


def setting(text: str) -> tuple[str, Any]:
    """A field of every line, written `name=value`; the value is JSON, or a text. Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"{text!r} is no NAME=VALUE")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value
