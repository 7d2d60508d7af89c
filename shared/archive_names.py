"""Names of files in an archive, made from what strangers wrote: safe on every system, and no two alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
#: Names that Windows keeps for devices, whatever follows the point.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
#: With what is added, well below the 255 bytes of the usual file systems.
_LONGEST = 150


class ArchiveNames:
    """Gives each line's pictures their names; in the same order of lines they are always the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, line: int, custom_id: str, formats: Sequence[str]) -> list[str]:
        """Names for the pictures of a line, which are of these formats."""
        stem = _safe(custom_id) or f"line-{line}"
        names = _numbered(stem, formats)
        # Some file systems take Fox and fox for the same.
        if any(name.lower() in self._taken for name in names):
            names = _numbered(f"{stem}~{line}", formats)
        self._taken.update(name.lower() for name in names)
        return names


def _numbered(stem: str, formats: Sequence[str]) -> list[str]:
    if len(formats) == 1:
        return [f"{stem}.{formats[0]}"]
    return [f"{stem}_{number}.{format_}" for number, format_ in enumerate(formats)]


def _safe(custom_id: str) -> str:
    # "~" is not among the safe characters: what is made unique by it meets nothing else.
    name = _UNSAFE.sub("_", custom_id)[:_LONGEST].strip(".")
    # A program would take what begins with "-" for an option.
    return f"_{name}" if _RESERVED.fullmatch(name) or name.startswith("-") else name
