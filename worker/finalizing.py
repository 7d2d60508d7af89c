"""What a batch leaves behind: the output and error files, and the manifest of its pictures, in the order of its lines.

All of it is made from the input file and the jobs' records, under ids that follow from the batch: done again after a
crash, it becomes the same.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from intake.batch_requests import NATIVE
from intake.batch_rows import BatchRow, manifest, rows_of
from intake.means import Means
from intake.openai_bodies import in_snake_case
from shared.batch_claims import BatchClaim, BatchClaims
from shared.batches import Batch, BatchStatus, request_id
from shared.files import File, Files, file_key
from shared.ids import derived_id
from shared.images import Image
from shared.jobs import Job, JobStatus
from shared.links import ImageLinks
from shared.openai_answers import images_answer, wants_links
from shared.records import Records
from shared.storage import ObjectMissing, Storage
from shared.views import Views
from worker.refusals import entry, refusals_of

_CONTENT_TYPE = "application/jsonl"
#: Jobs whose pictures are looked up in one round trip.
_STEP = 200
#: Errors that a batch which failed as a whole shows; the error file has all.
_ERRORS_SHOWN = 20
_CANCELLED = ("batch_cancelled", "The batch was cancelled before this line was rendered.")
_EXPIRED = ("batch_expired", "The completion window was over before this line was begun.")


class Finalizer:
    """Writes the files of batches whose jobs are all finished, and ends them."""

    def __init__(
        self,
        *,
        means: Means,
        claims: BatchClaims,
        files: Files,
        records: Records,
        views: Views,
        links: ImageLinks,
    ) -> None:
        self._means = means
        self._storage: Storage = means.storage
        self._claims = claims
        self._files = files
        self._records = records
        self._views = views
        self._links = links

    def run(self, claim: BatchClaim, batch: Batch, file: File) -> None:
        """End the batch. Raises BatchLost, and whatever Redis and S3 raise; done again, it comes to the same."""
        self._claims.hold(claim, status=BatchStatus.FINALIZING)

        def rows() -> Iterator[BatchRow]:
            return self._claims.watched(claim, rows_of(self._storage, self._records, self._means.images, batch, file))

        fields: dict[str, str] = {}
        succeeded = batch.ended.get(JobStatus.SUCCEEDED, 0)
        if succeeded:
            fields["output_file"] = self._write(batch, "output", self._outputs(batch, rows()))
        if succeeded < batch.total:
            fields["error_file"] = self._write(batch, "errors", self._errors(batch, rows()))
        self._storage.put_stream(batch.manifest_key, manifest(rows()), "text/csv")
        status = _last_status(batch)
        if status is BatchStatus.FAILED:
            shown = [_shown(refusal) for refusal in islice(refusals_of(self._storage, batch), _ERRORS_SHOWN)]
            fields["errors"] = json.dumps(shown)
        self._claims.finish(claim, status, **fields)

    def fail(self, claim: BatchClaim, code: str, message: str) -> None:
        """End a batch whose file cannot be used at all."""
        errors = [{"code": code, "message": message, "param": None, "line": None}]
        self._claims.finish(claim, BatchStatus.FAILED, errors=json.dumps(errors))

    def _write(self, batch: Batch, what: str, entries: Iterator[dict[str, Any]]) -> str:
        """Store a file of these entries; its id."""
        id_ = derived_id("file", f"{batch.id}:{what}")
        # In ASCII: in what is left of Unicode there are characters that many a reader takes for the end of a line.
        lines = (json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in entries)
        size = self._storage.put_stream(file_key(id_), lines, _CONTENT_TYPE)
        now, lifetime_s = time.time(), self._means.settings.file_retention_s
        self._files.add(
            File(
                id=id_,
                account=batch.account,
                filename=f"{batch.id}_{what}.jsonl",
                purpose="batch_output",
                bytes=size,
                created_at=now,
                expires_at=now + lifetime_s if lifetime_s else None,
            )
        )
        return id_

    def _outputs(self, batch: Batch, rows: Iterator[BatchRow]) -> Iterator[dict[str, Any]]:
        succeeded = ((row, row.job) for row in rows if row.job and row.job.status is JobStatus.SUCCEEDED)
        for row, job, body in self._bodies(batch, succeeded):
            response = {"status_code": 200, "request_id": job.id, "body": body}
            yield {"id": request_id(job.id), "custom_id": row.custom_id, "response": response, "error": None}

    def _bodies(
        self, batch: Batch, rows: Iterator[tuple[BatchRow, Job]]
    ) -> Iterator[tuple[BatchRow, Job, dict[str, Any]]]:
        """What the batch's route would have answered to each line."""
        if batch.endpoint != NATIVE:
            # One at a time: it may have its pictures in it.
            for row, job in rows:
                yield row, job, self._images_answer(row, job)
            return
        while step := list(islice(rows, _STEP)):
            views = self._views.jobs([job for _, job in step])
            yield from ((row, job, view) for (row, job), view in zip(step, views, strict=True))

    def _images_answer(self, row: BatchRow, job: Job) -> dict[str, Any]:
        body = in_snake_case(row.body)
        show: Callable[[Image], dict[str, str]] = self._link if wants_links(body) else self._base64
        shown: dict[str, dict[str, str]] = {}
        for image in row.images:
            with suppress(ObjectMissing):  # its owner has just removed it
                shown[image.id] = show(image)
        return images_answer(
            job, [image for image in row.images if image.id in shown], body, lambda image: shown[image.id]
        )

    def _link(self, image: Image) -> dict[str, str]:
        return {"url": self._links.lasting_url(image)}

    def _base64(self, image: Image) -> dict[str, str]:
        return {"b64_json": base64.b64encode(self._storage.get(image.key)).decode()}

    def _errors(self, batch: Batch, rows: Iterator[BatchRow]) -> Iterator[dict[str, Any]]:
        refusals = refusals_of(self._storage, batch)
        refusal = next(refusals, None)
        for row in rows:
            while refusal is not None and refusal["error"]["line"] < row.number:
                refusal = next(refusals, None)
            if row.job is None and refusal is not None and refusal["error"]["line"] == row.number:
                yield refusal
            elif row.job is None or row.job.status is not JobStatus.SUCCEEDED:
                code, message = _reason(batch, row)
                yield entry(request_id(row.job_id), row.custom_id, row.number, code, message, None)


def _last_status(batch: Batch) -> BatchStatus:
    if batch.status is BatchStatus.CANCELLING:
        return BatchStatus.CANCELLED
    if batch.ended.get(JobStatus.EXPIRED, 0) or (batch.expires_at < time.time() and not batch.ended):
        return BatchStatus.EXPIRED
    return BatchStatus.COMPLETED if batch.ended else BatchStatus.FAILED


def _reason(batch: Batch, row: BatchRow) -> tuple[str, str]:
    job = row.job
    if job is None:
        if row.number > batch.line:
            return _CANCELLED
        return "gone", "Its job is past its retention and was removed."
    if job.status is JobStatus.EXPIRED:
        return _EXPIRED
    if job.status is JobStatus.CANCELED:
        return _CANCELLED if batch.status is BatchStatus.CANCELLING else ("cancelled", "Its job was cancelled.")
    error = job.error or {"code": "failed", "message": f"The job is {job.status}."}
    return error["code"], error["message"]


def _shown(refusal: dict[str, Any]) -> dict[str, Any]:
    return {name: refusal["error"][name] for name in ("code", "message", "param", "line")}
