"""The images a job starts from: checked, made alike, and kept in S3 under the job's id."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Self

from PIL import Image

from intake import pictures
from intake.image_sources import image_bytes
from intake.means import Means
from shared.errors import RequestInvalid
from shared.requests import RenderRequest, mode_of
from shared.storage import CONTENT_TYPES, Storage, StorageError


class MaskMeaning(Enum):
    """What a mask says is to be repainted."""

    #: White pixels.
    WHITE = "white"
    #: Transparent pixels, as in the OpenAI API.
    TRANSPARENT = "transparent"

    def read(self, picture: Image.Image) -> Image.Image:
        """The mask as a grey picture, white where it is to be repainted."""
        return pictures.as_mask(picture) if self is MaskMeaning.WHITE else pictures.as_mask_by_transparency(picture)


@dataclass(slots=True)
class InputImages:
    """The images of one request as PNG files, by the names of their fields, and what their owner should know."""

    files: dict[str, bytes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    #: Width and height that follow from the input image, where the request leaves them to it.
    size: tuple[int, int] | None = None

    @classmethod
    def read(cls, means: Means, account: str, body: Mapping[str, Any], mask_meaning: MaskMeaning) -> Self:
        """The images of a job's body. Raises RequestInvalid `bad_image`, naming each that cannot be used."""
        images = cls()
        decoded: dict[str, Image.Image] = {}
        errors: dict[str, list[str]] = {}
        for name, convert in (("input_image", pictures.as_rgb), ("mask_image", mask_meaning.read)):
            if body.get(name) is None:
                continue
            try:
                with pictures.opened(image_bytes(body[name], means, account), means.settings) as picture:
                    if pictures.is_animated(picture):
                        images.warnings.append(f"{name} is animated; its first frame was used")
                    decoded[name] = convert(picture)
            except pictures.BadPicture as error:
                errors[name] = [str(error)]
        if errors:
            raise RequestInvalid(errors, code="bad_image")
        images._fit_mask(decoded)
        images._take_size(decoded, means, body)
        images.files = {name: pictures.png(picture) for name, picture in decoded.items()}
        return images

    def _fit_mask(self, decoded: dict[str, Image.Image]) -> None:
        mask, image = decoded.get("mask_image"), decoded.get("input_image")
        if mask is None or image is None or mask.size == image.size:
            return
        self.warnings.append(
            f"mask_image was resized from {mask.width}x{mask.height} to {image.width}x{image.height}, "
            "the size of input_image"
        )
        decoded["mask_image"] = mask.resize(image.size, Image.Resampling.BILINEAR)

    def _take_size(self, decoded: dict[str, Image.Image], means: Means, body: Mapping[str, Any]) -> None:
        image = decoded.get("input_image")
        if image is None or body.get("width") is not None or body.get("height") is not None:
            return
        model = means.catalog.find(body["model"], mode_of(body))
        self.size = model.size.fitted(*image.size)
        if self.size != image.size:
            width, height = self.size
            self.warnings.append(
                f"the pictures are {width}x{height}: input_image is {image.width}x{image.height}, and {model.id} needs "
                f"sides of {model.size.min} to {model.size.max} pixels in multiples of {model.size.multiple_of}, at "
                f"most {model.size.max_pixels} pixels in all"
            )

    def placed(self, render: RenderRequest, job_id: str) -> RenderRequest:
        """The request with the keys under which `store` puts the images, and with the size that follows from them."""
        if not self.files:
            return render
        keys = {name: _key(job_id, name) for name in self.files}
        width, height = self.size or (render.width, render.height)
        return replace(
            render,
            input_image=keys.get("input_image"),
            mask_image=keys.get("mask_image"),
            width=width,
            height=height,
        )

    def store(self, means: Means, job_id: str) -> None:
        """Put all of them where `placed` says, or none. Upkeep removes them should the job never be accepted."""
        if not self.files:
            return
        means.unclaimed.note(f"inputs/{job_id}/")
        try:
            for name, data in self.files.items():
                means.storage.put(_key(job_id, name), data, CONTENT_TYPES["png"])
        except StorageError:
            self.remove(means.storage, job_id)
            raise

    def remove(self, storage: Storage, job_id: str) -> None:
        """Take back what `store` did; what the storage does not give up now, upkeep removes."""
        if self.files:
            with suppress(StorageError):
                storage.delete(_key(job_id, name) for name in self.files)


def _key(job_id: str, name: str) -> str:
    return f"inputs/{job_id}/{name.removeprefix('input_').removesuffix('_image')}.png"
