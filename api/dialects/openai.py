"""The OpenAI images API, which AIGNE Hub speaks as well: generations and edits, under every base address in use."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from flask import Response, request
from marshmallow import Schema, ValidationError

from api.dialects.openai_errors import ERROR_SCHEMA
from api.dialects.openai_stream import NO_USAGE, stream_images
from api.dialects.rendering import Rendered, render
from api.field_errors import field_errors
from api.http import json_response
from api.input_images import MaskMeaning
from api.json_body import read_json
from api.links import LINK_LIFETIME_S
from api.schemas.job import JobSchema
from api.schemas.openai import EditBody, EditForm, GenerationBody, ImagesAnswerSchema
from api.services import services
from api.spec import Blueprint
from shared.errors import RequestInvalid
from shared.images import Image

openai = Blueprint("openai", __name__, description="The OpenAI images API; its SDKs work unchanged.")

#: Base addresses of the OpenAI API and of AIGNE Hub.
_PREFIXES = ("/v1", "/api", "/api/v1", "/api/v2")
_PATHS = re.compile(r"/v1/images/(generations|edits|variations)/?|/api/.*")

DEFAULT_MODEL = "dall-e-2"
#: Fields of a job, as this API calls them.
_NAMES = {
    "width": "size",
    "height": "size",
    "num_steps": "num_inference_steps",
    "output_quality": "output_compression",
    "input_image": "image",
    "mask_image": "mask",
}
#: Fields of a form that are no text.
_FORM_INTEGERS = ("n", "output_compression", "partial_images", "num_inference_steps", "seed")
_FORM_NUMBERS = ("guidance_scale",)
_FORM_BOOLEANS = {"true": True, "false": False}


@openai.body(GenerationBody)
@openai.answers(200, "The images.", ImagesAnswerSchema)
@openai.answers(202, "The job, for a client that does not wait.", JobSchema)
@openai.fails_with(ERROR_SCHEMA)
@openai.describes(summary="Generate images")
def generate(body: dict[str, Any]) -> Response:
    return _answer(body, "image_generation")


@openai.answers(200, "The images.", ImagesAnswerSchema)
@openai.answers(202, "The job, for a client that does not wait.", JobSchema)
@openai.fails_with(ERROR_SCHEMA)
@openai.describes(
    summary="Edit an image",
    requestBody={
        "required": True,
        "content": {"multipart/form-data": {"schema": EditForm}, "application/json": {"schema": EditBody}},
    },
)
def edit() -> Response:
    return _answer(_edit_of_json() if request.is_json else _edit_of_form(), "image_edit")


for _prefix in _PREFIXES:
    openai.route(f"{_prefix}/images/generations", methods=["POST"])(generate)
    openai.route(f"{_prefix}/images/edits", methods=["POST"])(edit)


# What comes in


def _edit_of_json() -> dict[str, Any]:
    body = _load(EditBody, read_json(request))
    references = {"image": body.pop("images")[0], "mask": body.pop("mask", None)}
    images = {name: next(iter(reference.values())) for name, reference in references.items() if reference}
    return {**body, **images}


def _edit_of_form() -> dict[str, Any]:
    form: dict[str, Any] = {name: _of_form(name, text) for name, text in request.form.items()}
    files = request.files
    # The SDK sends a list of images as `image[]`.
    if images := [file.read() for file in [*files.getlist("image"), *files.getlist("image[]")]]:
        form["image"] = images
    if masks := [file.read() for file in files.getlist("mask")]:
        form["mask"] = masks
    return _load(EditForm, form)


def _of_form(name: str, text: str) -> Any:
    """A field of a form, where everything is text, as JSON would have it; what is no number is left to be refused."""
    if name in _FORM_INTEGERS and re.fullmatch(r"-?\d{1,20}", text, re.ASCII):
        return int(text)
    if name in _FORM_NUMBERS and re.fullmatch(r"-?\d{1,20}(\.\d{0,20})?", text, re.ASCII):
        return float(text)
    if name == "stream":
        return _FORM_BOOLEANS.get(text.lower(), text)
    return text


def _load(schema: type[Schema], data: Any) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema().load(data)
    except ValidationError as error:
        raise RequestInvalid(field_errors(error.messages)) from error
    return loaded


def _job(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of a job. The images leave `body`: they are kept no longer than `submit` needs them."""
    width, height = body.get("size") or (None, None)
    quality = body.get("output_compression")
    return {
        "model": body.get("model") or DEFAULT_MODEL,
        "prompt": body["prompt"],
        "negative_prompt": body.get("negative_prompt"),
        "width": width,
        "height": height,
        "num_steps": body.get("num_inference_steps"),
        "guidance_scale": body.get("guidance_scale"),
        "seed": body.get("seed"),
        "n": body.get("n"),
        "input_image": body.pop("image", None),
        "mask_image": body.pop("mask", None),
        "output_format": body.get("output_format") or "png",
        # Theirs begins at 0, ours at 1.
        "output_quality": None if quality is None else max(1, quality),
    }


# What goes out


def _answer(body: dict[str, Any], kind: str) -> Response:
    if body.get("stream"):
        return stream_images(_job(body), names=_NAMES, kind=kind, quality=_quality(body))
    as_links = _wants_links(body)
    if as_links and not services().storage.presigns:
        services().links.check()
    rendered = render(_job(body), names=_NAMES, mask_meaning=MaskMeaning.TRANSPARENT)
    if not rendered.finished:
        return rendered.accepted()
    return json_response(_images(rendered, body, as_links), 200, rendered.headers)


def _is_gpt(body: Mapping[str, Any]) -> bool:
    return (body.get("model") or DEFAULT_MODEL).startswith(("gpt-image", "chatgpt-image"))


def _wants_links(body: Mapping[str, Any]) -> bool:
    asked = body.get("response_format")
    return asked == "url" if asked else not _is_gpt(body)


def _quality(body: Mapping[str, Any]) -> str:
    asked = body.get("quality")
    return asked if asked in {"low", "medium", "high"} else "auto"


def _images(rendered: Rendered, body: Mapping[str, Any], as_links: bool) -> dict[str, Any]:
    show = _link if as_links else _base64
    answer: dict[str, Any] = {
        "created": int(rendered.job.created_at),
        "data": [show(image) for image in rendered.images],
    }
    if _is_gpt(body):
        asked = rendered.job.request
        answer |= {
            "background": "opaque",
            "output_format": asked.output_format,
            "quality": _quality(body),
            "size": f"{asked.width}x{asked.height}",
            "usage": NO_USAGE,
        }
    return answer


def _link(image: Image) -> dict[str, str]:
    farm = services()
    return {"url": farm.storage.presigned_url(image.key, LINK_LIFETIME_S) or farm.links.url(image)}


def _base64(image: Image) -> dict[str, str]:
    return {"b64_json": base64.b64encode(services().storage.get(image.key)).decode()}


def is_ours(path: str) -> bool:
    """Whether errors of the path have this API's shape; also of paths it has and we do not."""
    return _PATHS.fullmatch(path) is not None
