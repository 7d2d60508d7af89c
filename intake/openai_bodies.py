"""The bodies of the OpenAI images API, as its SDKs and AIGNE Hub's clients send them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, pre_load, validates_schema

from intake.fields import MAX_PROMPT, Bool, Int, Number, Text, choice
from intake.job_body import MAX_GUIDANCE, MAX_MODEL_NAME, MAX_STEPS, image_text
from intake.strict import Strict
from shared.requests import MAX_IMAGES, MAX_SEED, OUTPUT_FORMATS

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
#: What AIGNE Hub's own clients call two of the fields.
_CAMEL_CASE = {"responseFormat": "response_format", "outputFormat": "output_format"}
#: A small red square.
_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mP8z4AdMDEMKQkAzUEBD7t4NqoAAAAASUVO"
    "RK5CYII="
)
_NO_EFFECT = "Accepted, and without effect."


def in_snake_case(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the names of AIGNE Hub's clients put right."""
    return {_CAMEL_CASE.get(name, name): value for name, value in body.items()}


class Size(fields.Field[tuple[int, int] | None]):
    """`auto`, which is the model's own size, or width and height."""

    def __init__(self, **options: Any) -> None:
        pattern = rf"^(auto|{_SIZE.pattern})$"
        super().__init__(metadata={"type": "string", "pattern": pattern}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[int, int] | None:
        if value == "auto":
            return None
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValidationError("must be 'auto', or width and height such as '1024x1024'")
        return int(match[1]), int(match[2])


class OneImage(fields.Field[Any]):
    """An image, or a list of one; or the bytes of an uploaded file."""

    def __init__(self, **options: Any) -> None:
        text = {"type": "string", "minLength": 1}
        anyof = [text, {"type": "array", "items": text, "minItems": 1, "maxItems": 1}]
        super().__init__(metadata={"anyOf": anyof, **options.pop("metadata", {})}, **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str | bytes:
        images = value if isinstance(value, list) else [value]
        if len(images) != 1:
            raise ValidationError(f"must be one image; these are {len(images)}")
        if isinstance(images[0], bytes):
            return images[0]
        text = image_text().deserialize(images[0])
        assert text is not None, "the field allows no null"
        return text


class _ImageFields(Strict):
    """What generations and edits have in common."""

    prompt = Text(max=MAX_PROMPT, required=True)
    model = Text(max=MAX_MODEL_NAME, allow_none=True, metadata={"description": "`dall-e-2` if absent."})
    n = Int(min=1, max=MAX_IMAGES, allow_none=True)
    size = Size(allow_none=True)
    response_format = choice(
        "url", "b64_json", allow_none=True, metadata={"description": "`url` if absent; GPT image models: `b64_json`."}
    )
    output_format = choice(*OUTPUT_FORMATS, allow_none=True, metadata={"description": "`png` if absent."})
    output_compression = Int(min=0, max=100, allow_none=True, metadata={"description": "The quality of JPEG and WebP."})
    background = choice(
        "opaque", "auto", "transparent", allow_none=True, metadata={"description": "`transparent` is refused."}
    )
    stream = Bool(allow_none=True)
    partial_images = Int(min=0, max=3, allow_none=True, metadata={"description": "Accepted; none are sent."})
    quality = choice(
        *("standard", "hd", "low", "medium", "high", "auto"), allow_none=True, metadata={"description": _NO_EFFECT}
    )
    style = choice("vivid", "natural", allow_none=True, metadata={"description": _NO_EFFECT})
    moderation = choice("low", "auto", allow_none=True, metadata={"description": _NO_EFFECT})
    input_fidelity = choice("low", "high", allow_none=True, metadata={"description": _NO_EFFECT})
    user = Text(min=0, max=1000, allow_none=True, metadata={"description": _NO_EFFECT})
    # Ours, under the names that other servers of this API gave them.
    negative_prompt = Text(min=0, max=MAX_PROMPT, allow_none=True)
    num_inference_steps = Int(min=1, max=MAX_STEPS, allow_none=True)
    guidance_scale = Number(min=0, max=MAX_GUIDANCE, allow_none=True)
    seed = Int(min=0, max=MAX_SEED, allow_none=True, metadata={"description": "Image i uses seed + i."})

    @pre_load
    def take_camel_case(self, data: Any, **_: Any) -> Any:
        return in_snake_case(data) if isinstance(data, Mapping) else data

    @validates_schema(skip_on_field_errors=False)
    def check_background(self, data: Mapping[str, Any], **_: Any) -> None:
        if data.get("background") == "transparent":
            raise ValidationError("no model here makes transparent pictures; use 'opaque' or 'auto'", "background")

    @validates_schema(skip_on_field_errors=False)
    def check_last_seed(self, data: Mapping[str, Any], **_: Any) -> None:
        if (data.get("seed") or 0) + (data.get("n") or 1) - 1 > MAX_SEED:
            raise ValidationError(f"seed + n - 1 must not exceed {MAX_SEED}", "seed")


class GenerationBody(_ImageFields):
    EXAMPLE = {  # noqa: RUF012 - read only
        "model": "sdxl-lightning",
        "prompt": "a lighthouse at dusk",
        "size": "512x512",
        "response_format": "b64_json",
    }

    image = OneImage(allow_none=True, metadata={"description": "An image to start from: this makes it an edit."})


class EditForm(_ImageFields):
    """An edit, once a form's or a JSON body's way of naming images is out of the way."""

    image = OneImage(required=True)
    mask = OneImage(allow_none=True, metadata={"description": "Transparent pixels are repainted."})


class _ImageReference(Strict):
    image_url = image_text(metadata={"description": "An https URL or a data URL."})
    file_id = Text(max=100, metadata={"description": "The id of an uploaded image."})

    @validates_schema(skip_on_field_errors=False)
    def check_one(self, data: Mapping[str, Any], **_: Any) -> None:
        if len(data) != 1:
            raise ValidationError("must have either image_url or file_id")


class EditBody(_ImageFields):
    """The JSON form of an edit."""

    EXAMPLE = {  # noqa: RUF012 - read only
        "model": "sdxl-lightning",
        "prompt": "the same in autumn",
        "images": [{"image_url": _PICTURE}],
        "response_format": "b64_json",
    }

    images = fields.List(fields.Nested(_ImageReference), required=True, metadata={"minItems": 1, "maxItems": 1})
    mask = fields.Nested(_ImageReference, allow_none=True)

    @validates_schema(skip_on_field_errors=False)
    def check_number(self, data: Mapping[str, Any], **_: Any) -> None:
        if "images" in data and len(data["images"]) != 1:
            raise ValidationError(f"must be one image; these are {len(data['images'])}", "images")
