"""Requests, pictures and comparisons for the engine's tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from shared.catalog import Catalog, load_catalog
from shared.models import Mode
from shared.requests import RenderRequest, resolve
from shared.settings import Settings
from worker.engine import Engine, Item, Rendered

CATALOG: Catalog = load_catalog(Settings().catalog_path)
BASE = "stabilityai/stable-diffusion-xl-base-1.0"
LIGHTNING = "ByteDance/SDXL-Lightning"
SCHNELL = "black-forest-labs/FLUX.1-schnell"
FILL = "black-forest-labs/FLUX.1-Fill-dev"
SIDE = 256

#: Every model in every mode it has, in few steps.
EVERYTHING = [(model.id, mode) for model in CATALOG.models.values() for mode in model.modes]
NAMES = [f"{model.rpartition('/')[2]}-{mode}" for model, mode in EVERYTHING]

Pixels = npt.NDArray[np.float64]


def input_picture() -> PIL.Image.Image:
    """A yellow square on a gradient from blue to red."""
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    pixels = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    pixels[80:160, 80:160] = (255, 200, 0)
    return PIL.Image.fromarray(pixels)


def right_half() -> PIL.Image.Image:
    """A mask that is white on the right."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, SIDE // 2 :] = 255
    return PIL.Image.fromarray(mask)


def request(model: str, mode: Mode = Mode.TEXT_TO_IMAGE, **fields: Any) -> RenderRequest:
    """A small, short request for the model, resolved as the front door does it."""
    images: dict[Mode, dict[str, Any]] = {
        Mode.TEXT_TO_IMAGE: {},
        Mode.IMAGE_TO_IMAGE: {"input_image": "given"},
        Mode.INPAINTING: {"input_image": "given", "mask_image": "given"},
    }
    body = {"model": model, "prompt": "a cat on a blue sofa", "width": SIDE, "height": SIDE, "num_steps": 4, "seed": 1}
    resolved, _ = resolve(CATALOG, {**body, **images[mode], **fields})
    return resolved


def item(of: RenderRequest, seed: int | None = None) -> Item:
    """One image of the request, with the pictures that its mode needs."""
    return Item(
        of,
        of.seed if seed is None else seed,
        input_picture() if of.mode is not Mode.TEXT_TO_IMAGE else None,
        right_half() if of.mode is Mode.INPAINTING else None,
    )


class Steps(list[tuple[int, int]]):
    """Notes what the engine reports after each step, and asks it to stop at step `stop_at`."""

    def __init__(self, stop_at: int = 0) -> None:
        self._stop_at = stop_at

    def __call__(self, step: int, total: int) -> bool:
        self.append((step, total))
        return step == self._stop_at


def render(engine: Engine, items: Sequence[Item], steps: Steps | None = None) -> tuple[Rendered, list[Pixels]]:
    """What the engine says, and its pictures as numbers."""
    rendered = engine.render(CATALOG.models[items[0].request.model], items, Steps() if steps is None else steps)
    return rendered, [np.asarray(image).astype(float) for image in rendered.images]


def picture(engine: Engine, of: RenderRequest, seed: int | None = None) -> Pixels:
    return render(engine, [item(of, seed)])[1][0]


def distance(one: Pixels, other: Pixels) -> float:
    """The mean difference of two pictures' values, which go from 0 to 255."""
    return float(np.abs(one - other).mean())
