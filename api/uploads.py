"""Files that are too large for memory: a multipart form read as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from shared.errors import RendermillError, RequestInvalid

_CHUNK_BYTES = 256 * 1024
#: The longest text of a field beside the file, and the most of them.
_MAX_TEXT = 10_000
_MAX_PARTS = 20
#: What a form may have beside its file: boundaries, headers, short fields.
_FORM_OVERHEAD = 2**20


@dataclass(slots=True)
class Form:
    """The fields of a form that has been read. `filename` is None where there was no file."""

    texts: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


def read_upload(request: Request, store: Callable[[Iterator[bytes]], object], max_bytes: int) -> Form:
    """The fields of the request's form; the bytes of its one `file` go to `store` as they come.

    Raises RendermillError: `unsupported_media_type`, `body_too_large` beyond `max_bytes`, `bad_request` for a broken
    form, `invalid` for wrong parts.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not boundary:
        raise RendermillError("unsupported_media_type", "Send a form, with 'Content-Type: multipart/form-data'.")
    request.max_content_length = max_bytes + _FORM_OVERHEAD
    form = Form()
    try:
        events = _events(request, boundary.encode("latin-1", "replace"))
        for event in events:
            if isinstance(event, Field | File) and not event.name:
                raise RendermillError("bad_request", "A part of the form has no name.")
            if isinstance(event, Field):
                form.texts[event.name] = _text(event.name, _pieces(events))
            elif isinstance(event, File):
                if event.name != "file" or form.filename is not None:
                    raise RequestInvalid({event.name: ["a form has one file, named 'file'"]})
                form.filename = event.filename
                store(_limited(_pieces(events), max_bytes))
    except RequestEntityTooLarge as error:
        raise _too_large(max_bytes) from error
    except ValueError as error:
        raise RendermillError("bad_request", f"The form is broken: {error}") from error
    return form


def _events(request: Request, boundary: bytes) -> Iterator[Event]:
    decoder = MultipartDecoder(boundary, max_form_memory_size=4 * _CHUNK_BYTES, max_parts=_MAX_PARTS)
    while True:
        with _form_errors():
            event = decoder.next_event()
        if isinstance(event, NeedData):
            data = request.stream.read(_CHUNK_BYTES) or None
            with _form_errors():
                decoder.receive_data(data)
        elif isinstance(event, Epilogue):
            return
        else:
            yield event


@contextmanager
def _form_errors() -> Iterator[None]:
    """What the decoder refuses as too large is not the file."""
    try:
        yield
    except RequestEntityTooLarge as error:
        words = f"The form has too much beside its file: it may have {_MAX_PARTS} parts, with short heads."
        raise RendermillError("bad_request", words) from error


def _pieces(events: Iterator[Event]) -> Iterator[bytes]:
    """The bytes of the part that begins."""
    for event in events:
        assert isinstance(event, Data), "a part's data follows its head"
        yield event.data
        if not event.more_data:
            return


def _text(name: str, pieces: Iterator[bytes]) -> str:
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > _MAX_TEXT:
            raise RequestInvalid({name: [f"must be at most {_MAX_TEXT} bytes"]})
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RequestInvalid({name: ["must be UTF-8"]}) from error


def _limited(pieces: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        yield piece


def _too_large(max_bytes: int) -> RendermillError:
    return RendermillError(
        "body_too_large", f"A file has at most {max_bytes} bytes. Split it, and make a batch of each part."
    )
