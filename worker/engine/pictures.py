"""Pictures to the size a pipeline wants, and tensors back to pictures."""

from __future__ import annotations

import PIL.Image
import PIL.ImageOps
import torch

from shared.errors import JobFailure


def fitted(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
    """The RGB picture scaled to cover `width` × `height` and cropped at its centre: nothing is distorted."""
    return PIL.ImageOps.fit(image.convert("RGB"), (width, height), PIL.Image.Resampling.LANCZOS)


def fitted_mask(mask: PIL.Image.Image, image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
    """The mask laid over its picture, then scaled and cropped as the picture is, so that both still meet."""
    over = mask.convert("L").resize(image.size, PIL.Image.Resampling.BILINEAR)
    return PIL.ImageOps.fit(over, (width, height), PIL.Image.Resampling.BILINEAR)


def pictures_of(tensor: torch.Tensor) -> list[PIL.Image.Image]:
    """The pictures of a batch of RGB values from 0 to 1, shaped (n, 3, height, width), rounded on its device.

    Raises JobFailure `invalid_output` where a value is not a number: such a picture would be saved as black.
    """
    if not torch.isfinite(tensor).all():
        raise JobFailure(
            "invalid_output",
            "The model produced values that are not numbers. Its weights or its dtype in the catalog are at fault; "
            "the same request will fail again.",
        )
    levels = (tensor.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [PIL.Image.fromarray(picture) for picture in levels]
