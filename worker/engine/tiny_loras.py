"""LoRA adapters with random weights, in the format of diffusers: loud enough that their effect is seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from worker.engine.architectures import Part

_RANK = 4
#: Size of what an adapter adds to a projection, beside what it finds there.
_LOUDNESS = 0.5
#: The projections of attention, as denoisers and text encoders call them: what adapters are mostly trained for.
_PROJECTIONS = ("to_q", "to_k", "to_v", "q_proj", "k_proj", "v_proj")


def write_lora(file: Path, parts: Mapping[str, Part], *, seed: int) -> None:
    """Write an adapter for the attention of these networks, by their names in a pipeline; the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for part_name, part in parts.items():
        with torch.device("meta"):
            network = part.make()
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Linear) and name.endswith(_PROJECTIONS):
                down = torch.randn(_RANK, layer.in_features, generator=generator) / layer.in_features**0.5
                up = torch.randn(layer.out_features, _RANK, generator=generator) * _LOUDNESS
                weights[f"{part_name}.{name}.lora_A.weight"] = down
                weights[f"{part_name}.{name}.lora_B.weight"] = up
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, file)
