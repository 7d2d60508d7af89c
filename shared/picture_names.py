"""Names of a batch's pictures, made from what strangers wrote: safe on every system, and no two alike.

The same in an archive and in the folder of `rendermill submit`: this module imports nothing, so that the client may
use it.
"""

from __future__ import annotations

import re

#: Not in a file's name: what separates folders, what shells and Windows take amiss, what nobody sees.
_UNSAFE = re.compile(r"[^\w.-]+")
#: Names that Windows keeps for devices, whatever follows the point.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
#: With what is added, well below the 255 bytes of the usual file systems.
_LONGEST_BYTES = 150


class PictureNames:
    """Gives each line the stem of its files; in the same order of lines they are always the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, number: int, name: str, n: int) -> str:
        """The stem for the `n` pictures of a line."""
        stem = _safe(name) or f"line-{number:05d}"
        # Some file systems take Fox and fox for the same.
        if any(one.casefold() in self._taken for one in numbered(stem, n)):
            # "~" is not among the safe characters: what is made unique by it meets nothing else.
            stem = f"{stem}~{number}"
        self._taken.update(one.casefold() for one in numbered(stem, n))
        return stem


def _safe(name: str) -> str:
    """What of a name can be one of a file; nothing where there is none."""
    words = _UNSAFE.sub("-", name).encode()[:_LONGEST_BYTES].decode(errors="ignore").strip("-.")
    return f"_{words}" if _RESERVED.fullmatch(words) else words


def numbered(stem: str, n: int) -> list[str]:
    """Names without their endings for so many pictures."""
    return [stem] if n == 1 else [f"{stem}_{index}" for index in range(n)]
