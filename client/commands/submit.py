"""`rendermill submit` and `rendermill resume`: a file of requests becomes pictures, however often it is interrupted."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from client.async_client import AsyncClient
from client.batches import is_window
from client.bulk.ledger import Row
from client.bulk.prepare import prepared
from client.bulk.run import Outcome, run
from client.bulk.sources import name_of, setting
from client.bulk.state import Submission, alone, find
from client.commands.completing import model_name
from client.commands.panels import MAKE
from client.commands.printing import JsonOption, print_batch, print_job, print_json
from client.connection import DEFAULT_DATA_DIR, PATIENCE_S, DataDirOption, KeyOption, UrlOption, place_of, reported
from client.errors import ClientError, LineError
from client.exit_codes import ExitCode
from client.scripts import WINDOW, OnRetry
from client.terminal import fail, tell

app = typer.Typer()
T = TypeVar("T")


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@app.command(rich_help_panel=MAKE)
def submit(
    file: Annotated[str, typer.Argument(help="A .jsonl, .csv or .txt file, or '-' for standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until every line is finished.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save the pictures here as they finish; implies --wait.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model of the lines that name none, in the farm's own names.", autocompletion=model_name),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A field of the lines that lack it.")
    ] = None,
    priority: Annotated[
        Priority | None,
        typer.Option(help="Of the batches, 'low' if absent: it gives way to whoever waits at a screen."),
    ] = None,
    window: Annotated[
        str, typer.Option(metavar="TIME", help="What has not begun after this time expires: 12h, 7d, at most 14d.")
    ] = WINDOW,
    again: Annotated[
        bool, typer.Option("--again", help="Render anew what was submitted before, into another folder.")
    ] = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Submit a file of requests: tens of thousands of lines, one picture or more each.

    A line is the body of a job, such as {"prompt": "a lighthouse", "model": "flux-schnell"}, a line of an OpenAI batch
    file, a row of a CSV file whose header names fields of a job, or in a .txt file a prompt. They are rendered as
    batches.

    Ctrl-C stops waiting, not rendering. `rendermill resume DIR` goes on, and so does the same command: the same lines
    are the same batches, no picture is fetched twice. With --out, DIR/results.jsonl says what became of each line, and
    DIR/errors.jsonl which made no pictures and why.

    Example: `rendermill submit examples/prompts.jsonl --out pictures`
    """
    with reported():
        place = place_of(url, api_key, data_dir)
        try:
            fields = dict(setting(one) for one in set_ or [])
        except ValueError as error:
            fail(f"--set: {error}", ExitCode.USAGE)
        if not is_window(window):
            fail(f"--window: {window!r} is no number of hours or days up to 14d, such as 24h or 7d", ExitCode.USAGE)
        preparing = prepared(
            file,
            fields,
            model=model,
            out=out,
            salt=secrets.token_hex(4) if again else "",
            priority=None if priority is None else priority.value,
            window=window,
            url=url,
            data_dir=data_dir,
        )
        with ExitStack() as stack:
            try:
                submission = _entered(stack, preparing, file)
            except LineError as error:
                fail(f"{name_of(file)}: {error}. Nothing was submitted.", ExitCode.USAGE)
            _carry_on(submission, place, as_json, wait=wait or out is not None)


@app.command(rich_help_panel=MAKE)
def resume(
    place: Annotated[
        str | None, typer.Argument(metavar="DIR|ID", help="The folder of the pictures, or what 'submit' printed.")
    ] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Data directory of the farm, if it is another than before.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Hand in once more what made no pictures.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a submission that was interrupted, from where it stopped.

    With --retry-failed the lines of a finished one that made no pictures are handed in once more, into the same folder.
    Without an argument it is the one of this folder, else the newest without a folder that is not finished.

    Example: `rendermill resume pictures`
    """
    with reported():
        folder = find(place)
        with ExitStack() as stack:
            _entered(stack, alone(folder), folder)
            # Only now: whoever had it until a moment ago has written down how far it came.
            submission = Submission.load(folder)
            if submission is None:
                raise ClientError(f"{folder} was removed.")
            if place is None:
                tell(f"This is the submission {submission.name}, of {submission.source}.")
            farm = place_of(url or submission.url, api_key, data_dir or Path(submission.data_dir))
            _carry_on(submission, farm, as_json, wait=True, retry=retry_failed)


def _entered(stack: ExitStack, context: AbstractContextManager[T], what: object) -> T:
    """What the context gives. Files that cannot be used to begin with end the command."""
    try:
        return stack.enter_context(context)
    except OSError as error:
        fail(f"{error.filename or what} cannot be used: {error.strerror}", ExitCode.USAGE)


def _carry_on(
    submission: Submission, place: tuple[str, str], as_json: bool, *, wait: bool, retry: bool = False
) -> None:
    """Run it, say what came of it, and end with the exit code."""

    def connect(on_retry: OnRetry) -> AsyncClient:
        return AsyncClient(*place, patience_s=PATIENCE_S, on_retry=on_retry)

    on_row: Callable[[Row], Any] = _print_row if as_json else lambda _: None
    again = f"rendermill resume {shlex.quote(submission.name)}"
    try:
        outcome = run(submission, connect, wait=wait, retry=retry, on_row=on_row)
    except (ClientError, OSError) as error:
        if submission.begun:
            tell(f"What was submitted goes on; to go on here: {again}")
        # A pipe whose reader has enough is the affair of the command line as a whole.
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            where = error.filename or submission.out or submission.folder
            raise ClientError(f"{where} cannot be used: {error.strerror}") from error
        raise
    if outcome.interrupted:
        words = "What was submitted goes on" if submission.handed_in else "Not all of it was submitted"
        tell(f"Stopped. {words}; to go on here: {again}")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if wait:
        _sum_up(submission, outcome, as_json)
    else:
        for batch in outcome.batches:
            print_batch(batch, as_json)
        for job in outcome.jobs:
            print_job(job, as_json)
        _name_failed(submission, outcome)
        left = submission.lines - outcome.settled
        if left:
            tell(f"submitted {_count(left, 'line')}; to wait for them: {again}")
    if outcome.failed:
        raise typer.Exit(ExitCode.FAILED)


def _sum_up(submission: Submission, outcome: Outcome, as_json: bool) -> None:
    where = f", {_count(outcome.pictures, 'picture')} in {submission.out}" if submission.out else ""
    words = f"{outcome.settled - outcome.failed:,} of {_count(submission.lines, 'line')} succeeded{where}"
    _name_failed(submission, outcome)
    if outcome.warned:
        tell(f"{_count(outcome.warned, 'line')} came with warnings, which are in {submission.results}")
    if as_json:
        tell(words)
    else:
        typer.echo(words)
        tell(f"what became of each line is in {submission.results}")


def _name_failed(submission: Submission, outcome: Outcome) -> None:
    if outcome.failed:
        words = f"{_count(outcome.failed, 'line')} made no pictures; {submission.errors} says why"
        again = f", and 'rendermill resume {shlex.quote(submission.name)} --retry-failed' tries once more"
        tell(words + (again if submission.finished else ""))


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _print_row(row: Row) -> None:
    print_json([row])
