"""Weights that make tiny networks behave like their elders, written rather than trained.

Fresh random weights give grey noise that ignores its prompt. Three small constructions, laid into the random weights,
make every parameter of a request visible in the picture:

- the autoencoder carries colours: it encodes a picture as its colours at an eighth of the size and decodes them
  smoothly, so that an input image can be recognised in what is made from it;
- the UNet and the transformer remove noise: what they predict is mostly the noise they are given;
- what their random weights make of the prompt and the time is added to that, loud enough to be seen.

One trick serves throughout. Signals travel as pairs of channels, +x and −x. A group norm leaves the mean of such a
pair at zero, and since silu(x) − silu(−x) = x, a layer that subtracts the second from the first reads x unharmed.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, UNet2DConditionModel
from torch import nn

#: Signals that travel through the convolutional networks: the latents of SDXL; of FLUX, the first four of sixteen.
_SIGNALS = 4
#: What the autoencoder's random branches add; enough for some texture.
_TEXTURE = 0.15
#: Spread of a decoded picture's values, which go from −1 to 1.
_CONTRAST = 0.45
#: So small a log-variance that encoding is all but deterministic.
_CERTAIN = -12.0
#: How much of the noise is predicted as noise, and how much of its broad shapes is spared from that, to be left as
#: the picture. Found by looking.
_UNET_NOISE, _UNET_SPARED = 1.2, 0.9
_FLOW_NOISE, _FLOW_SPARED = 3.0, 2.3
#: What the UNet's random part adds to a signal.
_UNET_WHIM = 0.3
#: Factors that make the pooled prompt heard above the time.
_UNET_PROMPT, _FLOW_PROMPT = 6.0, 4.0
#: Size of the transformer's steady values, a few times that of a latent.
_STEADY = 4.0


def _kernel(taps: tuple[int, int, int]) -> torch.Tensor:
    line = torch.tensor(taps, dtype=torch.float32)
    return torch.outer(line, line) / line.sum() ** 2


_POINT = _kernel((0, 1, 0))


def lay_in(network: nn.Module) -> None:
    """Lay the construction that fits into a network's fresh weights, in place."""
    if isinstance(network, AutoencoderKL):
        _carry_colours(network)
    elif isinstance(network, UNet2DConditionModel):
        _remove_noise_by_unet(network)
    elif isinstance(network, FluxTransformer2DModel):
        _remove_noise_by_transformer(network)


def _carry_colours(vae: AutoencoderKL) -> None:
    for module in vae.modules():
        match type(module).__name__:
            case "ResnetBlock2D":
                module.conv2.weight.mul_(_TEXTURE)
                module.conv2.bias.zero_()
                if module.conv_shortcut is not None:
                    _pass_through(module.conv_shortcut, torch.ones(1, 1))
            case "Downsample2D":
                _pass_through(module.conv, _kernel((1, 1, 0)))
            case "Upsample2D":
                _pass_through(module.conv, _kernel((1, 2, 1)))
    for conv in (vae.quant_conv, vae.post_quant_conv):
        if conv is not None:
            _pass_through(conv, torch.ones(1, 1))

    to_signals = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.6, 0.1]])
    _to_pairs(vae.encoder.conv_in, to_signals)
    _silence(vae.encoder.conv_in.bias, vae.encoder.conv_out.weight, vae.encoder.conv_out.bias)
    _from_pairs(vae.encoder.conv_out, torch.eye(_SIGNALS) / vae.config.scaling_factor)
    vae.encoder.conv_out.bias[vae.config.latent_channels :] = _CERTAIN

    to_colours = torch.tensor([[0.8, 0, 0, 0.2], [0, 0.8, 0, 0.2], [0, 0, 0.8, 0.2]])
    _to_pairs(vae.decoder.conv_in, torch.eye(_SIGNALS))
    _silence(vae.decoder.conv_in.bias, vae.decoder.conv_out.weight, vae.decoder.conv_out.bias)
    _from_pairs(vae.decoder.conv_out, to_colours * _CONTRAST)


def _remove_noise_by_unet(unet: UNet2DConditionModel) -> None:
    # Channels by signal: +x, −x, and the same of x blurred.
    _silence(unet.conv_in.bias)
    _to_pairs(unet.conv_in, torch.eye(_SIGNALS), stride=4)
    _to_pairs(unet.conv_in, torch.eye(_SIGNALS), stride=4, first=2, kernel=_kernel((1, 2, 1)))
    # The last block sees the first layer's output again beside what came up through the network.
    last = unet.up_blocks[-1].resnets[-1]
    seen_again = unet.conv_in.out_channels
    paired = 4 * _SIGNALS
    last.conv_shortcut.weight[:paired] = 0
    last.conv_shortcut.weight[:paired, -seen_again : paired - seen_again] = torch.eye(paired)[:, :, None, None]
    last.conv_shortcut.bias[:paired] = 0
    last.conv2.weight[:paired] *= _UNET_WHIM
    # All of the noise but its broad shapes is predicted as noise, so that these are left as the picture.
    unet.conv_out.weight[:, :paired] = 0
    _from_pairs(unet.conv_out, torch.eye(_SIGNALS) * _UNET_NOISE, stride=4)
    _from_pairs(unet.conv_out, torch.eye(_SIGNALS) * -_UNET_SPARED, stride=4, first=2, kernel=_kernel((1, 2, 1)))
    unet.add_embedding.linear_2.weight.mul_(_UNET_PROMPT)


def _remove_noise_by_transformer(transformer: FluxTransformer2DModel) -> None:
    # A token holds four neighbouring latents of each channel. It enters as it is beside steady values so large that
    # they alone decide what the layer norms divide by, which thereby keep the token's own size.
    token, width = transformer.out_channels, transformer.inner_dim
    entry = transformer.x_embedder
    entry.weight.zero_()
    entry.bias[:token] = 0
    entry.bias[token:] = _STEADY * torch.tensor([1.0, -1.0]).repeat((width - token) // 2)
    entry.weight[:, :token] = torch.eye(width, token)
    if entry.in_features > token:
        # Fill sees the masked picture next: it is the noise's distance from that picture that has to go.
        entry.weight[:, token : 2 * token] = -torch.eye(width, token)
    mean_of_token = torch.kron(torch.eye(token // 4), torch.full((4, 4), 0.25))
    divided_by = _STEADY * ((width - token) / width) ** 0.5
    leave = transformer.proj_out
    _silence(leave.weight, leave.bias)
    leave.weight[:, :token] = divided_by * (_FLOW_NOISE * torch.eye(token) - _FLOW_SPARED * mean_of_token)
    # Scale and shift of the last norm follow the prompt; only a shift common to a token's latents is wanted.
    scale_and_shift = transformer.norm_out.linear
    scale_and_shift.weight[:width] = 0
    scale_and_shift.weight[width : width + token] = mean_of_token @ scale_and_shift.weight[width : width + token]
    scale_and_shift.bias.zero_()
    transformer.time_text_embed.text_embedder.linear_2.weight.mul_(_FLOW_PROMPT)


def _to_pairs(
    conv: nn.Conv2d, matrix: torch.Tensor, *, stride: int = 2, first: int = 0, kernel: torch.Tensor = _POINT
) -> None:
    """The channels at `first` and after become plus and minus a row of `matrix` times the input, every `stride`."""
    for sign in (1, -1):
        for row, weights in enumerate(matrix):
            channel = first + stride * row + (sign < 0)
            conv.weight[channel] = 0
            conv.weight[channel, : len(weights)] = sign * weights[:, None, None] * kernel


def _from_pairs(
    conv: nn.Conv2d, matrix: torch.Tensor, *, stride: int = 2, first: int = 0, kernel: torch.Tensor = _POINT
) -> None:
    """To the first outputs, `matrix` times the paired inputs' differences is added."""
    for sign in (1, -1):
        channels = slice(first + (sign < 0), first + stride * matrix.shape[1], stride)
        conv.weight[: len(matrix), channels] += sign * matrix[:, :, None, None] * kernel


def _pass_through(conv: nn.Conv2d, kernel: torch.Tensor) -> None:
    """Every channel goes through `kernel` alone; channels that the output does not have are dropped."""
    _silence(conv.weight, conv.bias)
    for channel in range(min(conv.in_channels, conv.out_channels)):
        conv.weight[channel, channel] = kernel


def _silence(*parameters: torch.Tensor | None) -> None:
    for parameter in parameters:
        if parameter is not None:
            parameter.zero_()
