"""Batches, as in the OpenAI API: many requests in one file; and what they made, as people want it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Response, request

from api.archives import archive
from api.auth import account
from api.batch_events import follow
from api.dialects.openai_errors import ERROR_SCHEMA
from api.event_stream import event_stream, hold_place
from api.http import begun, json_response
from api.idempotency import IDEMPOTENCY_KEY, Once
from api.schemas.batch import BatchBody, BatchesQuery, BatchEventsQuery, BatchPageSchema, BatchSchema, window_s
from api.schemas.file import list_of
from api.services import Services, services
from api.spec import Blueprint
from intake.batch_rows import manifest, rows_of
from shared.batches import Batch
from shared.errors import RendermillError
from shared.jobs import Priority

batches = Blueprint("batches", __name__, url_prefix="/v1/batches", description="Many requests in one file.")

_BINARY = {"type": "string", "format": "binary"}


@batches.route("", methods=["POST"])
@batches.body(BatchBody)
@batches.answers(200, "The batch was accepted.", BatchSchema)
@batches.fails_with(ERROR_SCHEMA)
@batches.describes(summary="Hand in a batch", parameters=[IDEMPOTENCY_KEY])
def create_batch(body: dict[str, Any]) -> Response:
    farm = services()
    once = Once.of_request(body, farm.settings)
    window = body["completion_window"]
    batch_id, replayed = farm.batches.create(
        account(),
        input_file=body["input_file_id"],
        endpoint=body["endpoint"],
        window=window,
        window_s=window_s(window),
        # Who hands in thousands at once can wait: whoever waits at a screen is not to feel it.
        priority=Priority(body.get("priority") or Priority.LOW),
        metadata=body.get("metadata"),
        key=once.key,
        fingerprint=once.fingerprint,
        remember_s=once.remember_s,
        anew=once.anew,
    )
    farm.waker.for_batches()
    headers = {"Idempotent-Replayed": "true"} if replayed else None
    return json_response(farm.batches.get(batch_id, account()).view(), 200, headers)


@batches.route("", methods=["GET"])
@batches.query(BatchesQuery)
@batches.answers(200, "A page of batches, newest first.", BatchPageSchema)
@batches.fails_with(ERROR_SCHEMA)
@batches.describes(summary="List batches")
def list_batches(query: dict[str, Any]) -> Response:
    found, has_more = services().batches.page(account(), limit=query["limit"], after=query.get("after"))
    return json_response(list_of([batch.view() for batch in found], has_more))


@batches.route("/<batch_id>", methods=["GET"])
@batches.answers(200, "The batch as it is now.", BatchSchema)
@batches.fails_with(ERROR_SCHEMA)
@batches.describes(summary="Look at a batch")
def get_batch(batch_id: str) -> Response:
    return json_response(services().batches.get(batch_id, account()).view())


@batches.route("/<batch_id>/cancel", methods=["POST"])
@batches.answers(200, "The batch; what is rendered already is in its output file.", BatchSchema)
@batches.fails_with(ERROR_SCHEMA)
@batches.describes(summary="Call a batch off")
def cancel_batch(batch_id: str) -> Response:
    farm = services()
    farm.batches.cancel(batch_id, account())
    farm.waker.for_batches()
    return json_response(farm.batches.get(batch_id, account()).view())


@batches.route("/<batch_id>/events", methods=["GET"])
@batches.query(BatchEventsQuery)
@batches.answers(
    200,
    "Events `batch.<status>` and `batch.progress`, each with the whole batch; with `jobs=true` also `job.<status>`, "
    "with the whole job, for each job that ends.",
    content_type="text/event-stream",
)
@batches.answers(204, "All events were seen: the client need not come back.")
@batches.fails_with(ERROR_SCHEMA)
@batches.describes(
    summary="Follow a batch",
    parameters=[{"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}],
)
def follow_batch(query: dict[str, Any], batch_id: str) -> Response:
    farm = services()
    batch = farm.batches.get(batch_id, account())
    messages = follow(farm, batch, request.headers.get("Last-Event-ID"), jobs=query["jobs"])
    if messages is None:
        return Response(status=204)
    hold_place()
    return event_stream(messages)


@batches.route("/<batch_id>/manifest", methods=["GET"])
@batches.answers(200, "A row for each picture, and for each line without.", _BINARY, "text/csv")
@batches.fails_with(ERROR_SCHEMA)
@batches.describes(summary="What became of each line, as CSV")
def get_manifest(batch_id: str) -> Response:
    farm = services()
    batch = farm.batches.get(batch_id, account())
    return _download(manifest_of(farm, batch), "text/csv", f"{batch.id}.csv")


@batches.route("/<batch_id>/archive", methods=["GET"])
@batches.answers(
    200, "The pictures that are finished, named by custom_id, and the manifest.", _BINARY, "application/zip"
)
@batches.fails_with(ERROR_SCHEMA)
@batches.describes(summary="All pictures, as a ZIP made while it is sent")
def get_archive(batch_id: str) -> Response:
    farm = services()
    batch = farm.batches.get(batch_id, account())
    return _download(archive(farm, manifest_of(farm, batch)), "application/zip", f"{batch.id}.zip")


def manifest_of(farm: Services, batch: Batch) -> Iterator[bytes]:
    """The manifest of a finished batch as it was written; that of another as it is now."""
    if batch.status.is_terminal and batch.total:
        return farm.storage.stream(batch.manifest_key)
    if batch.status.is_terminal:
        raise RendermillError("not_found", "This batch failed before a line of it was read; see its 'errors'.")
    file = farm.files.get(batch.input_file, batch.account)
    return manifest(rows_of(farm.storage, farm.records, farm.images, batch, file))


def _download(pieces: Iterator[bytes], content_type: str, name: str) -> Response:
    """An answer that takes long holds a place among those who wait."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if request.method == "HEAD":
        return Response(content_type=content_type, headers=headers)
    hold_place()
    try:
        response = Response(begun(pieces), content_type=content_type, headers=headers)
    except BaseException:
        services().waiters.release()
        raise
    response.call_on_close(services().waiters.release)
    return response
