"""What a farm offers, and to whom: models and accounts as the farm describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeVar

from client.notebook import table

_Row = TypeVar("_Row")


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model: its parameters with limits and defaults; `price` is in credits for one step over a megapixel."""

    id: str
    name: str
    family: str
    modes: Sequence[str]
    #: Other names, each with the modes in which it stands for this model.
    aliases: Mapping[str, Sequence[str]]
    parameters: Mapping[str, Mapping[str, Any]]
    price: float
    live_workers: int
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return _known(cls, data, raw=data)

    def _repr_html_(self) -> str:
        rows = ((name, limits.get("default"), limits) for name, limits in self.parameters.items())
        return table([("model", self.id), ("makes", ", ".join(self.modes))]) + table(
            rows, ("parameter", "default", "limits")
        )


@dataclass(frozen=True, kw_only=True)
class UsageOfDay:
    """The jobs of one model that ended on one day (UTC), counted by how."""

    day: str
    model: str
    succeeded: int
    failed: int
    canceled: int
    expired: int
    images: int
    credits: float


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None where there is no limit."""

    weight: float
    #: `requests` at once, and again as many in each `period_s`.
    rate: Mapping[str, int] | None
    max_queued: int | None
    max_running: int | None


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whose key asks. `balance`, `reserved` and `charged` are credits; a balance of None need not pay."""

    id: str
    balance: float | None
    reserved: float
    charged: float
    limits: Limits
    #: Of its jobs.
    queued: int
    running: int
    requests_left: int | None
    #: Newest first.
    usage: list[UsageOfDay]
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        used = data["used"]
        return _known(
            cls,
            data,
            limits=_known(Limits, data["limits"]),
            usage=[_known(UsageOfDay, row) for row in data["usage"]],
            queued=used["queued"],
            running=used["running"],
            requests_left=used["requests_left"],
            raw=data,
        )

    def _repr_html_(self) -> str:
        names = [f.name for f in fields(UsageOfDay)]
        rows = [[getattr(row, name) for name in names] for row in self.usage]
        balance = "need not pay" if self.balance is None else self.balance
        head = [("account", self.id), ("balance", balance), ("queued", self.queued), ("running", self.running)]
        return table(head) + table(rows, names)


def _known(kind: type[_Row], data: Mapping[str, Any], **more: object) -> _Row:
    """The object of those members that its class knows, and of `more`."""
    names = [f.name for f in fields(kind) if f.name not in more]  # type: ignore[arg-type]
    return kind(**{name: data[name] for name in names}, **more)
