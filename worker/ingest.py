"""Batch files become jobs: line by line, in chunks, from wherever the batch's record says.

A chunk's refused lines are written to S3, its jobs are enqueued, and only then does the cursor move, and the record
tell of the refused lines. A worker that dies in between leaves a chunk that is done again: the ids of its jobs follow
from their lines, so they are known already.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from intake.batch_lines import LineRefused, custom_id_of, lines_of, parsed
from intake.batch_requests import BatchRequests
from intake.jsonl import RawLine
from intake.means import Judging, Means
from shared.batch_claims import BatchClaim, BatchClaims
from shared.batches import MAX_LINES, Batch, BatchStatus
from shared.files import File
from shared.scheduler import Scheduler
from worker.judging import PICTURES_AT_ONCE, Chunk, Judge, hashed_id
from worker.refusals import store_refusals


class Stopped(Exception):
    """The process is told to go; another goes on at the cursor."""


class Ingest:
    """Reads the files of batches."""

    def __init__(self, *, means: Means, claims: BatchClaims, scheduler: Scheduler) -> None:
        self._means = means
        self._claims = claims
        self._scheduler = scheduler
        #: Set when the process is told to go: what is being accepted is accepted, and nothing more.
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
        with (
            Judging(self._means),
            ThreadPoolExecutor(1, thread_name_prefix="ingest") as beside,
            ThreadPoolExecutor(PICTURES_AT_ONCE, thread_name_prefix="pictures") as pictures,
        ):
            judge = Judge(batch, requests, seen, pictures)
            accepted: Future[str] | None = None
            while True:
                chunk = judge.chunk(lines)
                status = accepted.result() if accepted else None
                if chunk.last is None or status == BatchStatus.CANCELLING:
                    return
                if self.stopping:
                    raise Stopped
                accepted = beside.submit(self._accept, claim, batch, chunk)
                batch = batch.read_up_to(chunk.last.end, chunk.last.number, len(chunk.refusals))

    def _accept(self, claim: BatchClaim, batch: Batch, chunk: Chunk) -> str:
        """Keep what came of a chunk, then move the cursor behind it; the batch's status."""
        assert chunk.last is not None, "a chunk has lines"
        refusals = store_refusals(self._means.storage, batch, claim, chunk.refusals)
        self._scheduler.enqueue(batch.account, chunk.jobs, claim)
        bad = batch.bad + len(chunk.refusals)
        status, _ = self._claims.hold(
            claim, offset=chunk.last.end, line=chunk.last.number, bad=bad, held_up="", **refusals
        )
        return status

    def _seen_before(self, claim: BatchClaim, batch: Batch, file: File) -> set[int]:
        """Hashes of the custom ids before the cursor."""
        seen: set[int] = set()
        for line in self._holding(claim, lines_of(self._means.storage, file.key, batch.offset)):
            try:
                custom_id = custom_id_of(parsed(line))
            except LineRefused:
                continue
            if custom_id is not None:
                seen.add(hashed_id(custom_id))
        return seen

    def _holding(self, claim: BatchClaim, lines: Iterator[RawLine]) -> Iterator[RawLine]:
        """The lines, while the batch is the worker's and the process is to stay."""
        for line in self._claims.watched(claim, lines):
            if self.stopping:
                raise Stopped
            yield line
