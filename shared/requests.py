"""What to render: a request resolved against the catalog, so that nothing is left to decide.

`resolve` is the one place where a model's limits and defaults meet a request; every dialect and the native API
pass through it, and so does whatever else takes requests in.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Self

from shared.catalog import Catalog
from shared.errors import RequestInvalid
from shared.loras import LoraUse, chosen
from shared.models import GuidanceKind, Mode, Model
from shared.wording import plain

#: Seeds are non-negative and fit a signed 64-bit integer, the range of `torch.Generator.manual_seed` that every
#: database and JSON reader of a client can hold as well.
MAX_SEED = 2**63 - 1
#: A random seed stays below 2^32, short enough to be read aloud and exact in JavaScript.
RANDOM_SEED_BITS = 32
MAX_IMAGES = 10
#: Share of the input image that is redrawn when a request does not say; the default of the diffusers pipelines for
#: image to image. Inpainting redraws everything under the mask.
DEFAULT_STRENGTH = {Mode.IMAGE_TO_IMAGE: 0.6, Mode.INPAINTING: 1.0}
OUTPUT_FORMATS = ("jpeg", "png", "webp")
DEFAULT_QUALITY = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRequest:
    """One job's picture, fully resolved. Sizes in pixels; images as S3 keys."""

    model: str
    mode: Mode
    prompt: str
    negative_prompt: str | None = None
    width: int
    height: int
    num_steps: int
    #: The scale in force; 0 where the model runs without guidance.
    guidance_scale: float
    #: Image i of the job uses seed + i.
    seed: int
    n: int = 1
    #: The noise scheduler; None for a model that has none.
    scheduler: str | None = None
    #: In the order of their ids.
    loras: tuple[LoraUse, ...] = ()
    strength: float | None = None
    input_image: str | None = None
    mask_image: str | None = None
    output_format: str = "jpeg"
    output_quality: int = DEFAULT_QUALITY

    @property
    def lane(self) -> str:
        """Jobs of a model with the same lane may share one denoising batch."""
        return _lane(
            self.mode,
            self.width,
            self.height,
            self.num_steps,
            self.guidance_scale,
            self.scheduler,
            self.strength,
            self.loras,
        )

    def cost(self, model: Model) -> float:
        """Predicted seconds of GPU time: evaluations of the denoiser times megapixels times the model's unit cost."""
        guided = model.guidance.takes_negative_prompt and self.guidance_scale > 1
        steps = self.num_steps * (self.strength if self.strength is not None else 1.0)
        megapixels = self.width * self.height / 1e6
        return max(1.0, steps) * (2 if guided else 1) * megapixels * self.n * model.unit_cost

    def price(self, model: Model) -> int:
        """Millionths of a credit: megapixels times the steps asked for times images, at the model's price."""
        # Pixels at a price by the megapixel are millionths already; what is left of one is rounded up.
        return math.ceil(model.price * self.width * self.height * self.num_steps * self.n)

    def to_dict(self) -> dict[str, Any]:
        """The fields that are set, for JSON."""
        # Not dataclasses.asdict, which copies every value deeply: half of what accepting a job in a batch took.
        data = {name: value for name, value in zip(_FIELDS, _values(self), strict=True) if value is not None}
        del data["loras"]
        if self.loras:
            data["loras"] = [{"id": lora.id, "scale": lora.scale} for lora in self.loras]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        loras = tuple(LoraUse(**lora) for lora in data.get("loras", ()))
        return cls(**{**data, "mode": Mode(data["mode"]), "loras": loras})


_FIELDS = tuple(field.name for field in fields(RenderRequest))
_values = attrgetter(*_FIELDS)
_LANE_MODES = {Mode.TEXT_TO_IMAGE: "t2i", Mode.IMAGE_TO_IMAGE: "i2i", Mode.INPAINTING: "inpaint"}


@lru_cache
def _lane(
    mode: Mode,
    width: int,
    height: int,
    num_steps: int,
    guidance_scale: float,
    scheduler: str | None,
    strength: float | None,
    loras: tuple[LoraUse, ...],
) -> str:
    parts = [_LANE_MODES[mode], f"{width}x{height}", str(num_steps), _exact(guidance_scale)]
    if scheduler is not None:
        parts.append(scheduler)
    if strength is not None:
        parts.append(_exact(strength))
    return ":".join([*parts, *map(str, loras)])


def _exact(number: float) -> str:
    """All digits: of two that share a lane, the pictures are made with the same number."""
    return repr(float(number)).removesuffix(".0")


def resolve(catalog: Catalog, body: Mapping[str, Any]) -> tuple[RenderRequest, list[str]]:
    """The request that `body` asks for, and warnings about what was changed or has no effect.

    `body` holds the job body's fields with their right types already. `input_image` and `mask_image` are whatever
    marks their presence; the caller puts the S3 keys in. Raises `unknown_model`, and RequestInvalid
    naming every field that the model does not take or whose value is outside its limits.
    """
    mode = mode_of(body)
    model = catalog.find(body["model"], mode)
    errors: dict[str, list[str]] = {}
    warnings: list[str] = []
    given = {name for name, value in body.items() if value not in (None, "", [])}
    unsupported = sorted((given & _MODEL_PARAMETERS) - model.parameters)
    for name in unsupported:
        errors[name] = [f"{model.id} does not take {name}; it takes {', '.join(sorted(model.parameters))}"]
    if not unsupported and mode not in model.modes:
        missing = "input_image and mask_image are" if model.modes == (Mode.INPAINTING,) else "another set of images is"
        errors["input_image"] = [f"{model.id} does {' and '.join(model.modes)} only: {missing} needed"]
    if mode is Mode.TEXT_TO_IMAGE and "strength" in given and "strength" in model.parameters:
        errors["strength"] = ["is the share of an input_image that is redrawn; send one, or leave it out"]
    width, height = _size(model, body, errors, warnings)
    num_steps = _within("num_steps", body.get("num_steps"), model.num_steps, errors)
    guidance = _guidance(model, body, errors, warnings)
    scheduler = _scheduler(model, body, errors)
    loras = _loras(model, body, errors)
    n = body.get("n") or 1
    seed = body.get("seed")
    if seed is not None and seed + n - 1 > MAX_SEED:
        errors["seed"] = [f"must be at most {MAX_SEED} for every image, and image i uses seed + i"]
    if errors:
        code = "unsupported_parameter" if errors.keys() == set(unsupported) else "invalid"
        raise RequestInvalid(errors, code=code, model=model.id)
    return (
        RenderRequest(
            model=model.id,
            mode=mode,
            prompt=body["prompt"],
            negative_prompt=body.get("negative_prompt") or None,
            width=width,
            height=height,
            num_steps=int(num_steps),
            guidance_scale=guidance,
            seed=secrets.randbits(RANDOM_SEED_BITS) if seed is None else seed,
            n=n,
            scheduler=scheduler,
            loras=loras,
            strength=_strength(mode, body),
            output_format=body.get("output_format") or "jpeg",
            output_quality=body.get("output_quality") or DEFAULT_QUALITY,
        ),
        warnings,
    )


#: Parameters that some models take and others do not; every model takes the rest.
_MODEL_PARAMETERS = frozenset({"negative_prompt", "scheduler", "loras", "input_image", "mask_image", "strength"})


def mode_of(body: Mapping[str, Any]) -> Mode:
    """What is made from what, judged by which images are given. Raises RequestInvalid for a mask without an image."""
    if body.get("mask_image") is not None:
        if body.get("input_image") is None:
            raise RequestInvalid({"input_image": ["a mask_image needs an input_image to repaint"]})
        return Mode.INPAINTING
    return Mode.TEXT_TO_IMAGE if body.get("input_image") is None else Mode.IMAGE_TO_IMAGE


def _strength(mode: Mode, body: Mapping[str, Any]) -> float | None:
    if mode is Mode.TEXT_TO_IMAGE:
        return None
    strength = body.get("strength")
    return float(DEFAULT_STRENGTH[mode] if strength is None else strength)


def _scheduler(model: Model, body: Mapping[str, Any], errors: dict[str, list[str]]) -> str | None:
    name = body.get("scheduler") or model.scheduler.name
    if name not in (None, *model.scheduler.names) and "scheduler" not in errors:
        errors["scheduler"] = [f"must be {' or '.join(model.scheduler.names)} for {model.id}, not {name}"]
    return name


def _loras(model: Model, body: Mapping[str, Any], errors: dict[str, list[str]]) -> tuple[LoraUse, ...]:
    if not body.get("loras") or "loras" in errors:
        return ()
    try:
        return chosen(body["loras"], model.loras, model.id)
    except ValueError as error:
        errors["loras"] = [str(error)]
        return ()


def _within(name: str, value: float | None, limits: Any, errors: dict[str, list[str]]) -> float:
    if value is None:
        return float(limits.default)
    if not limits.min <= value <= limits.max:
        if limits.min == limits.max:
            errors[name] = [f"must be {plain(limits.min)} for this model"]
        else:
            errors[name] = [f"must be between {plain(limits.min)} and {plain(limits.max)} for this model"]
    return value


def _size(model: Model, body: Mapping[str, Any], errors: dict[str, list[str]], warnings: list[str]) -> tuple[int, int]:
    size = model.size
    sides: list[int] = []
    for name in ("width", "height"):
        asked = body.get(name)
        side = size.default if asked is None else asked
        if size.round:
            side = max(size.multiple_of, round(side / size.multiple_of) * size.multiple_of)
            if asked is not None and side != asked:
                warnings.append(
                    f"{name} {asked} was rounded to {side}: {model.id} needs multiples of {size.multiple_of}"
                )
        if not size.min <= side <= size.max:
            errors[name] = [f"must be between {size.min} and {size.max} for {model.id}"]
        elif side % size.multiple_of:
            below = side // size.multiple_of * size.multiple_of
            errors[name] = [f"must be a multiple of {size.multiple_of}, such as {below}, for {model.id}"]
        sides.append(side)
    width, height = sides
    if not errors.keys() & {"width", "height"} and width * height > size.max_pixels:
        errors["width"] = [f"width times height must not exceed {size.max_pixels} for {model.id}"]
    return width, height


def _guidance(model: Model, body: Mapping[str, Any], errors: dict[str, list[str]], warnings: list[str]) -> float:
    """The scale in force. A negative prompt is never without effect: what would make it so is refused."""
    scale = _within("guidance_scale", body.get("guidance_scale"), model.guidance, errors)
    negative = model.guidance.takes_negative_prompt and body.get("negative_prompt")
    if negative and scale <= 1:
        errors["guidance_scale"] = [f"must be above 1 for {model.id} when a negative_prompt is given"]
    if model.guidance.kind is GuidanceKind.NEGATIVE_ONLY and not negative:
        if body.get("guidance_scale"):
            warnings.append(f"guidance_scale has no effect on {model.id} without a negative_prompt")
        return 0.0
    return scale
