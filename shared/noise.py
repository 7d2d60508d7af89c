"""Noise schedulers: how a picture is freed of its noise, step by step. Image tools call them samplers as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class NoiseSchedulerName(StrEnum):
    """The names that image tools use. What each means to a model is its family's affair."""

    #: Of FLUX and its like, the one along straight paths.
    EULER = "euler"
    #: With fresh noise at every step: more steps give another picture, not a finer one.
    EULER_ANCESTRAL = "euler_a"
    #: Of second order, with the step sizes of Karras et al.
    DPMPP_2M_KARRAS = "dpmpp_2m_karras"
    UNIPC = "unipc"
    #: For models and adapters distilled to latent consistency; fresh noise at every step.
    LCM = "lcm"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseScheduler:
    """Which schedulers a model runs with."""

    #: The model's own; None for a model that removes no noise.
    name: NoiseSchedulerName | None = None
    #: Where the model was trained for one; it goes for every scheduler.
    timestep_spacing: str | None = None
    #: What a request may name instead.
    alternatives: tuple[NoiseSchedulerName, ...] = ()

    @property
    def names(self) -> tuple[NoiseSchedulerName, ...]:
        """What a request may name, the model's own first."""
        own = () if self.name is None else (self.name,)
        return (*own, *self.alternatives)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """The `[model.scheduler]` table. Raises ValueError or TypeError for a wrong one."""
        named = {"name": _named(table["name"]), "alternatives": tuple(map(_named, table.get("alternatives", ())))}
        return cls(**{**table, **named})


#: Of a model that removes no noise.
NO_SCHEDULER = NoiseScheduler()


def _named(name: str) -> NoiseSchedulerName:
    if name not in set(NoiseSchedulerName):
        raise ValueError(f"there is no scheduler {name!r}; there are {', '.join(NoiseSchedulerName)}")
    return NoiseSchedulerName(name)
