"""What became of each line, on disk: a row as soon as it is known, and in the order of the lines at the end."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from client.errors import ClientError
from client.files import mend, whole
from client.lines import row_of

RESULTS, ERRORS = "results.jsonl", "errors.jsonl"
Row = dict[str, Any]


def row(
    line: int,
    custom_id: str,
    *,
    job: str | None,
    status: str,
    files: list[str],
    seed: int | None = None,
    warnings: Sequence[str] = (),
    error: dict[str, str] | None = None,
) -> Row:
    """What became of a line. `status` is its job's, or `refused` where it became none."""
    return {
        "line": line,
        "custom_id": custom_id,
        "job": job,
        "status": status,
        "files": files,
        "seed": seed,
        "warnings": list(warnings),
        "error": error,
    }


class Ledger:
    """`results.jsonl`, with a row for each line, and `errors.jsonl`, with those that went wrong, in a folder."""

    def __init__(self, folder: Path) -> None:
        """Go on where the files end. A row that was being written when somebody was killed is dropped."""
        self._folder = folder
        self._known: set[int] = set()
        self.failed = self.warned = self.pictures = 0
        results = folder / RESULTS
        mend(results)
        with (folder / ERRORS).open("wb") as errors:
            for one in rows(results):
                self._count(one)
                if one["error"]:
                    errors.write(row_of(one))
        self._results: BinaryIO = results.open("ab", buffering=0)
        self._errors: BinaryIO = (folder / ERRORS).open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._results.close()
        self._errors.close()

    def __contains__(self, line: int) -> bool:
        return line in self._known

    def __len__(self) -> int:
        return len(self._known)

    def add(self, one: Row) -> None:
        """Write a row down, once."""
        if one["line"] in self._known:
            return
        _append(self._results, one)
        if one["error"]:
            _append(self._errors, one)
        self._count(one)

    def sort(self, beside: Path) -> None:
        """Bring both files into the order of the lines. What is not whole yet is in the folder `beside`."""
        for name in (RESULTS, ERRORS):
            file = self._folder / name
            places = sorted((one["line"], start, size) for one, start, size in _places(file))
            with file.open("rb") as old, whole(file, beside) as sorted_file:
                for _, start, size in places:
                    old.seek(start)
                    sorted_file.write(old.read(size))

    def _count(self, one: Row) -> None:
        self._known.add(one["line"])
        self.failed += bool(one["error"])
        self.warned += bool(one.get("warnings"))
        self.pictures += len(one["files"])


def _append(file: BinaryIO, one: Row) -> None:
    text = row_of(one)
    if file.write(text) != len(text):
        # A full disk takes what it has room for. Whoever goes on drops that.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)


def rows(file: Path) -> Iterator[Row]:
    """The rows of a file of results. Raises ClientError at one that is none."""
    return (one for one, _, _ in _places(file))


def forget(file: Path, lines: Container[int], beside: Path) -> None:
    """Remove the rows of some lines from a file of results. What is not whole yet is in the folder `beside`."""
    with whole(file, beside) as rest:
        rest.writelines(row_of(one) for one in rows(file) if one["line"] not in lines)


def _places(file: Path) -> Iterator[tuple[Row, int, int]]:
    """Each row with where it begins and how long it is."""
    if not file.exists():
        return
    start = 0
    with file.open("rb") as content:
        for number, text in enumerate(content, start=1):
            try:
                one: Row = json.loads(text)
                one["line"], one["files"], one["error"]
            except (ValueError, LookupError, TypeError) as error:
                raise ClientError(
                    f"Row {number} of {file} is none of this command. Move the file away: 'rendermill resume' writes "
                    "it again, and fetches no picture that is here."
                ) from error
            yield one, start, len(text)
            start += len(text)
