"""A line of a batch file: what it must be before its body is looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from intake.jsonl import MAX_LINE_BYTES, RawLine, raw_lines
from shared.storage import Storage

#: Read from S3 at a time.
_PIECE_BYTES = 2**20
#: Lines of a file, blank ones included: to look at each takes time.
_MOST_NEWLINES = 1_000_000
MAX_CUSTOM_ID = 512
#: Far more than any body needs, and far less than Python's own limit, which depends on who calls: a line is judged
#: the same wherever it is read again.
MAX_DEPTH = 100
_FIELDS = {"custom_id", "method", "url", "body"}


class LineRefused(Exception):
    """A line that becomes no job: the code and words of its entry in the error file."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


class TooManyLines(Exception):
    """A file of more lines than anybody writes, blank ones among them."""


def lines_of(storage: Storage, key: str, size: int, offset: int = 0, number: int = 0) -> Iterator[RawLine]:
    """The lines of a file in S3 that are not blank, from `offset` on. Each piece is a request of its own.

    Raises TooManyLines, and StorageError.
    """

    def pieces() -> Iterator[bytes]:
        newlines = 0
        for at in range(offset, size, _PIECE_BYTES):
            piece = storage.range(key, at, min(_PIECE_BYTES, size - at))
            newlines += piece.count(b"\n")
            if newlines > _MOST_NEWLINES:
                raise TooManyLines(key)
            yield piece

    return raw_lines(pieces(), offset, number)


def _refuse_constant(constant: str) -> NoReturn:
    raise _no_json(f"{constant} is no number")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def parsed(line: RawLine) -> dict[str, Any]:
    """The object of a line. Raises LineRefused."""
    data = line.data
    if data is None:
        raise LineRefused(
            "line_too_long",
            f"The line has more than {MAX_LINE_BYTES} bytes. One line is one request; upload a large picture.",
        )
    try:
        found = _decode(data.decode())
    except UnicodeDecodeError as error:
        raise LineRefused("invalid_utf8", f"The line is not UTF-8: {error.reason} at byte {error.start}.") from error
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        hint = " It has the character NUL: save the file as UTF-8." if b"\0" in data else ""
        raise _no_json(f"{error.msg} at character {error.pos + 1}", hint or _hint(data)) from error
    except ValueError as error:
        raise _no_json("a number has too many digits") from error
    if not isinstance(found, dict):
        raise LineRefused("invalid_json_line", f"The line must be a JSON object.{_hint(data)}")
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _is_deep(found):
        raise _too_deep()
    return found


def _no_json(why: str, hint: str = "") -> LineRefused:
    return LineRefused("invalid_json_line", f"The line is not JSON: {why}.{hint}")


def _too_deep() -> LineRefused:
    return LineRefused("invalid_json_line", f"Lists and objects are nested more than {MAX_DEPTH} deep.")


def _hint(data: bytes) -> str:
    return " Write one object a line, not a list of them." if data.lstrip().startswith(b"[") else ""


def _is_deep(found: Any) -> bool:
    """Whether lists and objects are nested beyond `MAX_DEPTH`."""
    layer = [found]
    for _ in range(MAX_DEPTH):
        inner = (one.values() if isinstance(one, dict) else one for one in layer)
        layer = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not layer:
            return False
    return True


def custom_id_of(found: dict[str, Any]) -> str | None:
    """The line's `custom_id`, where it has one that can be used."""
    custom_id = found.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_CUSTOM_ID:
        return None
    return custom_id if (custom_id.isascii() and "\0" not in custom_id) or _is_text(custom_id) else None


def _is_text(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def body_of(found: dict[str, Any], custom_id: str | None, endpoint: str) -> dict[str, Any]:
    """The body of a line of a batch for `endpoint`. Raises LineRefused."""
    if custom_id is None:
        message = (
            f"custom_id must be a string of 1 to {MAX_CUSTOM_ID} characters, without NUL or half a surrogate pair."
        )
        raise LineRefused("invalid_custom_id", message, "custom_id")
    if found.get("method") != "POST":
        raise LineRefused("invalid_method", "method must be 'POST'.", "method")
    if found.get("url") != endpoint:
        raise LineRefused("invalid_url", f"url must be {endpoint!r}, the endpoint of the batch.", "url")
    body = found.get("body")
    if not isinstance(body, dict):
        raise LineRefused("invalid_body", "body must be an object.", "body")
    if len(found) > len(_FIELDS):
        unknown = ", ".join(sorted(found.keys() - _FIELDS))
        raise LineRefused("unknown_field", f"A line has custom_id, method, url and body; not {unknown}.", unknown)
    return body
