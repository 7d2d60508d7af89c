"""Values that people and programs read differently: `str()` is for programs, `__rich__` for people."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from rich.text import Text

from client.terminal import plain

_STYLES = {
    "succeeded": "green",
    "completed": "green",
    "delivered": "green",
    "running": "cyan",
    "in_progress": "cyan",
    "finalizing": "cyan",
    "failed": "red",
    "expired": "yellow",
    "canceled": "yellow",
    "cancelled": "yellow",
    "cancelling": "yellow",
}
_BAR_WIDTH = 16
#: Seconds of each unit, largest first, and what a person calls it.
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@runtime_checkable
class Cell(Protocol):
    """Such a value."""

    def __rich__(self) -> Text: ...


@dataclass(frozen=True, slots=True)
class Status:
    """A status, in the colour of how it went."""

    name: str

    def __str__(self) -> str:
        return self.name

    def __rich__(self) -> Text:
        return Text(plain(self.name), style=_STYLES.get(self.name, ""))


@dataclass(frozen=True, slots=True)
class Bar:
    """How much is done, from 0 to 1."""

    share: float

    def __str__(self) -> str:
        # 100 % is for what is done to the last one.
        return f"{int(self.share * 100)}%"

    def __rich__(self) -> Text:
        full = int(self.share * _BAR_WIDTH)
        return Text.assemble(("━" * full, "green"), ("━" * (_BAR_WIDTH - full), "bright_black"), f" {self!s:>4}")


@dataclass(frozen=True, slots=True)
class Share:
    """How much is taken of what there may be; of any number, where `most` is None."""

    count: int
    most: int | None

    def __str__(self) -> str:
        return str(self.count) if self.most is None else f"{self.count} of {self.most}"

    def __rich__(self) -> Text:
        return Text(str(self), style="yellow" if self.most is not None and self.count >= self.most else "")


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is written out already; it stands at the right of its column."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __rich__(self) -> Text:
        return Text(self.text, justify="right")


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time as the API tells it, in Unix seconds or in words of ISO 8601; or none."""

    told: float | str | None

    @property
    def _time(self) -> datetime | None:
        if self.told is None:
            return None
        if isinstance(self.told, str):
            return datetime.fromisoformat(self.told)
        return datetime.fromtimestamp(self.told, UTC)

    def __str__(self) -> str:
        moment = self._time
        return "" if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def __rich__(self) -> Text:
        moment = self._time
        if moment is None:
            return Text("")
        seconds = time.time() - moment.timestamp()
        return Text(f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}")


def duration(seconds: float) -> str:
    """About this long, in the largest unit that it fills: 3 min."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "0 s"


def size(count: float) -> str:
    """Bytes for a person: 3.2 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def credits_(amount: float | None) -> str:
    """Credits with the decimal places that they need."""
    return "" if amount is None else f"{amount:,.6f}".rstrip("0").rstrip(".")
