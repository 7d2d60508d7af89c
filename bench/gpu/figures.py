"""What was measured, one figure at a time: written at once, so that it survives what happens next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

#: The workload of figures that are the device's own.
DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement, or why there is none."""

    workload: str
    part: str
    name: str
    value: float | None
    unit: str = "images/s"
    #: In words, what the unit does not say; where there is no value, the reason.
    note: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A part begins, and how many seconds it may take; or it ends, where `limit_s` is None."""

    part: str
    limit_s: float | None


class Journal:
    """A file to which one process appends figures and marks, while another reads them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, entry: Figure | Mark) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({type(entry).__name__: asdict(entry)}) + "\n")

    def read(self, start: int) -> Iterator[tuple[Figure | Mark, int]]:
        """The complete entries from a position on, each with the position after it."""
        if not self._path.exists():
            return
        with self._path.open() as file:
            file.seek(start)
            while (line := file.readline()).endswith("\n"):
                ((kind, values),) = json.loads(line).items()
                yield (Figure(**values) if kind == "Figure" else Mark(**values)), file.tell()
