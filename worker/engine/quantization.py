"""Float8 on the tensor cores, for the models whose catalog entry asks for it.

The linear layers in the blocks that a denoiser repeats are where it spends its time, and the only ones that change.
What embeds, modulates and leaves the network decides over whole pictures and costs little: it stays as it is.

Each row of a weight and each token of an activation is rounded with a scale of its own, found as it comes. So nothing
is calibrated, an outlier costs its own token alone, and a picture does not depend on those that share its batch.
"""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline
from torch import nn
from torch.nn import functional
from torch.nn.functional import ScalingType

from shared.acceleration import Quantize
from shared.errors import JobFailure
from shared.models import Model

#: The first NVIDIA cards that multiply float8: Ada Lovelace and Hopper.
_CAPABILITY = (8, 9)
_FLOAT8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(_FLOAT8).max
#: The kernels take rows and columns in multiples of this.
_MULTIPLE = 16
#: A row of zeros has to be divided by something.
_LEAST_SCALE = 1e-12


class Float8Linear(nn.Module):
    """A linear layer that multiplies in float8 and answers in the dtype of its input."""

    weight: torch.Tensor
    weight_scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # Buffers, for a network's dtype is that of its parameters.
        weight, scale = _rounded(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("weight_scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From (..., inputs) to (..., outputs)."""
        rows, scale = _rounded(tokens.reshape(-1, tokens.shape[-1]))
        out = functional.scaled_mm(
            rows,
            self.weight.t(),
            scale,
            ScalingType.RowWise,
            self.weight_scale.t(),
            ScalingType.RowWise,
            bias=self.bias,
            output_dtype=tokens.dtype,
            # Half as exact in the last bits of a sum, and what makes float8 worth its while on Hopper.
            use_fast_accum=True,
        )
        return out.reshape(*tokens.shape[:-1], -1)


def check_device(model: Model, device: torch.device) -> None:
    """Raises JobFailure `model_unavailable` where the device cannot multiply as the model's entry says.

    A CPU can, slowly: it is there for tests.
    """
    if model.quantize is Quantize.OFF or device.type == "cpu":
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < _CAPABILITY:
        raise JobFailure(
            "model_unavailable",
            f"The catalog has quantize = 'fp8' for {model.id}, which needs a card of compute capability 8.9 or later "
            f"(Ada Lovelace, Hopper); this is {'.'.join(map(str, capability))}, {torch.cuda.get_device_name(device)}. "
            "Remove quantize from its entry, or serve it from another card.",
        )


def quantize_denoiser(pipeline: DiffusionPipeline, how: Quantize) -> None:
    """Replace the linear layers of the denoiser's repeated blocks in place, one by one: memory only shrinks."""
    if how is Quantize.OFF:
        return
    denoiser = pipeline.components.get("unet") or pipeline.components["transformer"]
    for block in repeated_blocks(denoiser):
        for name, module in list(block.named_modules()):
            if isinstance(module, nn.Linear) and _is_worth_it(name, module):
                block.set_submodule(name, Float8Linear(module))


def repeated_blocks(denoiser: nn.Module) -> list[nn.Module]:
    """The blocks that make up a denoiser of diffusers, by the classes that it names itself."""
    return [module for module in denoiser.modules() if type(module).__name__ in denoiser._repeated_blocks]  # type: ignore[operator]


def _is_worth_it(name: str, linear: nn.Linear) -> bool:
    """Whether a block's layer works on every token, in sizes that the kernels take; modulation works on one vector."""
    return "norm" not in name and linear.in_features % _MULTIPLE == 0 and linear.out_features % _MULTIPLE == 0


def _rounded(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in float8, and the scales that give them back, shaped (rows, 1), in float32."""
    exact = rows.float()
    scale = exact.abs().amax(dim=1, keepdim=True).clamp(min=_LEAST_SCALE) / _LARGEST
    return (exact / scale).to(_FLOAT8), scale
