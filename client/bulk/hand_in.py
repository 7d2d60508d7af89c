"""The files of a submission into batches on the farm, each once, however often it is begun anew.

A file is known on the farm by its name, which is made of its content, and a batch by its Idempotency-Key.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, cast

from client.async_client import AsyncClient
from client.batches import Batch
from client.bulk.state import Part, Submission
from client.errors import ClientError, Invalid, NotFound

#: Files on the farm that are looked through for one's own.
_LOOKED_AT = 1000
#: Called with the words and size of an upload; what it returns is called with the bytes that are sent.
Uploading = Callable[[str, int], Callable[[int], object]]


async def hand_in(farm: AsyncClient, submission: Submission, uploading: Uploading) -> None:
    """Make batches of those parts that are none yet. Raises ClientError."""
    for number, part in enumerate(submission.parts, start=1):
        if part.batch_id is None:
            part.batch_id = (await _batch(farm, submission, number, uploading)).id
            submission.save()
        submission.part_file(number).unlink(missing_ok=True)


async def _batch(farm: AsyncClient, submission: Submission, number: int, uploading: Uploading) -> Batch:
    part = submission.parts[number - 1]
    known = part.file_id
    if known is None:
        part.file_id = await _find(farm, part) or await _upload(farm, submission, number, uploading)
        submission.save()
    try:
        return await _create(farm, submission, number)
    except NotFound:
        if known is None:
            raise
        # It was uploaded long ago, and is gone.
        part.file_id = await _upload(farm, submission, number, uploading)
        submission.save()
        return await _create(farm, submission, number)


def _name(part: Part) -> str:
    return f"submit-{part.digest[:32]}.jsonl"


async def _find(farm: AsyncClient, part: Part) -> str | None:
    async for file in farm.files(purpose="batch", limit=_LOOKED_AT):
        if file.filename == _name(part):
            return file.id
    return None


async def _upload(farm: AsyncClient, submission: Submission, number: int, uploading: Uploading) -> str:
    path = submission.part_file(number)
    words = "uploading" if len(submission.parts) == 1 else f"uploading {number} of {len(submission.parts)}"
    with path.open("rb") as content:
        told = _Told(content, uploading(words, path.stat().st_size))
        return (await farm.upload(cast(BinaryIO, told), name=_name(submission.parts[number - 1]))).id


async def _create(farm: AsyncClient, submission: Submission, number: int) -> Batch:
    part = submission.parts[number - 1]
    try:
        return await farm.create_batch(
            part.file_id or "",
            endpoint=part.endpoint,
            priority=submission.priority,
            window=submission.window,
            metadata={"submission": submission.id, "part": f"{number} of {len(submission.parts)}"},
            idempotency_key=f"submit-{part.digest}{submission.salt}{f'-{part.attempt}' if part.attempt else ''}",
        )
    except Invalid as error:
        if error.code != "idempotency_mismatch":
            raise
        raise ClientError(
            "These lines were submitted before, with another --priority or --window or in another file. Submit them as "
            "they were to get their pictures, or with --again to have them rendered anew."
        ) from error


class _Told(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, file: BinaryIO, tell: Callable[[int], object]) -> None:
        self._file, self._tell = file, tell

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._tell(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
