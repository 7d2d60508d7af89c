"""Finished jobs of a submission into pictures and results, each once, however often it is begun anew.

A picture that is under its name in its whole size is there, and is not fetched again; a line that has its result is
over. Where one is in a batch is only a short cut: whoever begins too early sees what is there already.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from client.answers import answer_of, parsed, understood
from client.async_client import AsyncClient
from client.batches import Batch
from client.bulk.ledger import Ledger, Row, row
from client.bulk.plan import Direct, direct_rows, index_rows
from client.bulk.state import Part, Submission
from client.errors import ApiError, ClientError, NotFound, NotUnderstood
from client.files import mend, write
from client.images import Image
from client.jobs import Job
from client.retry import passes
from client.wire import AT_ONCE
from shared.picture_names import numbered

#: Between two looks at a batch, in seconds, for each that is followed: short enough to look alive, and two cheap
#: requests. At most the second number.
LOOK_S = 1.0
_LAST_LOOK_S = 5.0
#: Between two questions when a batch will be done.
_ETA_S = 5.0
_UNAUTHENTICATED = 401
#: How the id of a job begins, and that of its entry in the output file, which goes on as the same.
_JOB, _REQUEST = "job_", "batch_req_"
#: Most looks in a second at jobs that belong to no batch.
_LOOKS_PER_S = 20.0
Wanted = dict[str, tuple[int, str]]


class Follower:
    """Follows one submission until `stop` is set; what is in hand then is finished."""

    def __init__(
        self,
        farm: AsyncClient,
        submission: Submission,
        ledger: Ledger,
        stop: asyncio.Event,
        *,
        on_batch: Callable[[int, Batch], object],
        on_row: Callable[[Row], object],
        on_eta: Callable[[int, float], object],
    ) -> None:
        self._farm, self._submission, self._ledger, self._stop = farm, submission, ledger, stop
        self._on_batch, self._on_row, self._on_eta = on_batch, on_row, on_eta
        self._places = asyncio.Semaphore(AT_ONCE)
        #: Jobs that are looked at one by one.
        self._followed = 0
        self._sent = _sent_before(submission)
        self._unfinished = submission.folder / "tmp"

    async def run(self) -> bool:
        """Follow it to its end; whether that was reached. Raises ClientError."""
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir()
        wanted: dict[int, Wanted] = {}
        for line, at, name, stem in index_rows(self._submission.folder):
            wanted.setdefault(at, {})[name] = (line, stem)
        for number, part in enumerate(self._submission.parts, start=1):
            self._mistrust(part, wanted.setdefault(number, {}))
        try:
            async with asyncio.TaskGroup() as tasks:
                for number, part in enumerate(self._submission.parts, start=1):
                    if not part.done:
                        tasks.create_task(self._part(number, part, wanted[number]))
                tasks.create_task(self._directly(wanted.get(0, {})))
        except ExceptionGroup as group:
            raise _first(group) from None
        return len(self._ledger) == self._submission.lines

    async def send(self) -> list[Job]:
        """Only send the lines that batches do not take; the jobs of those that were accepted."""
        jobs: list[Job] = []
        try:
            await self._directly({}, jobs)
        except ExceptionGroup as group:
            raise _first(group) from None
        return jobs

    # Batches

    def _mistrust(self, part: Part, wanted: Wanted) -> None:
        """Begin anew with a part of which rows are gone: the file was removed, or the machine lost its power."""
        settled = sum(line in self._ledger for line, _ in wanted.values())
        if settled < (len(wanted) if part.done else part.seen):
            part.seen, part.done = 0, False

    async def _part(self, number: int, part: Part, wanted: Wanted) -> None:
        batch_id = part.batch_id or ""
        eta_at = 0.0
        while not self._stop.is_set():
            # The batch first: what it knows of being finished includes the end of every job.
            batch = await self._farm.get_batch(batch_id)
            self._on_batch(number, batch)
            jobs, seen, more = await self._farm.finished_jobs(batch_id, seen=part.seen)
            await asyncio.gather(*(self._settle(job, job.custom_id, wanted) for job in jobs if job.custom_id in wanted))
            if self._stop.is_set():
                return
            if seen != part.seen:
                part.seen = seen
                self._submission.save()
            if more:
                continue
            if batch.finished:
                await self._settle_rest(batch, wanted)
                if self._stop.is_set():
                    return
                part.done = True
                self._submission.save()
                return
            if (now := asyncio.get_running_loop().time()) > eta_at:
                eta_at = now + _ETA_S
                await self._ask_eta(number, batch_id)
            await self._sleep(min(LOOK_S * len(self._submission.parts), _LAST_LOOK_S))

    async def _ask_eta(self, number: int, batch_id: str) -> None:
        """A batch is done when its last line is: what the farm predicts for that."""
        async for job in self._farm.jobs(batch=batch_id, limit=1):
            if job.eta_s is not None:
                self._on_eta(number, job.eta_s)

    async def _settle_rest(self, batch: Batch, wanted: Wanted) -> None:
        """Lines of a finished batch whose job was not listed, or that became none."""
        rest = [
            (place, name, number)
            for place, (name, (number, _)) in enumerate(wanted.items(), start=1)
            if number not in self._ledger
        ]
        if not rest:
            return
        try:
            failures = await self._farm.failures(batch)
        except NotFound:
            failures = batch.errors  # the file was kept for its time
        # By their places in the file: of a line that cannot be read the farm does not know the custom_id.
        by_place = {failure.line: failure for failure in failures}
        by_name = {failure.custom_id: failure for failure in failures}
        reasons = {
            number: by_place.get(place) or by_name.get(name) or next(iter(batch.errors), None)
            for place, name, number in rest
        }
        if not all(reasons.values()):
            await self._settle_unlisted(batch, wanted)
        if self._stop.is_set():
            return
        for _, name, number in rest:
            reason = reasons[number]
            error = {
                "code": reason.code if reason else "unknown",
                "message": reason.message if reason else f"The batch is {batch.status}; no more is known of this line.",
            }
            self._write(row(number, name, job=None, status="refused", files=[], error=error))

    async def _settle_unlisted(self, batch: Batch, wanted: Wanted) -> None:
        """Jobs from before an update of the farm do not tell whose line they are; its output file does."""
        with suppress(NotFound):
            output = await self._farm.file_content(batch.output_file_id) if batch.output_file_id else b""
            for text in output.splitlines():
                entry = parsed(text, "the output file")
                name = entry["custom_id"]
                if name not in wanted or wanted[name][0] in self._ledger or self._stop.is_set():
                    continue
                with suppress(NotFound):
                    await self._settle(await self._farm.get(entry["id"].replace(_REQUEST, _JOB, 1)), name, wanted)

    # Jobs

    async def _settle(self, job: Job, custom_id: str, wanted: Wanted) -> None:
        """Write down what became of a finished job, with its pictures saved."""
        number, stem = wanted[custom_id]
        if number in self._ledger:
            return
        async with self._places:
            if self._stop.is_set():
                return
            files, error = [], _error_of(job)
            if self._submission.out and not error:
                try:
                    names = numbered(stem, len(job.images))
                    for name, image in zip(names, job.images, strict=True):
                        files.append(await self._saved(image, self._submission.out / f"{name}.{image.format}"))
                except NotFound as gone:
                    error = {"code": gone.code, "message": str(gone)}
        self._write(
            row(
                number,
                custom_id,
                job=job.id,
                status=job.status,
                files=files,
                seed=job.seed,
                warnings=job.warnings,
                error=error,
            )
        )

    async def _saved(self, image: Image, path: Path) -> str:
        try:
            if not (path.exists() and path.stat().st_size == image.size):
                content = await self._farm.download(image)
                write(path, content, beside=self._unfinished)
        except OSError as error:
            raise ClientError(f"{path} cannot be written: {error.strerror}") from error
        return path.name

    def _write(self, one: Row) -> None:
        if one["line"] not in self._ledger:
            self._ledger.add(one)
            self._on_row(one)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    # Lines that batches do not take

    async def _directly(self, wanted: Wanted, jobs: list[Job] | None = None) -> None:
        """Send them, and follow them, unless their `jobs` are all that is wanted."""
        async with asyncio.TaskGroup() as tasks:
            for line in direct_rows(self._submission.folder):
                if line.number not in self._ledger:
                    tasks.create_task(self._one(line, wanted, jobs))

    async def _one(self, line: Direct, wanted: Wanted, jobs: list[Job] | None) -> None:
        async with self._places:
            if self._stop.is_set():
                return
            try:
                job = await self._sent_job(line)
            except ApiError as error:
                if passes(error) or error.status == _UNAUTHENTICATED:
                    raise
                reason = {"code": error.code, "message": str(error)}
                self._write(row(line.number, line.name, job=None, status="refused", files=[], error=reason))
                return
        if jobs is not None:
            jobs.append(job)
            return
        self._followed += 1
        while not job.finished and not self._stop.is_set():
            await self._sleep(max(LOOK_S, self._followed / _LOOKS_PER_S))
            job = await self._farm.get(job.id)
        self._followed -= 1
        if job.finished:
            await self._settle(job, line.name, wanted)

    async def _sent_job(self, line: Direct) -> Job:
        """The job of the line, which is sent unless it was."""
        if known := self._sent.get(line.number):
            return await self._farm.get(known)
        headers = {name.lower(): value for name, value in line.headers.items()}
        # The routes of other services wait for the picture unless they are asked not to.
        headers["prefer"] = "respond-async"
        said = json.dumps([self._submission.digest, self._submission.salt, line.number, self._submission.attempt])
        headers.setdefault("idempotency-key", f"submit-{hashlib.sha256(said.encode()).hexdigest()}")
        answer = await self._farm.request("POST", line.url, json=line.body, headers=headers)
        try:
            job = understood(Job.from_json, answer_of(answer))
        except NotUnderstood as error:
            raise ClientError(f"line {line.number}: {line.url} does not answer with a job") from error
        self._sent[line.number] = job.id
        with self._submission.sent_file.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps([line.number, job.id])}\n")
        return job


def _sent_before(submission: Submission) -> dict[int, str]:
    """The jobs of lines that were sent by themselves."""
    file = submission.sent_file
    mend(file)
    rows = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return dict(map(json.loads, rows))


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _error_of(job: Job) -> dict[str, str] | None:
    if job.succeeded:
        return None
    return {"code": job.error["code"] if job.error else job.status, "message": job.reason or ""}
