"""The ways to be quicker that are compared: what the catalog offers, and what a process may choose of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from shared.acceleration import Compile, Quantize, StepCache, StepCacheTechnique
from shared.models import Model

#: The libraries' own order but for the first, which is quick on Hopper; the others take what it does not.
_ATTENTION = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(frozen=True, slots=True)
class Option:
    """One way to render a model, beside the plain engine."""

    #: Keys of the catalog.
    changes: Mapping[str, Any] = field(default_factory=dict)
    #: Keys of `torch_settings`.
    settings: frozenset[str] = frozenset()
    #: Seconds that it may take: loading, compiling, measuring.
    limit_s: float = 90

    def model(self, model: Model) -> Model:
        """The entry with the option. Raises ValueError where the catalog would refuse it."""
        return replace(model, loras=(), **self.changes)


_CACHE_3 = StepCache(technique=StepCacheTechnique.TAYLORSEER)
_FIRST_BLOCK = StepCache(technique=StepCacheTechnique.FIRST_BLOCK)

#: The most telling first, for time may run out; those that compile everything last, for they take minutes.
OPTIONS: Mapping[str, Option] = {
    "compile regional": Option({"compile": Compile.REGIONAL}, limit_s=150),
    "fp8, compile regional": Option({"compile": Compile.REGIONAL, "quantize": Quantize.FP8}, limit_s=180),
    "cudnn attention": Option(settings=frozenset({"attention"})),
    "cudnn benchmark": Option(settings=frozenset({"benchmark"})),
    "taylorseer": Option({"step_cache": _CACHE_3}),
    "first-block": Option({"step_cache": _FIRST_BLOCK}),
    "taylorseer, fp8, compile regional": Option(
        {"step_cache": _CACHE_3, "compile": Compile.REGIONAL, "quantize": Quantize.FP8}, limit_s=180
    ),
    "compile full": Option({"compile": Compile.FULL}, limit_s=240),
    "compile reduce-overhead": Option({"compile": Compile.REDUCE_OVERHEAD}, limit_s=240),
    "fp8, compile reduce-overhead": Option({"compile": Compile.REDUCE_OVERHEAD, "quantize": Quantize.FP8}, limit_s=240),
    "fp8": Option({"quantize": Quantize.FP8}),
    "compile max-autotune": Option({"compile": Compile.MAX_AUTOTUNE}, limit_s=300),
}


@contextmanager
def torch_settings(names: frozenset[str]) -> Iterator[None]:
    """While it lasts, cuDNN's attention (`attention`) and its choice of convolutions by trying (`benchmark`)."""
    attention = sdpa_kernel(_ATTENTION, set_priority=True) if "attention" in names else nullcontext()
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or "benchmark" in names
    try:
        with attention:
            yield
    finally:
        torch.backends.cudnn.benchmark = before
