"""What a shell completes beyond options: names and ids, asked from the farm.

Whatever goes wrong completes to nothing: a prompt that is being typed is no place for errors.
"""

from __future__ import annotations

from typing import Any

import httpx
import typer

from client.errors import ClientError
from client.jobs import TERMINAL
from client.terminal import plain
from client.whereabouts import DEFAULT_DATA_DIR, key_of, url_of
from client.wire import options

#: So many of the newest are offered.
_OFFERED = 50
#: Who presses Tab does not wait longer than this, in seconds.
_PATIENCE_S = 2.0
_UNFINISHED = ("queued", "running")
_STATUSES = (*_UNFINISHED, *sorted(TERMINAL))
_UNFINISHED_BATCHES = ("validating", "in_progress", "finalizing")

#: Values, each with what a shell may show beside it.
Offers = list[tuple[str, str]]


def statuses(incomplete: str) -> list[str]:
    """Statuses of jobs, of which several stand with commas between them."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{status}" for status in _STATUSES if status.startswith(last)]


def model_name(ctx: typer.Context, incomplete: str) -> Offers:
    """Models by their ids and aliases."""
    found = []
    for model in _ask(ctx, "/v1/models"):
        found += [(name, model.get("name", "")) for name in (model["id"], *model.get("aliases", []))]
    return _fitting(ctx, found, incomplete)


def job_id(ctx: typer.Context, incomplete: str) -> Offers:
    """Jobs, newest first, by what they paint."""
    return _fitting(ctx, _jobs(ctx), incomplete)


def batch_id(ctx: typer.Context, incomplete: str) -> Offers:
    """Batches, newest first."""
    return _fitting(ctx, _batches(ctx), incomplete)


def file_id(ctx: typer.Context, incomplete: str) -> Offers:
    """Files, newest first, by their names."""
    found = _ask(ctx, "/v1/files", limit=_OFFERED)
    return _fitting(ctx, [(file["id"], file["filename"]) for file in found], incomplete)


def endpoint_id(ctx: typer.Context, incomplete: str) -> Offers:
    """Webhook endpoints by their addresses."""
    return _fitting(ctx, [(each["id"], each["url"]) for each in _ask(ctx, "/v1/webhooks")], incomplete)


def job_or_batch_id(ctx: typer.Context, incomplete: str) -> Offers:
    """Jobs and batches, of which those that are asked for by the beginning of an id alone."""
    found: Offers = []
    if _may_be("job_", incomplete):
        found += _jobs(ctx)
    if _may_be("batch_", incomplete):
        found += _batches(ctx)
    return _fitting(ctx, found, incomplete)


def unfinished_id(ctx: typer.Context, incomplete: str) -> Offers:
    """Jobs and batches that can be cancelled."""
    found: Offers = []
    if _may_be("job_", incomplete):
        found += _jobs(ctx, *_UNFINISHED)
    if _may_be("batch_", incomplete):
        found += _batches(ctx, *_UNFINISHED_BATCHES)
    return _fitting(ctx, found, incomplete)


def unfinished_batch_id(ctx: typer.Context, incomplete: str) -> Offers:
    """Batches that can be cancelled."""
    return _fitting(ctx, _batches(ctx, *_UNFINISHED_BATCHES), incomplete)


def _jobs(ctx: typer.Context, *status: str) -> Offers:
    found = _ask(ctx, "/v1/jobs", limit=_OFFERED, **({"status": ",".join(status)} if status else {}))
    return [(job["id"], f"{job['status']}: {job.get('input', {}).get('prompt', '')}") for job in found]


def _batches(ctx: typer.Context, *status: str) -> Offers:
    found = _ask(ctx, "/v1/batches", limit=_OFFERED)
    return [(batch["id"], batch["status"]) for batch in found if not status or batch["status"] in status]


def _may_be(prefix: str, incomplete: str) -> bool:
    return prefix.startswith(incomplete) or incomplete.startswith(prefix)


def _fitting(ctx: typer.Context, offers: Offers, incomplete: str) -> Offers:
    """Those that begin as what was typed, without those that stand in the line already."""
    named = ctx.params.get("ids") or ()
    return [
        (value, plain(words)[:60]) for value, words in offers if value.startswith(incomplete) and value not in named
    ]


def _ask(ctx: typer.Context, path: str, **params: Any) -> list[dict[str, Any]]:
    data_dir = ctx.params.get("data_dir") or DEFAULT_DATA_DIR
    try:
        place = ctx.params.get("url") or url_of(data_dir), ctx.params.get("api_key") or key_of(data_dir)
        with httpx.Client(**{**options(*place), "timeout": _PATIENCE_S}) as http:
            found: list[dict[str, Any]] = http.get(path, params=params).raise_for_status().json()["data"]
    except (httpx.HTTPError, ClientError, ValueError, LookupError, TypeError):
        return []
    return found
