"""The lines of a batch judged, a chunk at a time: each is a job or has a reason why it is none.

Lines that bring pictures wait for other people's servers, so a few of them are judged side by side; the outcomes stay
in the order of the lines.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from intake.batch_lines import LineRefused, body_of, custom_id_of, parsed
from intake.batch_requests import BatchRequests
from intake.jsonl import RawLine
from shared.batches import Batch, job_id, left_s, request_id
from shared.jobs import NewJob
from shared.storage import StorageError
from worker.refusals import entry

_log = logging.getLogger(__name__)

#: A chunk ends with whichever comes first: as many lines as one script call accepts in a few milliseconds, or the time
#: after which its worker should be heard of.
_CHUNK_LINES = 500
_CHUNK_S = 10.0
#: Lines with pictures that are judged at the same time: enough to hide most of the wait, few enough for the memory that
#: the largest pictures take.
PICTURES_AT_ONCE = 4


@dataclass(slots=True)
class Chunk:
    jobs: list[NewJob] = field(default_factory=list)
    #: Entries for the error file.
    refusals: list[dict[str, Any]] = field(default_factory=list)
    #: None where there were no more lines.
    last: RawLine | None = None


class _Known(NamedTuple):
    """What a line is known by."""

    number: int
    job_id: str
    custom_id: str | None

    def refused(self, why: LineRefused) -> dict[str, Any]:
        """Its entry for the error file."""
        return entry(request_id(self.job_id), self.custom_id, self.number, why.code, why.message, why.param)


#: A job, or an entry for the error file.
_Verdict = NewJob | dict[str, Any]


class Judge:
    """Judges the lines of one batch. Use it within `Judging`, and on one thread."""

    def __init__(self, batch: Batch, requests: BatchRequests, seen: set[int], pictures: ThreadPoolExecutor) -> None:
        """`seen` are the hashes of the custom ids of lines before; lines with pictures are judged on `pictures`."""
        self._batch = batch
        self._requests = requests
        self._seen = seen
        self._pictures = pictures

    def chunk(self, lines: Iterator[RawLine]) -> Chunk:
        """What becomes of the next lines. Raises StorageError and RedisError."""
        left, until = round(left_s(self._batch), 3), time.monotonic() + _CHUNK_S
        chunk = Chunk()
        # Nothing that is kept until the end of the chunk may refer to its line, which may be megabytes long.
        verdicts: list[_Verdict | Future[_Verdict]] = []
        begun: deque[Future[_Verdict]] = deque()
        for line in lines:
            verdict = self._judge(line, left)
            verdicts.append(verdict)
            chunk.last = line
            if isinstance(verdict, Future):
                begun.append(verdict)
                if len(begun) == PICTURES_AT_ONCE:
                    wait([begun.popleft()])
            if len(verdicts) == _CHUNK_LINES or time.monotonic() > until:
                break
        for verdict in verdicts:
            known = verdict.result() if isinstance(verdict, Future) else verdict
            if isinstance(known, NewJob):
                chunk.jobs.append(known)
            else:
                chunk.refusals.append(known)
        return chunk

    def _judge(self, line: RawLine, left: float) -> _Verdict | Future[_Verdict]:
        id_ = job_id(self._batch.id, line.number)
        custom_id = None
        try:
            found = parsed(line)
            custom_id = custom_id_of(found)
            self._note(custom_id)
            body = body_of(found, custom_id, self._batch.endpoint)
            if left <= 0:
                raise LineRefused("batch_expired", "The completion window was over before this line was reached.")
        except LineRefused as refused:
            return _Known(line.number, id_, custom_id).refused(refused)
        known = _Known(line.number, id_, custom_id)
        if not self._requests.brings_pictures(body):
            return _verdict(self._requests.job, body, known, left)
        judge = self._requests.judged_in_full
        return self._pictures.submit(copy_context().run, _verdict, judge, body, known, left)

    def _note(self, custom_id: str | None) -> None:
        """Raise LineRefused where the id was seen before."""
        if custom_id is None:
            return
        hashed = hashed_id(custom_id)
        if hashed in self._seen:
            raise LineRefused("duplicate_custom_id", "Another line before has this custom_id.", "custom_id")
        self._seen.add(hashed)


def hashed_id(custom_id: str) -> int:
    """In place of up to 512 characters: 64 bits, keyed by the process, of which among 50,000 no two are the same."""
    return hash(custom_id)


def _verdict(
    judge: Callable[[dict[str, Any], str, float, str | None], NewJob], body: dict[str, Any], line: _Known, left: float
) -> _Verdict:
    try:
        return judge(body, line.job_id, left, line.custom_id)
    except LineRefused as refused:
        return line.refused(refused)
    except (StorageError, RedisError):
        raise
    except Exception:
        # A line that brings its judge down must not do so for ever, nor keep the others from being judged.
        _log.exception("a line could not be judged")
        return line.refused(LineRefused("internal", "This line is a fault of the server; its log has the details."))
