"""Lines into the files of batches: split where a batch is full, and one for each endpoint."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from client.batch_files import entry
from client.batches import MAX_BYTES, MAX_LINE_BYTES, MAX_LINES
from client.bulk.state import Part, part_name
from client.errors import LineError
from client.lines import Line, row_of
from shared.picture_names import PictureNames

INDEX, DIRECT = "index.jsonl", "direct.jsonl"


class Plan:
    """What is to be handed in, in a folder."""

    def __init__(self, folder: Path) -> None:
        """An empty plan in a folder that is made, and emptied."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.parts: list[Part] = []
        self.lines = self.pictures = self.direct = 0
        self.digest = ""

    def read(self, lines: Iterable[Line], fields: Mapping[str, Any], model: str | None = None) -> None:
        """Take in all lines; a body that lacks one of `fields`, or the `model` where it takes one, has it from there.

        Raises LineError where two lines have the same custom_id, or one is too long, or there is none.
        """
        names, numbers, digest = PictureNames(), dict[str, int](), hashlib.sha256()
        with ExitStack() as files:
            index = files.enter_context((self.folder / INDEX).open("wb"))
            direct = files.enter_context((self.folder / DIRECT).open("wb"))
            parts = _Parts(self, files)
            for line in lines:
                if (first := numbers.setdefault(line.name, line.number)) != line.number:
                    raise LineError(f"line {line.number}: custom_id {line.name!r} is that of line {first} already")
                given = {**fields, "model": model} if model is not None and line.takes_model else fields
                body = {**given, **line.body}
                n = body["n"] if isinstance(body.get("n"), int) and 1 <= body["n"] <= 10 else 1
                if line.batchable:
                    row = entry(line, body)
                    if len(row) > MAX_LINE_BYTES:
                        raise LineError(
                            f"line {line.number} has more than {MAX_LINE_BYTES:,} bytes; upload its picture, and use "
                            "the image's id"
                        )
                    at = parts.add(line.url, row)
                else:
                    row = row_of([line.number, line.name, line.url, dict(line.headers), body])
                    direct.write(row)
                    self.direct, at = self.direct + 1, 0
                index.write(row_of([line.number, at, line.name, names.take(line.number, line.name, n)]))
                digest.update(row)
                self.lines, self.pictures = self.lines + 1, self.pictures + n
        if not self.lines:
            raise LineError("there are no lines")
        self.digest = digest.hexdigest()


class _Parts:
    """The parts that are being written, one for each endpoint."""

    def __init__(self, plan: Plan, files: ExitStack) -> None:
        self._plan = plan
        self._files = files
        self._open: dict[str, PartFile] = {}

    def add(self, endpoint: str, row: bytes) -> int:
        """Write a row; the number of its part."""
        file = self._open.get(endpoint)
        if file is None or file.part.lines >= MAX_LINES or file.bytes + len(row) > MAX_BYTES:
            if file:
                file.end()
            number = len(self._plan.parts) + 1
            file = self._files.enter_context(PartFile(self._plan.folder, number, endpoint))
            self._open[endpoint] = file
            self._plan.parts.append(file.part)
        file.add(row)
        return file.number


class PartFile:
    """A part that is being written, into what is to be uploaded; it is whole at the end of the block."""

    def __init__(self, folder: Path, number: int, endpoint: str, attempt: int = 0) -> None:
        self.number, self.part = number, Part(endpoint, 0, "", attempt)
        self.bytes = 0
        self._file = (folder / part_name(number)).open("wb")
        self._digest = hashlib.sha256(endpoint.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def add(self, row: bytes) -> None:
        """Write a row."""
        self._file.write(row)
        self._digest.update(row)
        self.part.lines += 1
        self.bytes += len(row)

    def end(self) -> None:
        """Nothing is to be added any more."""
        self.part.digest = self._digest.hexdigest()
        self._file.close()


def index_rows(folder: Path) -> Iterator[tuple[int, int, str, str]]:
    """Number, part (0 is none), custom_id and stem of each line."""
    with (folder / INDEX).open("rb") as file:
        for row in file:
            number, part, name, stem = json.loads(row)
            yield number, part, name, stem


class Direct(NamedTuple):
    """A line that is sent by itself."""

    number: int
    name: str
    url: str
    headers: dict[str, str]
    body: dict[str, Any]


def direct_rows(folder: Path) -> Iterator[Direct]:
    """The lines that are sent by themselves."""
    with (folder / DIRECT).open("rb") as file:
        for row in file:
            yield Direct(*json.loads(row))
