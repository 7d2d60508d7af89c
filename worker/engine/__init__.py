"""The render engine: the one place that knows torch and diffusers.

    items.py          what goes in and what comes out
    engine.py         batches, seeds, progress, interruption, memory
    residency.py      which models are on the device and which gave way, and what they share
    eviction.py       which model gives way
    weights.py        the weights of a network, on the device or in host memory
    compiling.py, quantization.py, step_caching.py
                      torch.compile, float8 and spared steps, where the catalog asks for them
    fingerprints.py   which networks are the same
    memory.py         how much there is; devices that are full, and devices that are broken
    savings.py        what a lane gives up where memory is short
    checkpoints.py    finding and loading weights
    safetensors_files.py
                      reading weights straight to the device
    adapters.py       LoRA adapters, attached and switched
    families.py       what each family's pipelines take
    texts.py          what the text encoders make of prompts, and the cache of it
    truncation.py     prompts that are longer than their model reads
    schedulers.py     the noise schedulers of a family, by name
    provenance.py     what made a picture besides its request
    pictures.py       pictures to tensors and back
    architectures.py, random_weights.py, tiny*.py
                      checkpoints without training, for tests and benchmarks

Importing this package does not import torch; naming `Engine` does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from worker.engine.items import Item, OnStep, Rendered

if TYPE_CHECKING:
    from worker.engine.engine import Engine

# On a CPU, torch's OpenMP threads spin while they wait for each other. Where other processes want the same cores, as on
# a small machine with a whole farm on it, one thread then spins away the time that the other needs: rendering is ten
# times slower. Asleep they wait at no such price. OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["Engine", "Item", "OnStep", "Rendered"]


def __getattr__(name: str) -> Any:
    if name == "Engine":
        from worker.engine.engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
