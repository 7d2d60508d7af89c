"""A submission, from wherever it is to its end, or to where somebody stops it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from client.async_client import AsyncClient
from client.batches import Batch
from client.bulk.display import Display
from client.bulk.follow import Follower
from client.bulk.hand_in import hand_in
from client.bulk.ledger import Ledger, Row
from client.bulk.retry import move, retry_failed
from client.bulk.state import Submission
from client.exit_codes import ExitCode
from client.jobs import Job
from client.scripts import OnRetry


@dataclass(slots=True)
class Outcome:
    """How a run ended."""

    interrupted: bool = False
    #: Lines with a result, those of them without pictures, and those with warnings.
    settled: int = 0
    failed: int = 0
    warned: int = 0
    pictures: int = 0
    #: What was handed in, where that is all that was wanted.
    batches: list[Batch] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)


def run(
    submission: Submission,
    connect: Callable[[OnRetry], AsyncClient],
    *,
    wait: bool,
    retry: bool,
    on_row: Callable[[Row], object],
) -> Outcome:
    """Hand in what is not, with `retry` also what has failed, and with `wait` follow it to the end.

    Raises ClientError; then, as after Ctrl-C, another run goes on where this one was.
    """
    return asyncio.run(_run(submission, connect, wait=wait, retry=retry, on_row=on_row))


async def _run(
    submission: Submission,
    connect: Callable[[OnRetry], AsyncClient],
    *,
    wait: bool,
    retry: bool,
    on_row: Callable[[Row], object],
) -> Outcome:
    outcome = Outcome()
    if retry:
        async with connect(lambda _: None) as farm:
            await retry_failed(farm, submission)
    move(submission)
    with (
        Ledger(submission.out or submission.folder) as ledger,
        Display(submission.lines, submission.pictures, len(ledger), ledger.failed) as display,
    ):

        def settled(one: Row) -> None:
            on_row(one)
            display.settled(failed=bool(one["error"]))

        stop = _Stop(display)
        async with connect(display.retrying) as farm:
            follower = Follower(
                farm,
                submission,
                ledger,
                stop.asked,
                on_batch=display.batch,
                on_row=settled,
                on_eta=display.eta,
            )
            if not await stop.cancels(hand_in(farm, submission, display.uploading)):
                outcome.interrupted = True
            elif wait:
                submission.finished = await follower.run()
                outcome.interrupted = not submission.finished
                if submission.finished:
                    ledger.sort(submission.folder)
                submission.save()
            else:
                outcome.jobs = await follower.send()
                outcome.batches = [await farm.get_batch(part.batch_id or "") for part in submission.parts]
                outcome.interrupted = stop.asked.is_set()
        outcome.settled, outcome.failed = len(ledger), ledger.failed
        outcome.warned, outcome.pictures = ledger.warned, ledger.pictures
    return outcome


class _Stop:
    """What Ctrl-C does: the first lets what is in hand be finished, the second leaves at once."""

    def __init__(self, display: Display) -> None:
        self.asked = asyncio.Event()
        self._display = display
        self._cancelled: asyncio.Task[None] | None = None
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, self._ask)

    async def cancels(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do what can be cut short anywhere; whether it came to its end."""
        self._cancelled = asyncio.create_task(work)
        try:
            await self._cancelled
        except asyncio.CancelledError:
            return False
        finally:
            self._cancelled = None
        return True

    def _ask(self) -> None:
        if self.asked.is_set():
            self._display.show_cursor()
            os._exit(ExitCode.INTERRUPTED)
        self.asked.set()
        self._display.say("stopping; Ctrl-C again to stop at once")
        if self._cancelled:
            self._cancelled.cancel()
