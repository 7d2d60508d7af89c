"""A resolved request and its body as a job about to be accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.catalog import Catalog
from shared.jobs import WEBHOOK_EVENTS, NewJob, Priority
from shared.requests import RenderRequest


def new_job(
    catalog: Catalog,
    job_id: str,
    account: str,
    body: Mapping[str, Any],
    render: RenderRequest,
    warnings: list[str],
    default_priority: Priority = Priority.NORMAL,
) -> NewJob:
    """The job of `body`, which has the fields of `JobBody`, checked, and was resolved to `render`."""
    events = body.get("webhook_events")
    return NewJob(
        id=job_id,
        account=account,
        request=render,
        cost=render.cost(catalog.models[render.model]),
        price=render.price(catalog.models[render.model]),
        priority=Priority(body.get("priority") or default_priority),
        name=body.get("name"),
        webhook_url=body.get("webhook_url"),
        webhook_events=tuple(WEBHOOK_EVENTS.values() if events is None else events),
        metadata=body.get("metadata") or {},
        warnings=tuple(warnings),
        deadline_s=body.get("deadline_s"),
    )
