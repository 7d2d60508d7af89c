"""The pictures in an answer of the farm, whichever dialect it was given in."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from client import Client, ClientError

#: Sides of a thumbnail and of the line below it, in pixels.
THUMBNAIL, CAPTION, GAP = 240, 22, 12
COLUMNS = 4
_NOT_A_WORD = re.compile(r"[^a-z0-9]+")


class PictureError(ClientError):
    """An answer that does not hold what it should."""


def pictures_of(answer: Mapping[str, Any], farm: Client) -> list[bytes]:
    """The files that `answer` holds or refers to. Raises PictureError where there is none."""
    match answer:
        case {"object": "job", "images": [_, *_] as images}:
            return [farm.download(image["id"]) for image in images]
        case {"images": [_, *_] as images}:
            return [base64.b64decode(image["image"]) for image in images]
        case {"data": [_, *_] as data}:
            return [_openai_picture(item) for item in data]
        case {"id": str(image_id), "format": str()}:
            return [farm.download(image_id)]
    raise PictureError(f"the answer holds no picture: {str(answer)[:200]}")


def _openai_picture(item: Mapping[str, Any]) -> bytes:
    if item.get("b64_json"):
        return base64.b64decode(item["b64_json"])
    # Without the key: such a link is for whoever has it.
    response = httpx.get(item["url"], follow_redirects=True, timeout=30)
    if response.is_error:
        raise PictureError(f"{item['url']} answers {response.status_code}")
    return response.content


def save(pictures: Sequence[bytes], out: Path, number: int, title: str) -> list[Path]:
    """Write the pictures to `out`, named after their line. Raises PictureError for a file that is no picture."""
    words = _NOT_A_WORD.sub("-", title.lower()).strip("-")[:40].strip("-")
    files = []
    for index, data in enumerate(pictures):
        try:
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
                suffix = str(picture.format).lower()
        except (UnidentifiedImageError, OSError) as error:
            raise PictureError(f"picture {index} cannot be opened: {error}") from error
        file = out / f"{number:02d}-{words}-{index}.{suffix}"
        file.write_bytes(data)
        files.append(file)
    return files


def contact_sheet(captioned: Sequence[tuple[Path, str]], file: Path) -> None:
    """One picture of all the pictures, each with its caption."""
    rows = -(-len(captioned) // COLUMNS)
    cell_width, cell_height = THUMBNAIL + GAP, THUMBNAIL + CAPTION + GAP
    sheet = Image.new("RGB", (COLUMNS * cell_width + GAP, rows * cell_height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for place, (path, caption) in enumerate(captioned):
        left = GAP + place % COLUMNS * cell_width
        top = GAP + place // COLUMNS * cell_height
        with Image.open(path) as picture:
            thumbnail = picture.convert("RGB")
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
        sheet.paste(thumbnail, (left + (THUMBNAIL - thumbnail.width) // 2, top + THUMBNAIL - thumbnail.height))
        while draw.textlength(caption, font=font) > THUMBNAIL:
            caption = caption[:-2].rstrip("…") + "…"
        draw.text((left, top + THUMBNAIL + 4), caption, fill="black", font=font)
    sheet.save(file, quality=90)
