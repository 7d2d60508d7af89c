"""Start a farm, render examples/prompts.jsonl through the public API, show what came of it, stop the farm."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from client import Client, ClientError
from client.lines import Line, json_lines
from client.signals import stop_as_ctrl_c_does
from client.terminal import output
from farm.demo.pictures import contact_sheet
from farm.demo.receiver import Receiver
from farm.demo.render import Outcome, render_all
from farm.embedded import EmbeddedFarm
from farm.errors import FarmError

#: A first start builds checkpoints and imports torch from a cold disk.
READY_TIMEOUT_S = 300.0
#: Webhooks leave within a second of the job's end; the first retry comes after five.
WEBHOOK_TIMEOUT_S = 60.0
CONTACT_SHEET, WEBHOOK_LOG = "contact-sheet.jpg", "webhooks.jsonl"
_HOST = "127.0.0.1"


def main(
    prompts: Annotated[Path, typer.Option(help="The requests, one a line.")] = Path("examples/prompts.jsonl"),
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("out"),
    data_dir: Annotated[Path, typer.Option(help="Where the farm keeps its data.")] = Path(".rendermill-demo"),
) -> None:
    """Start a farm, render PROMPTS through the public API, save the pictures, stop the farm."""
    stop_as_ctrl_c_does()
    console = output()
    try:
        problems = _demo(console, prompts, out, data_dir)
    except (FarmError, ClientError, OSError) as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        problems = ["interrupted"]
    for problem in problems:
        console.print(f"demo: {problem}", style="red", markup=False, soft_wrap=True)
    sys.exit(1 if problems else 0)


def _demo(console: Console, prompts: Path, out: Path, data_dir: Path) -> list[str]:
    """What went wrong, in lines; nothing where all is well."""
    lines = list(json_lines(prompts.read_text(encoding="utf-8").split("\n")))
    _prepare(out)
    farm = EmbeddedFarm(data_dir, _HOST, 0, lambda line: console.print(line, markup=False, soft_wrap=True))
    started = time.monotonic()
    try:
        farm.start()
        farm.wait_ready(READY_TIMEOUT_S)
        console.print(f"the farm is ready at {farm.url} after {time.monotonic() - started:.1f} s", highlight=False)
        key = farm.data_dir.api_key_file.read_text(encoding="utf-8")
        with Receiver(out / WEBHOOK_LOG) as receiver, Client(farm.url, key) as api:
            receiver.trust(api.request("GET", "/v1/webhooks/secret").json()["secret"])
            outcomes = _render(console, api, lines, receiver.url, out)
            jobs = [o.job_id for o in outcomes if o.line.native and o.job_id]
            receiver.wait_for(jobs, WEBHOOK_TIMEOUT_S)
    finally:
        farm.stop()
    captioned = [(file, f"{o.line.number} {o.title} · {o.model}") for o in outcomes for file in o.files]
    if captioned:
        contact_sheet(captioned, out / CONTACT_SHEET)
    console.print(_summary(outcomes, receiver))
    console.print(
        f"{len(captioned)} pictures of {len(lines)} lines in {out}/, all on {out / CONTACT_SHEET}; "
        f"{sum(receiver.verified(job) for job in jobs)} verified webhooks in {out / WEBHOOK_LOG}; "
        f"{time.monotonic() - started:.0f} s in all",
        highlight=False,
        soft_wrap=True,
    )
    return _problems(outcomes, receiver)


def _prepare(out: Path) -> None:
    """An empty place for the pictures; of an earlier run, only what a demo makes is removed."""
    out.mkdir(parents=True, exist_ok=True)
    for pattern in ("[0-9][0-9]-*-[0-9].*", CONTACT_SHEET, WEBHOOK_LOG):
        for file in out.glob(pattern):
            file.unlink()


def _render(console: Console, api: Client, lines: Sequence[Line], webhook_url: str, out: Path) -> list[Outcome]:
    outcomes = []
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("rendering", total=len(lines))
        for outcome in render_all(api, lines, webhook_url, out):
            outcomes.append(outcome)
            progress.advance(task)
            result = outcome.error or f"{outcome.seconds:.1f} s"
            console.print(
                f"[{len(outcomes)}/{len(lines)}] line {outcome.line.number}, {outcome.title}: {result}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    return sorted(outcomes, key=lambda outcome: outcome.line.number)


def _summary(outcomes: Sequence[Outcome], receiver: Receiver) -> Table:
    table = Table("line", "dialect", "model", "seconds", "file", "webhook", "job")
    for outcome in outcomes:
        files = [file.name for file in outcome.files]
        more = f" +{len(files) - 1}" if len(files) > 1 else ""
        webhook = "–"
        if outcome.line.native:
            webhook = "verified" if outcome.job_id and receiver.verified(outcome.job_id) else "MISSING"
        table.add_row(
            str(outcome.line.number),
            outcome.dialect,
            outcome.model,
            f"{outcome.seconds:.1f}",
            files[0] + more if files else "MISSING",
            webhook,
            outcome.job_id or "",
        )
    return table


def _problems(outcomes: Sequence[Outcome], receiver: Receiver) -> list[str]:
    problems = [f"line {o.line.number}, {o.title}: {o.error}" for o in outcomes if o.error]
    problems += [
        f"line {o.line.number}, {o.title}: no webhook came within {WEBHOOK_TIMEOUT_S:g} s"
        for o in outcomes
        if o.line.native and o.job_id and not receiver.verified(o.job_id)
    ]
    if receiver.refused:
        problems.append(f"{receiver.refused} webhooks had a wrong signature")
    return problems


if __name__ == "__main__":
    typer.run(main)
