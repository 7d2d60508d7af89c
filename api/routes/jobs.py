"""Jobs: hand one in, look at it, call it off, follow it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from flask import Response, request

from api.auth import account
from api.event_stream import HEARTBEAT, STREAM_S, event_stream, hold_place, message
from api.http import json_response, tagged_json
from api.idempotency import IDEMPOTENCY_KEY
from api.schemas.job import EstimateSchema, JobPageSchema, JobSchema, JobsQuery, NewJobBody
from api.services import Services, services
from api.spec import Blueprint, refuse_query
from api.submission import estimate, submit
from api.waiting import preference
from shared.answers import Position
from shared.batches import job_id as id_of_line
from shared.errors import RendermillError
from shared.events import JobEvent
from shared.jobs import Job, JobStatus
from shared.records import cursor_number

jobs = Blueprint("jobs", __name__, url_prefix="/v1/jobs", description="Render jobs.")


_PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string"},
    "description": (
        "`wait=N` (1 to 300 seconds) answers 201 with the finished job, or 202 when the time is up. As RFC 7240 says, "
        "what cannot be understood is passed over; more than 300 is 300."
    ),
}


@jobs.route("", methods=["POST"])
@jobs.body(NewJobBody)
@jobs.answers(200, "What the job would cost, where `dry_run` is true.", EstimateSchema)
@jobs.answers(201, "The finished job, where the client waited for it.", JobSchema)
@jobs.answers(202, "The job was accepted.", JobSchema)
@jobs.refuses(400, 401, 402, 413, 415, 422, 429, 503)
@jobs.describes(summary="Hand in a job", parameters=[_PREFER, IDEMPOTENCY_KEY])
def create_job(body: dict[str, Any]) -> Response:
    refuse_query()
    if body.pop("dry_run", None):
        return json_response(estimate(body))
    farm = services()
    preferred = preference()
    submitted = submit(body)
    job, position, status, applied = submitted.job, submitted.position, 202, {}
    with farm.waiters.place() as held:
        # Where too many wait already, the answer is that of a wait whose time is up.
        if preferred.wait_s is not None and held:
            applied = preferred.applied()
            if farm.events.wait_until_finished(job.id, preferred.wait_s):
                status = 201
            job, position = farm.records.get(job.id, account()), None
        elif preferred.respond_async:
            applied = {"Preference-Applied": "respond-async"}
    return job_response(job, status, {**submitted.headers, **applied}, position)


def job_response(job: Job, status: int, headers: dict[str, str], position: Position | None = None) -> Response:
    """The job, and where it is; its position in the queue is asked for where it is not given."""
    view = services().views.job(job, position)
    return json_response(view, status, {"Location": view["urls"]["self"], **headers})


@jobs.route("", methods=["GET"])
@jobs.query(JobsQuery)
@jobs.answers(200, "A page of jobs, newest first.", JobPageSchema)
@jobs.refuses(401, 404, 422)
@jobs.describes(summary="List jobs")
def list_jobs(query: dict[str, Any]) -> Response:
    if query.get("order"):
        return _finished_page(query)
    farm = services()
    statuses = query.get("status") or list(JobStatus)
    wanted: dict[str, Any] = {"statuses": statuses, "limit": query["limit"], "after": query.get("after")}
    if batch_id := query.get("batch"):
        batch = farm.batches.get(batch_id, account())
        page = farm.records.page_of(lambda line: id_of_line(batch.id, line), batch.line, **wanted)
    else:
        page = farm.records.page(account(), **wanted)
    return _page(page.jobs, page.after, has_more=page.after is not None)


def _finished_page(query: dict[str, Any]) -> Response:
    """Jobs of a batch in the order in which they ended; its cursor is how many were seen."""
    farm = services()
    batch = farm.batches.get(query["batch"], account())
    seen = cursor_number(query.get("after", "0"))
    ids, has_more = farm.batches.finished_jobs(batch.id, limit=query["limit"], after=seen)
    kept = [job for job in farm.records.read(ids) if job is not None]
    return _page(kept, str(seen + len(ids)), has_more=has_more)


def _page(found: list[Job], after: str | None, *, has_more: bool) -> Response:
    farm = services()
    following = None
    if has_more:
        kept = [(name, text) for name, text in request.args.items(multi=True) if name != "after"]
        following = f"{farm.settings.public_url.rstrip('/')}/v1/jobs?{urlencode([*kept, ('after', after or '')])}"
    return json_response(
        {
            "object": "list",
            "data": farm.views.jobs(found),
            "has_more": has_more,
            "after": after,
            "links": {"next": following},
        }
    )


@jobs.route("/<job_id>", methods=["GET"])
@jobs.answers(200, "The job as it is now.", JobSchema)
@jobs.answers(304, "It is as it was when its `ETag` was given.")
@jobs.refuses(401, 404, 410)
@jobs.describes(summary="Look at a job")
def get_job(job_id: str) -> Response:
    farm = services()
    return tagged_json(farm.views.job(farm.records.get(job_id, account())))


@jobs.route("/<job_id>/cancel", methods=["POST"])
@jobs.answers(200, "The job; a running one ends at its next denoising step, a finished one stays.", JobSchema)
@jobs.refuses(401, 404, 410)
@jobs.describes(summary="Call a job off")
def cancel_job(job_id: str) -> Response:
    farm = services()
    # Tells what is past its retention from what never was.
    farm.records.get(job_id, account())
    farm.waker.after_job(farm.scheduler.cancel(job_id, account()))
    return json_response(farm.views.job(farm.records.get(job_id, account())))


@jobs.route("/<job_id>/events", methods=["GET"])
@jobs.answers(
    200, "Events `job.<status>` and `job.progress`, each with the whole job.", content_type="text/event-stream"
)
@jobs.answers(204, "All events were seen: the client need not come back.")
@jobs.refuses(401, 404, 410, 503)
@jobs.describes(
    summary="Follow a job",
    parameters=[{"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}],
)
def follow_job(job_id: str) -> Response:
    farm = services()
    events = farm.events.since(job_id, "0")
    # Read second, it is as new as the last of them: what it does not show yet is told after it.
    job = farm.records.get(job_id, account())
    last_id = request.headers.get("Last-Event-ID")
    seen = next((event for event in events if event.id == last_id), None)
    if seen is not None and seen.status.is_terminal:
        return Response(status=204)
    hold_place()
    return event_stream(_messages(farm, job, events, seen))


def _messages(farm: Services, job: Job, events: list[JobEvent], seen: JobEvent | None) -> Iterator[str]:
    """The events after `seen`; or, where it is None, the job as it is and what follows."""
    status, last_id = (seen.status, seen.id) if seen else (job.status, events[-1].id if events else "0")
    if seen is None:
        yield message(farm.views.job(job), event=f"job.{job.status}", id_=last_id)
        if job.status.is_terminal:
            return
    for event in farm.events.follow(job.id, last_id, STREAM_S):
        if event is None:
            yield HEARTBEAT
            continue
        try:
            job = farm.records.get(job.id)
        except RendermillError:
            return
        name = f"job.{event.status}" if event.status is not status else "job.progress"
        status = event.status
        yield message(farm.views.job_at(job, event), event=name, id_=event.id)
