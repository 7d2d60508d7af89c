"""A model of the catalog: what it accepts, how it is rendered, and where its weights are.

Each is one `[[model]]` table of the catalog's file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Self

from shared.acceleration import Compile, Quantize, StepCache
from shared.loras import Lora
from shared.noise import NO_SCHEDULER, NoiseScheduler

#: The family that renders nothing and sleeps instead; it stands for a device in load tests.
SYNTHETIC = "synthetic"
#: A synthetic batch that took longer would look like a device that hangs.
_MAX_BATCH_S = 600.0
#: Longer than any batch takes that a few more images would make cheaper.
_MAX_LINGER_S = 60.0
#: Keys of an entry that say what to load, and so those which a synthetic model cannot have.
_WEIGHTS_KEYS = frozenset(
    {"source", "revision", "dtype", "scheduler", "unet", "vae", "max_prompt_tokens"}
    | {"compile", "quantize", "step_cache"}
)
#: Families whose denoisers are transformers, of which whole steps can be spared; of a UNet they cannot.
_STEP_CACHED = ("flux", "flux-fill")
#: Credits for a megapixel and step; the largest job of all then costs less than what Redis's scripts count exactly.
_MAX_PRICE = 1000


class Mode(StrEnum):
    """What is made from what."""

    #: From a prompt alone.
    TEXT_TO_IMAGE = "text-to-image"
    #: From a prompt and an input image, of which `strength` is redrawn.
    IMAGE_TO_IMAGE = "image-to-image"
    #: From a prompt, an input image and a mask; white pixels of the mask are repainted.
    INPAINTING = "inpainting"


class GuidanceKind(StrEnum):
    """How a model follows a guidance scale."""

    #: Two evaluations a step (with and without the prompt); takes a negative prompt.
    CLASSIFIER_FREE = "classifier-free"
    #: The scale is an input of the model: one evaluation a step, no negative prompt.
    EMBEDDED = "embedded"
    #: Distilled to run without guidance. A negative prompt switches true classifier-free guidance on, at the
    #: catalog's scale unless the request names one, and doubles the work; a scale alone has no effect.
    NEGATIVE_ONLY = "negative-only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    kind: GuidanceKind
    default: float
    min: float = 0.0
    max: float

    @property
    def takes_negative_prompt(self) -> bool:
        return self.kind is not GuidanceKind.EMBEDDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    default: int
    min: int = 1
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Limits of width and height, in pixels."""

    default: int
    min: int
    max: int
    multiple_of: int
    max_pixels: int
    #: Round a size to the nearest allowed multiple instead of refusing it.
    round: bool = False

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """The allowed size nearest to the given one, of the same shape as far as there is such a size."""
        larger = max(1.0, self.min / min(width, height))
        scale = min(larger, self.max / max(width, height), math.sqrt(self.max_pixels / (width * height)))
        return self._side(width * scale), self._side(height * scale)

    def _side(self, length: float) -> int:
        # Rounded down, so that the area stays within its limit; the hair is what floating point may have lost.
        side = math.floor(length / self.multiple_of + 1e-6) * self.multiple_of
        return min(max(side, self.min), self.max)


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetSource:
    """A single-file UNet that replaces the one of the model's folder."""

    source: str
    revision: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VAESource:
    """An autoencoder that replaces the one of the model's folder: one whose values stay within the model's dtype."""

    source: str
    revision: str = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """How a synthetic model passes its time."""

    #: Seconds of one batch, however many images and steps it has.
    batch_s: float
    #: Seconds it takes to load. Of the models that take any, the device has room for one.
    load_s: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds("synthetic.batch_s", self.batch_s, _MAX_BATCH_S)
        _check_seconds("synthetic.load_s", self.load_s, _MAX_BATCH_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One entry of the catalog. A model is either synthetic or has weights: a `source` and a `scheduler`."""

    id: str
    name: str
    family: str
    modes: tuple[Mode, ...]
    licence: str
    guidance: Guidance
    num_steps: Steps
    size: Size
    source: str = ""
    scheduler: NoiseScheduler = NO_SCHEDULER
    synthetic: Synthetic | None = None
    aliases: tuple[str, ...] = ()
    revision: str = "main"
    dtype: str = "bfloat16"
    compile: Compile = Compile.OFF
    quantize: Quantize = Quantize.OFF
    step_cache: StepCache | None = None
    #: Most images that share one denoising batch.
    batch_limit: int = 4
    #: Seconds that a batch with room left waits for further jobs of its lane, while no other work waits.
    linger_s: float = 0.0
    #: Predicted seconds for one denoiser evaluation over a megapixel; only ratios between jobs matter for
    #: fairness, measured rates correct it for estimates of time.
    unit_cost: float = 0.1
    #: Credits for one step over a megapixel; 0 is free.
    price: Decimal = Decimal(0)
    #: Tokens of the T5 encoder, where the family has one.
    max_prompt_tokens: int = 256
    unet: UNetSource | None = None
    vae: VAESource | None = None
    #: The adapters that requests may lay over it: those of the `[[lora]]` tables that name the model.
    loras: tuple[Lora, ...] = ()

    def __post_init__(self) -> None:
        _check_seconds("linger_s", self.linger_s, _MAX_LINGER_S)
        if self.quantize is not Quantize.OFF and self.dtype != "bfloat16":
            raise ValueError(f"quantize = {self.quantize.value!r} needs dtype = 'bfloat16', not {self.dtype!r}")
        if self.quantize is not Quantize.OFF and self.loras:
            raise ValueError(
                f"{self.id} is quantized, and adapters cannot be laid over quantized weights: "
                f"take it out of the models of {', '.join(lora.id for lora in self.loras)}, or offer it a second time "
                "under another id, without quantize"
            )
        if self.step_cache is None:
            return
        if self.family not in _STEP_CACHED:
            raise ValueError(f"step_cache is for the families {' and '.join(_STEP_CACHED)}, not for {self.family}")
        if self.guidance.kind is not GuidanceKind.EMBEDDED:
            raise ValueError(f"step_cache is for models with guidance of the kind {GuidanceKind.EMBEDDED}")
        if self.compile not in (Compile.OFF, Compile.REGIONAL):
            raise ValueError(f"step_cache goes with compile = 'off' or 'regional', not with {self.compile.value!r}")

    @property
    def parameters(self) -> frozenset[str]:
        """The parameters of a job body that this model takes."""
        names = {"prompt", "width", "height", "num_steps", "guidance_scale", "seed", "n"}
        if self.guidance.takes_negative_prompt:
            names.add("negative_prompt")
        if self.scheduler.names:
            names.add("scheduler")
        if self.loras:
            names.add("loras")
        if Mode.IMAGE_TO_IMAGE in self.modes:
            names |= {"input_image", "strength"}
        if Mode.INPAINTING in self.modes:
            names |= {"input_image", "mask_image", "strength"}
        return frozenset(names)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """The model of one `[[model]]` table. Raises ValueError, naming the model and the key, for a wrong one."""
        name = table.get("id", "(a model without id)")
        if ":" in name or "," in name:
            raise ValueError(f"catalog: {name}: an id must not contain ':' or ',', which part keys and queues")
        if wrong := _wrong_keys(table, cls):
            raise ValueError(f"catalog: {name}: {wrong}")
        try:
            parts = {
                "modes": tuple(Mode(mode) for mode in table["modes"]),
                "aliases": tuple(table.get("aliases", ())),
                "guidance": Guidance(**{**table["guidance"], "kind": GuidanceKind(table["guidance"]["kind"])}),
                "num_steps": Steps(**table["num_steps"]),
                "size": Size(**table["size"]),
                "compile": Compile(table.get("compile", Compile.OFF)),
                "quantize": Quantize(table.get("quantize", Quantize.OFF)),
                "price": _price(table.get("price", 0)),
            }
            own = {key: read(table[key]) for key, read in _FAMILY_TABLES.items() if key in table}
            return cls(**{**table, **parts, **own})
        except KeyError as error:
            raise ValueError(f"catalog: {name}: {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"catalog: {name}: {error}") from error


def _wrong_keys(table: Mapping[str, Any], model: type[Model]) -> str:
    """What is wrong with the keys of a `[[model]]` table; nothing where they are those of its family."""
    unknown = table.keys() - ({f.name for f in fields(model)} - {"loras"})
    if unknown:
        return f"unknown key {', '.join(sorted(unknown))}"
    is_synthetic = table.get("family") == SYNTHETIC
    surplus = table.keys() & (_WEIGHTS_KEYS if is_synthetic else {"synthetic"})
    if surplus:
        return f"a model of the family {table.get('family')} has no {', '.join(sorted(surplus))}"
    needed = {f.name for f in fields(model) if f.default is MISSING}
    missing = (needed | ({"synthetic"} if is_synthetic else {"source", "scheduler"})) - table.keys()
    return f"{', '.join(sorted(missing))} is missing" if missing else ""


#: Tables that only some families have, and what reads each.
_FAMILY_TABLES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "scheduler": NoiseScheduler.from_table,
    "unet": lambda table: UNetSource(**table),
    "vae": lambda table: VAESource(**table),
    "synthetic": lambda table: Synthetic(**table),
    "step_cache": StepCache.from_table,
}


def _check_seconds(key: str, value: object, most: float) -> None:
    """Raise ValueError for a time of an entry that is none, or too long."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is a number of seconds, not {value!r}")
    if not 0 <= value <= most:
        raise ValueError(f"{key} is from 0 to {most:g} seconds, not {value}")


def _price(value: Any) -> Decimal:
    """A price as it is written: never by way of a binary fraction."""
    try:
        price = Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError(f"price is a number of credits, not {value!r}") from error
    if not price.is_finite() or not 0 <= price <= _MAX_PRICE:
        raise ValueError(f"price is a number of credits from 0 to {_MAX_PRICE}, not {value!r}")
    return price
