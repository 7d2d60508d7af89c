"""Lines of a file that may be large, hostile, or both: never more than one of them is held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

#: The longest line. A picture of three megabytes fits in, as base64; larger ones are better uploaded, or linked to.
MAX_LINE_BYTES = 4 * 2**20
_BOM = b"\xef\xbb\xbf"


class RawLine(NamedTuple):
    """A line that is not blank."""

    #: Counted from 1, blank lines included.
    number: int
    #: Without its end; None where it is longer than `MAX_LINE_BYTES`.
    data: bytes | None
    #: Where in the file the next line begins.
    end: int


def raw_lines(pieces: Iterable[bytes], offset: int = 0, number: int = 0) -> Iterator[RawLine]:
    """The lines of a file from `offset` on, where line `number` has just ended, however `pieces` cuts them."""
    held: list[bytes] = []
    size = 0  # of the line that has begun, whether or not it is held

    def line() -> RawLine | None:
        data = b"".join(held)
        if size <= MAX_LINE_BYTES:
            if number == 1:
                data = data.removeprefix(_BOM)
            if not data.strip():
                return None
        return RawLine(number, data if size <= MAX_LINE_BYTES else None, offset)

    for piece in pieces:
        begin = 0
        while (end := piece.find(b"\n", begin)) >= 0:
            size += end - begin
            if size <= MAX_LINE_BYTES:
                held.append(piece[begin:end])
            number, offset = number + 1, offset + size + 1
            if (whole := line()) is not None:
                yield whole
            held.clear()
            size, begin = 0, end + 1
        size += len(piece) - begin
        if size <= MAX_LINE_BYTES:
            held.append(piece[begin:])
        else:
            held.clear()
    if size:
        number, offset = number + 1, offset + size
        if (whole := line()) is not None:
            yield whole
