"""`rendermill show`: everything that is known of a job, a batch, a picture or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer

from client.answers import answer_of
from client.client import Client
from client.commands.cells import Bar, Moment, Share, Status, credits_, duration, size
from client.commands.completing import job_or_batch_id
from client.commands.many import known_kind
from client.commands.panels import FOLLOW
from client.commands.printing import JsonOption, print_facts, print_json
from client.connection import with_farm
from client.kinds import BATCH, FILE, IMAGE, JOB, Kind

app = typer.Typer()

Facts = Iterable[tuple[str, object]]
_MOMENTS = ("created_at", "started_at", "finished_at", "in_progress_at", "finalizing_at", "completed_at", "failed_at")
_ENDS = ("expired_at", "cancelling_at", "cancelled_at", "expires_at")


@app.command(rich_help_panel=FOLLOW)
@with_farm
def show(
    farm: Client,
    id_: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of a job, a batch, an image or a file.", autocompletion=job_or_batch_id),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show one thing: how far a job or batch is, what it made, why it failed; or what a picture or file is.

    Example: `rendermill show job_9f3…`
    """
    print_thing(farm, id_, known_kind(id_, *_FACTS), as_json)


def print_thing(farm: Client, id_: str, kind: Kind, as_json: bool) -> None:
    """All that is known of a thing."""
    raw = answer_of(farm.request("GET", kind.url(id_)))
    if as_json:
        print_json([raw])
    else:
        print_facts(_FACTS[kind](raw))


def _job(raw: Mapping[str, Any]) -> Facts:
    yield "job", raw["id"]
    yield "status", Status(raw["status"])
    if error := raw.get("error"):
        yield "error", f"{error.get('message')} ({error.get('code')})"
    if raw["status"] == "running":
        yield "progress", Bar(raw.get("progress") or 0.0)
        yield "stage", raw.get("stage")
    yield "jobs before it", raw.get("queue_position")
    if (eta := raw.get("eta_s")) is not None:
        yield "done in about", duration(eta)
    yield "batch", raw.get("batch_id")
    yield "custom id", raw.get("custom_id")
    yield "model", raw["model"]
    for name, value in (raw.get("input") or {}).items():
        if name != "model":
            yield name, value
    for name in ("name", "priority", "metadata", "webhook_url"):
        yield name, raw.get(name)
    yield "price", credits_(raw.get("price") or None)
    yield from _moments(raw)
    yield (
        "took",
        ", ".join(
            f"{name.removesuffix('_s')} {seconds:.2f} s"
            for name, seconds in (raw.get("timings") or {}).items()
            if seconds is not None
        ),
    )
    for warning in raw.get("warnings") or []:
        yield "warning", warning
    for image in raw.get("images") or []:
        made = f"{image.get('width')}×{image.get('height')} {image.get('format')}, seed {image.get('seed')}"
        yield "image", f"{image['id']}  {made}"


def _batch(raw: Mapping[str, Any]) -> Facts:
    counts = raw["request_counts"]
    done = counts["completed"] + counts["failed"]
    yield "batch", raw["id"]
    yield "status", Status(raw["status"])
    yield "progress", Bar(done / counts["total"]) if counts["total"] else None
    yield "completed", Share(counts["completed"], None)
    yield "failed", Share(counts["failed"], None)
    yield "lines", Share(counts["total"], None)
    if held_up := raw.get("held_up"):
        yield "held up", f"{held_up['message']} ({held_up['code']})"
    for error in (raw.get("errors") or {}).get("data", []):
        where = f"line {error['line']}: " if error.get("line") else ""
        yield "error", f"{where}{error['message']} ({error['code']})"
    for name in ("endpoint", "priority", "metadata", "input_file_id", "output_file_id", "error_file_id"):
        yield name.removesuffix("_id").replace("_", " "), raw.get(name)
    yield from _moments(raw)


def _image(raw: Mapping[str, Any]) -> Facts:
    yield "image", raw["id"]
    yield "size", f"{raw['width']}×{raw['height']} {raw['format']}, {size(raw['size'])}"
    for name in ("name", "model", "seed", "url"):
        yield name, raw.get(name)
    yield "job", raw.get("job_id")
    yield from _moments(raw)


def _file(raw: Mapping[str, Any]) -> Facts:
    yield "file", raw["id"]
    yield "name", raw["filename"]
    yield "size", size(raw["bytes"])
    yield "purpose", raw["purpose"]
    yield from _moments(raw)


def _moments(raw: Mapping[str, Any]) -> Facts:
    for name in (*_MOMENTS, *_ENDS):
        if raw.get(name) is not None:
            yield name.replace("_", " "), Moment(raw[name])


_FACTS: dict[Kind, Callable[[Mapping[str, Any]], Facts]] = {JOB: _job, BATCH: _batch, IMAGE: _image, FILE: _file}
