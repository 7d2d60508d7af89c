"""How far a submission is: a bar on a terminal, a line now and then elsewhere. All of it on standard error."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from client.batches import Batch
from client.errors import ClientError

#: Characters of a terminal with room for a long bar, and of the bars.
_WIDE, _BAR, _SHORT_BAR = 110, 30, 8
#: Of the rate, in seconds.
_WINDOW_S = 60.0
#: Between two lines where there is no terminal, in seconds.
_LINE_S = 30.0
_CREDITS = "insufficient_credits"
#: What the farm predicts counts for this long, in seconds; then the measured rate does.
_ETA_HOLDS_S = 15.0


class Display:
    """Shows one submission of so many lines and pictures; of the lines, so many have results, and have failed."""

    def __init__(self, lines: int, pictures: int, settled: int, failed: int) -> None:
        self._lines, self._pictures_a_line = lines, pictures / lines
        self._console = Console(stderr=True)
        bar = BarColumn(_BAR if self._console.width >= _WIDE else _SHORT_BAR)
        columns = (TextColumn("{task.description}"), bar, TextColumn("{task.fields[words]}"))
        self._progress = Progress(
            *columns,
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._batches: dict[int, Batch] = {}
        self._settled, self._failed = settled, failed
        #: When each batch is done, by the clock, and until when that counts.
        self._etas: dict[int, tuple[float, float]] = {}
        self._seen: deque[tuple[float, int]] = deque()
        self._said = ("", 0.0)
        #: Whether calls go unanswered, and are tried again.
        self._away = False
        #: Batches of which it was said that they wait for credits.
        self._poor: set[int] = set()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show_cursor(self) -> None:
        """For who leaves at once."""
        self._console.show_cursor()

    def say(self, words: str) -> None:
        """A line for a person."""
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)

    def uploading(self, words: str, size: int) -> Callable[[int], None]:
        """An upload begins; what is returned is to be called with the bytes that are sent."""
        sent = 0

        def advance(count: int) -> None:
            nonlocal sent
            # Sent again after a failure, it is read again.
            sent = min(size, sent + count)
            self._show(words, sent, size, f"{decimal(sent)} of {decimal(size)}")

        advance(0)
        return advance

    def batch(self, number: int, batch: Batch) -> None:
        """A batch was looked at."""
        self._batches[number] = batch
        if batch.held_up and batch.held_up["code"] == _CREDITS:
            # Limits of other kinds give way when jobs are done; this one only when somebody pays.
            if number not in self._poor:
                self.say(f"{batch.id} waits for credits: {batch.held_up['message']} With more of them it goes on.")
            self._poor.add(number)
        else:
            self._poor.discard(number)
        self._refresh()

    def settled(self, *, failed: bool) -> None:
        """A line has its result."""
        self._settled, self._failed = self._settled + 1, self._failed + failed
        self._refresh()

    def eta(self, number: int, seconds: float) -> None:
        """The farm predicts the end of a batch."""
        now = time.monotonic()
        self._etas[number] = (now + seconds, now + _ETA_HOLDS_S)

    def retrying(self, error: ClientError | None) -> None:
        """The farm is away or busy, and asked again; or, without an error, it is back."""
        self._away = error is not None
        if self._away or self._batches:
            self._refresh()

    def _refresh(self) -> None:
        # What is here is done; what the farm has done is not all here.
        failed = max(self._failed, sum(batch.failed for batch in self._batches.values()))
        done = max(self._settled, sum(batch.completed + batch.failed for batch in self._batches.values()))
        waiting = bool(self._batches) and all(batch.status == "validating" for batch in self._batches.values())
        # The farm is done before the last picture is here.
        words = "validating" if waiting else "rendering" if done < self._lines else "saving"
        if self._away:
            self._show("waiting for the farm", done, self._lines, f"{done:,} of {self._lines:,} done, trying again")
            return
        rate = self._rate(done)
        parts = [f"{done:,} of {self._lines:,} done"]
        if failed:
            parts.append(f"{failed:,} failed")
        if self._settled < done:
            parts.append(f"{self._settled:,} here")
        if rate and not self._poor:
            parts.append(f"{rate * self._pictures_a_line:.1f} images/s")
        left = None if self._poor else self._left_s(done, rate)
        if left is not None and done < self._lines:
            parts.append(f"{_duration(left)} left")
        self._show(words, done, self._lines, ", ".join(parts))

    def _rate(self, done: int) -> float:
        """Lines a second."""
        now = time.monotonic()
        self._seen.append((now, done))
        while now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        (since, before) = self._seen[0]
        return (done - before) / (now - since) if now - since > 1.0 else 0.0

    def _left_s(self, done: int, rate: float) -> float | None:
        now = time.monotonic()
        # What is predicted may be wrong: an end that has passed was.
        if ends := [end for end, holds in self._etas.values() if now < min(end, holds)]:
            return max(ends) - now
        return (self._lines - done) / rate if rate else None

    def _show(self, stage: str, done: int, total: int, words: str) -> None:
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._progress.add_task(stage, words="")
            self._progress.update(self._task, description=stage, completed=done, total=total, words=words)
            return
        before, at = self._said
        if stage != before or time.monotonic() - at > _LINE_S:
            self._said = (stage, time.monotonic())
            self.say(f"{stage}: {words}")


def _duration(seconds: float) -> str:
    """A time for a person: 45 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
