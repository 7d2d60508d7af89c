"""Pictures from strangers: judged by their content, bounded before they are decoded, and made alike."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageOps, UnidentifiedImageError

from shared.settings import Settings

# Ours is the check against decompression bombs: it uses the setting, and refuses instead of warning.
Image.MAX_IMAGE_PIXELS = None

#: What the pictures' content may be, whatever their names or headers say.
_FORMATS = ("PNG", "JPEG", "WEBP")
#: Pictures decoded at the same time in one process: each may take several hundred megabytes.
_DECODING = threading.BoundedSemaphore(2)
#: Level 1 of 9: inputs are read once, and the default would cost half a second of CPU a picture.
_PNG_COMPRESSION = 1


class BadPicture(Exception):
    """The bytes are no picture that is taken here; the message says why."""


@contextmanager
def opened(data: bytes, settings: Settings) -> Iterator[Image.Image]:
    """The picture of these bytes, its header read and its pixels not yet decoded.

    Raises BadPicture, also for what turns out damaged within the `with` block.
    """
    if len(data) > settings.max_input_bytes:
        raise BadPicture(f"is {len(data)} bytes; at most {settings.max_input_bytes} are taken")
    with _DECODING:
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                pixels = picture.width * picture.height
                if pixels > settings.max_input_pixels:
                    raise BadPicture(
                        f"is {picture.width}x{picture.height}, {pixels} pixels; "
                        f"at most {settings.max_input_pixels} are taken"
                    )
                yield picture
        except UnidentifiedImageError as error:
            raise BadPicture("is no PNG, JPEG or WebP picture") from error
        except (OSError, SyntaxError, ValueError, EOFError, OverflowError) as error:
            # What Pillow raises for files that are cut short or damaged.
            raise BadPicture(f"is damaged: {error}") from error


def is_animated(picture: Image.Image) -> bool:
    return bool(getattr(picture, "is_animated", False))


def as_rgb(picture: Image.Image) -> Image.Image:
    """Upright, 8 bits a channel, without transparency: what lies under it is shown on white."""
    return _flattened(picture, "white").convert("RGB")


def as_mask(picture: Image.Image) -> Image.Image:
    """A grey picture whose white is to be repainted; what is transparent counts as black."""
    return _flattened(picture, "black").convert("L")


def _flattened(picture: Image.Image, background: str) -> Image.Image:
    """Upright, 8 bits a channel, with the background where it is transparent."""
    upright = _eight_bit(ImageOps.exif_transpose(picture))
    if not upright.has_transparency_data:
        return upright
    rgba = upright.convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, background)
    canvas.alpha_composite(rgba)
    return canvas


def as_mask_by_transparency(picture: Image.Image) -> Image.Image:
    """A grey picture whose white is where `picture` is transparent: the OpenAI API's way. Raises BadPicture."""
    upright = ImageOps.exif_transpose(picture)
    if not upright.has_transparency_data:
        raise BadPicture("has no transparency; make transparent what is to be edited")
    return ImageOps.invert(upright.convert("RGBA").getchannel("A"))


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits becomes grey of 8; Pillow would cut off instead of scaling. (Colours of 16 it reads as 8.)"""
    if not picture.mode.startswith("I"):
        return picture
    return picture.convert("I").point(lambda value: value * (1 / 257) + 0).convert("L")


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=_PNG_COMPRESSION)
    return buffer.getvalue()
