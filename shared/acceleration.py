"""What makes a model of the catalog quicker than its plain networks, and what each choice excludes.

All of it is off unless the model's entry asks for it, for each changes its pictures a little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

#: How often FLUX is evaluated in full, unless the entry says otherwise: of 28 steps, 11.
_INTERVAL = 3
#: How much the first block's output may change, relative to its size, unless the entry says otherwise.
_THRESHOLD = 0.08


class Compile(StrEnum):
    """What of a model is compiled to kernels of its own; nothing, unless its entry says so."""

    OFF = "off"
    #: The blocks that its denoiser repeats: soon done, and most of the gain for transformers.
    REGIONAL = "regional"
    #: The whole denoiser and the decoder of pictures: minutes for each new shape.
    FULL = "full"
    #: As `full`, recorded as CUDA graphs and replayed: nothing is launched from Python any more.
    REDUCE_OVERHEAD = "reduce-overhead"
    #: As `reduce-overhead`, each kernel chosen among several by trying: many minutes for each new shape.
    MAX_AUTOTUNE = "max-autotune"

    @property
    def records_graphs(self) -> bool:
        """Whether what is compiled is replayed as CUDA graphs."""
        return self in (Compile.REDUCE_OVERHEAD, Compile.MAX_AUTOTUNE)


class Quantize(StrEnum):
    """In which numbers the denoiser multiplies."""

    #: In those of the model's dtype.
    OFF = "off"
    #: Weights and activations of its blocks' linear layers in float8, each row and each token with a scale of its own.
    FP8 = "fp8"


class StepCacheTechnique(StrEnum):
    """How a step is spared: what the last full ones left behind stands in for most of the denoiser."""

    #: At fixed steps; the denoiser's output is extrapolated from the last full ones.
    TAYLORSEER = "taylorseer"
    #: Where the first block's output has changed little since the last full step, averaged over the batch.
    FIRST_BLOCK = "first-block"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCache:
    """Which denoising steps are spared."""

    technique: StepCacheTechnique
    #: Of `taylorseer`: after the first steps, of so many one is evaluated in full.
    interval: int = _INTERVAL
    #: Of `first-block`: the largest relative change at which a step is spared.
    threshold: float = _THRESHOLD

    def __post_init__(self) -> None:
        if isinstance(self.interval, bool) or not isinstance(self.interval, int) or self.interval < 2:
            raise ValueError(f"step_cache.interval is a number of steps from 2, not {self.interval!r}")
        if isinstance(self.threshold, bool) or not isinstance(self.threshold, int | float):
            raise ValueError(f"step_cache.threshold is a number, not {self.threshold!r}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"step_cache.threshold is between 0 and 1, not {self.threshold}")

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """The `[model.step_cache]` table. Raises ValueError, TypeError or KeyError for a wrong one."""
        technique = StepCacheTechnique(table["technique"])
        surplus = table.keys() - {"technique", _OPTION[technique]}
        if surplus:
            raise ValueError(f"step_cache: {technique} has no {', '.join(sorted(surplus))}")
        return cls(**{**table, "technique": technique})

    @property
    def mixes_batch(self) -> bool:
        """Whether a picture may depend on those that share its batch."""
        return self.technique is StepCacheTechnique.FIRST_BLOCK

    @property
    def record(self) -> dict[str, Any]:
        """What was in force, for JSON."""
        option = _OPTION[self.technique]
        return {"technique": self.technique, option: getattr(self, option), "mixes_batch": self.mixes_batch}


#: The one setting of each technique.
_OPTION: Mapping[StepCacheTechnique, str] = {
    StepCacheTechnique.TAYLORSEER: "interval",
    StepCacheTechnique.FIRST_BLOCK: "threshold",
}
