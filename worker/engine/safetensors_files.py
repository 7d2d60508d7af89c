"""Safetensors files: how many values they hold, and reading them tensor by tensor, straight to the device."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

#: What the libraries load from a network's folder: one file or its shards; not the variants in other dtypes beside it.
_LOADED = re.compile(r"(diffusion_pytorch_model|model)(-\d+-of-\d+)?\.safetensors")


def files_of(folder: Path) -> list[Path]:
    """The files that hold the weights of the network in a folder; none where it is not there."""
    return [file for file in folder.glob("*.safetensors") if _LOADED.fullmatch(file.name)]


def count_values(file: Path) -> int:
    """The values in a file, told by its header."""
    with safe_open(file, "pt") as content:
        return sum(math.prod(content.get_slice(name).get_shape()) for name in content.keys())  # noqa: SIM118


def fill(network: nn.Module, file: Path, device: torch.device, dtype: torch.dtype) -> None:
    """Give a network without memory, on the meta device, the weights of a file.

    Each tensor goes to the device and is converted there before the next is read: nothing is there twice.
    """
    with safe_open(file, "pt", device=str(device)) as content:
        weights = {name: content.get_tensor(name).to(dtype) for name in content.keys()}  # noqa: SIM118
    network.load_state_dict(weights, assign=True)
