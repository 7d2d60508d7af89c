"""Batch files become jobs: line by line, in chunks, from wherever the batch's record says.

A chunk's refused lines are written to S3, its jobs are enqueued, and only then does the cursor move. A worker that
dies in between leaves a chunk that is done again: the ids of its jobs follow from their lines, so they are known
already, and the refused lines replace themselves.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError

from intake.batch_lines import LineRefused, checked, custom_id_of, lines_of, parsed
from intake.batch_requests import BatchRequests
from intake.jsonl import RawLine
from intake.means import Judging, Means
from shared.batches import MAX_LINES, Batch, Batches, BatchStatus, job_id, left_s, request_id
from shared.files import File
from shared.jobs import NewJob
from shared.scheduler import BatchClaim, Scheduler
from shared.storage import StorageError
from worker.refusals import entry, store_refusals

_log = logging.getLogger(__name__)

#: A chunk ends with whichever comes first: as many lines as one script call accepts in about 10 ms, or the time after
#: which its worker should be heard of.
_CHUNK_LINES = 500
_CHUNK_S = 10.0
#: Bytes of a custom_id's hash: of 50,000 none meet.
_DIGEST_BYTES = 8


class Stopped(Exception):
    """The process is told to go; another goes on at the cursor."""


@dataclass(slots=True)
class _Chunk:
    jobs: list[NewJob] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    last: RawLine | None = None


class Ingest:
    """Reads the files of batches."""

    def __init__(self, *, means: Means, batches: Batches, scheduler: Scheduler) -> None:
        self._means = means
        self._batches = batches
        self._scheduler = scheduler
        #: Set when the process is told to go: the chunk in hand is finished.
        self.stopping = False

    def count(self, claim: BatchClaim, file: File) -> int:
        """How many lines the file has that are not blank; counted no further than to know that there are too many.

        Raises TooManyLines for a file that is nearly all blank lines.
        """
        total = 0
        for _ in self._holding(claim, lines_of(self._means.storage, file.key, file.bytes)):
            total += 1
            if total > MAX_LINES:
                break
        return total

    def run(self, claim: BatchClaim, batch: Batch, file: File) -> None:
        """Make the rest of the file jobs; done again, it goes on where it was. Stops where the batch is cancelled.

        Raises BatchLost, Stopped, RendermillError where a limit stands against it, and whatever Redis and S3 raise.
        """
        seen = self._seen_before(claim, batch, file)
        requests = BatchRequests(
            self._means,
            account=batch.account,
            endpoint=batch.endpoint,
            priority=batch.priority,
            can_link=bool(self._means.settings.secret_key),
        )
        lines = lines_of(self._means.storage, file.key, file.bytes, batch.offset, batch.line)
        # While Redis accepts one chunk, the next is judged.
        with Judging(self._means), ThreadPoolExecutor(1, thread_name_prefix="ingest") as beside:
            accepted: Future[str] | None = None
            while True:
                chunk = self._judge(lines, batch, requests, seen)
                status = accepted.result() if accepted else None
                if chunk.last is None or status == BatchStatus.CANCELLING:
                    return
                if self.stopping:
                    raise Stopped
                accepted = beside.submit(self._accept, claim, batch, chunk)
                batch = batch.read_up_to(chunk.last.end, chunk.last.number, len(chunk.refusals))

    def _accept(self, claim: BatchClaim, batch: Batch, chunk: _Chunk) -> str:
        """Keep what came of a chunk, then move the cursor behind it; the batch's status."""
        assert chunk.last is not None, "a chunk has lines"
        if chunk.refusals:
            store_refusals(self._means.storage, batch, chunk.refusals)
        self._scheduler.enqueue(batch.account, chunk.jobs, claim)
        bad = batch.bad + len(chunk.refusals)
        status, _ = self._batches.hold(claim, offset=chunk.last.end, line=chunk.last.number, bad=bad)
        return status

    def _seen_before(self, claim: BatchClaim, batch: Batch, file: File) -> set[bytes]:
        """Hashes of the custom ids before the cursor."""
        seen: set[bytes] = set()
        for line in self._holding(claim, lines_of(self._means.storage, file.key, batch.offset)):
            try:
                custom_id = custom_id_of(parsed(line))
            except LineRefused:
                continue
            if custom_id is not None:
                seen.add(_digest(custom_id))
        return seen

    def _judge(self, lines: Iterator[RawLine], batch: Batch, requests: BatchRequests, seen: set[bytes]) -> _Chunk:
        """The next chunk; its `last` is None at the end of the file."""
        chunk = _Chunk()
        left, until = round(left_s(batch), 3), time.monotonic() + _CHUNK_S
        for line in lines:
            id_ = job_id(batch.id, line.number)
            custom_id = None
            try:
                found = parsed(line)
                custom_id = custom_id_of(found)
                _note(custom_id, seen)
                asked = checked(found, batch.endpoint)
                if left <= 0:
                    raise LineRefused("batch_expired", "The completion window was over before this line was reached.")
                chunk.jobs.append(_job(requests, asked.body, id_, left))
            except LineRefused as refused:
                words = (refused.code, refused.message, refused.param)
                chunk.refusals.append(entry(request_id(id_), custom_id, line.number, *words))
            chunk.last = line
            if len(chunk.jobs) + len(chunk.refusals) >= _CHUNK_LINES or time.monotonic() > until:
                break
        return chunk

    def _holding(self, claim: BatchClaim, lines: Iterator[RawLine]) -> Iterator[RawLine]:
        """The lines, while the claim is renewed."""
        renew_at = time.monotonic() + _CHUNK_S
        for line in lines:
            if time.monotonic() > renew_at:
                if self.stopping:
                    raise Stopped
                self._batches.hold(claim)
                renew_at = time.monotonic() + _CHUNK_S
            yield line


def _job(requests: BatchRequests, body: dict[str, Any], id_: str, left: float) -> NewJob:
    try:
        return requests.job(body, id_, left)
    except (LineRefused, StorageError, RedisError):
        raise
    except Exception as error:
        # A line that brings its judge down must not do so for ever, nor keep the others from being judged.
        _log.exception("a line could not be judged")
        raise LineRefused("internal", "This line is a fault of the server; its log has the details.") from error


def _note(custom_id: str | None, seen: set[bytes]) -> None:
    """Raise LineRefused where the id was seen before."""
    if custom_id is None:
        return
    digest = _digest(custom_id)
    if digest in seen:
        raise LineRefused("duplicate_custom_id", "Another line before has this custom_id.", "custom_id")
    seen.add(digest)


def _digest(custom_id: str) -> bytes:
    return hashlib.blake2b(custom_id.encode(), digest_size=_DIGEST_BYTES).digest()
