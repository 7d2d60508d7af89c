"""Files: what batches are made of and what they leave behind. The bytes are in S3, the records here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from shared.errors import RendermillError, idempotency_mismatch
from shared.redis_client import PREFIX, Script

#: Files looked up for one page before the next are.
_STEP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file. Times are Unix seconds."""

    id: str
    account: str
    filename: str
    #: `batch` for the input of batches, `batch_output` for what they made.
    purpose: str
    bytes: int
    created_at: float
    #: None where it is kept for ever.
    expires_at: float | None

    @property
    def key(self) -> str:
        """Its place in S3."""
        return file_key(self.id)

    def view(self) -> dict[str, Any]:
        """The File object of the OpenAI API."""
        shown = {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": int(self.created_at),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }
        return shown if self.expires_at is None else {**shown, "expires_at": int(self.expires_at)}


def file_key(file_id: str) -> str:
    return f"files/{file_id}"


class Files:
    """The records of files. Safe to share between threads."""

    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix
        self._add = Script(redis, "add_file", prefix, uses=["_idempotency"])
        self._delete = Script(redis, "delete_file", prefix)

    def add(
        self, file: File, *, key: str = "", fingerprint: str = "", remember_s: float = 0.0, anew: bool = False
    ) -> str:
        """Record a file whose bytes are stored, unless its account used the idempotency `key` before: the file's id.

        It is that of the first upload under the key, as long as that file exists; then this one's bytes are needed no
        more. With `anew` an earlier use of the key is forgotten instead. A second time changes nothing.

        Raises RendermillError `idempotency_mismatch` where the key was used with another fingerprint.
        """
        expires = "" if file.expires_at is None else repr(file.expires_at)
        once = (key, fingerprint, round(remember_s * 1000), "1" if anew else "")
        record = ("filename", file.filename, "purpose", file.purpose, "bytes", file.bytes)
        answer = self._add(file.id, file.account, repr(file.created_at), expires, *once, *record)
        match answer[0]:
            case "mismatch":
                raise idempotency_mismatch("file")
            case "replayed":
                return str(answer[1])
            case _:
                return file.id

    def read(self, file_ids: Sequence[str]) -> list[File]:
        """Those of the files that exist, in their order."""
        pipeline = self._redis.pipeline(transaction=False)
        for file_id in file_ids:
            pipeline.hgetall(f"{self._prefix}file:{file_id}")
        return [_file(id_, record) for id_, record in zip(file_ids, pipeline.execute(), strict=True) if record]

    def get(self, file_id: str, account: str) -> File:
        """The file. Raises RendermillError `not_found`, also for another account's."""
        for file in self.read([file_id]):
            if file.account == account:
                return file
        raise RendermillError("not_found", f"There is no file {file_id}.")

    def page(
        self, account: str, *, limit: int, after: str | None, purpose: str | None, newest_first: bool = True
    ) -> tuple[list[File], bool]:
        """Up to `limit` files after the file `after`; and whether there are more.

        Raises RendermillError `bad_request` where `after` is not one of them.
        """
        index = f"{self._prefix}files:{account}"
        start = 0
        if after is not None:
            rank = self._redis.zrevrank(index, after) if newest_first else self._redis.zrank(index, after)
            if rank is None:
                raise RendermillError("bad_request", "'after' must be the id of one of your files.")
            start = cast(int, rank) + 1
        found: list[File] = []
        while len(found) <= limit:
            ids = cast(list[str], self._redis.zrange(index, start, start + _STEP - 1, desc=newest_first))
            if not ids:
                break
            found += [file for file in self.read(ids) if purpose in (None, file.purpose)]
            start += _STEP
        return found[:limit], len(found) > limit

    def delete(self, file_id: str) -> bool:
        """Forget the file, whose object the caller removes; False while an unfinished batch needs it."""
        return bool(self._delete(file_id) == "deleted")

    def expired(self, limit: int) -> list[str]:
        """Ids of files past their time, the longest expired first."""
        return cast(
            list[str], self._redis.zrangebyscore(self._prefix + "expiring_files", "-inf", time.time(), 0, limit)
        )

    def postpone(self, file_id: str, by_s: float) -> None:
        """Keep an expired file a while longer: a batch needs it."""
        self._redis.zadd(self._prefix + "expiring_files", {file_id: time.time() + by_s}, xx=True)


def _file(id_: str, record: dict[str, str]) -> File:
    return File(
        id=id_,
        account=record["account"],
        filename=record["filename"],
        purpose=record["purpose"],
        bytes=int(record["bytes"]),
        created_at=float(record["created"]),
        expires_at=float(record["expires"]) if "expires" in record else None,
    )
