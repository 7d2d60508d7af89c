"""What both clients tell httpx, and what httpx tells them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from client.errors import ClientError, Unreachable
from client.whereabouts import key_of, url_of

#: Requests that one call makes at once.
AT_ONCE = 8
#: The farm answers at once, or holds a connection for as long as `Prefer: wait` allows: five minutes.
_TIMEOUT = httpx.Timeout(10.0, read=330.0, write=60.0, pool=None)
#: In a stream of events the farm is heard of every few seconds.
HEARTBEAT_TIMEOUT = httpx.Timeout(10.0, read=60.0).as_dict()


def options(base_url: str | None, api_key: str | None) -> dict[str, Any]:
    """Of an HTTP client that speaks to the farm. Raises ClientError where there is no key, or no address."""
    key = (api_key or key_of()).strip()
    if not (key.isascii() and key.isprintable()):
        raise ClientError("The API key has a character that no key has: it was not copied whole, or is something else.")
    address = (base_url or url_of()).rstrip("/").removesuffix("/v1")
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise ClientError(f"{address} is no address of a farm: {error}") from error
    return {"base_url": url, "headers": {"Authorization": f"Bearer {key}"}, "timeout": _TIMEOUT}


@contextmanager
def broken(http: httpx.Client | httpx.AsyncClient) -> Iterator[None]:
    """A connection that cannot be made or breaks in this block is Unreachable."""
    try:
        yield
    except httpx.RequestError as error:
        raise Unreachable(f"No farm answers at {http.base_url}: {error or type(error).__name__}") from error


@contextmanager
def opened(file: str | Path | BinaryIO | bytes) -> Iterator[BinaryIO]:
    """The file, open. Raises ClientError where it cannot be read."""
    if isinstance(file, bytes):
        yield io.BytesIO(file)
    elif isinstance(file, str | Path):
        try:
            content = Path(file).open("rb")  # noqa: SIM115 - closed below; an error of the block is none of opening
        except OSError as error:
            raise ClientError(f"{file} cannot be read: {error.strerror}") from error
        with content:
            yield content
    else:
        yield file


def name_of(file: object) -> str:
    """What the farm is to call the file."""
    return Path(file).name if isinstance(file, str | Path) else "lines.jsonl"
