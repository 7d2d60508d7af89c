"""The OpenAI images API, which AIGNE Hub speaks as well: generations and edits, under every base address in use."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from flask import Response, request
from marshmallow import ValidationError

from api.dialects.openai_errors import ERROR_SCHEMA
from api.dialects.openai_stream import stream_images
from api.dialects.rendering import render
from api.http import json_response
from api.json_body import read_json
from api.schemas.job import JobSchema
from api.schemas.openai import ImagesAnswerSchema
from api.services import services
from api.spec import Blueprint
from intake.field_errors import field_errors
from intake.input_images import MaskMeaning
from intake.means import Judging
from intake.openai import NAMES, edit_of_json, job_of
from intake.openai_bodies import EditBody, EditForm, GenerationBody
from shared.errors import RequestInvalid
from shared.images import Image
from shared.links import LINK_LIFETIME_S
from shared.openai_answers import images_answer, quality_of, wants_links

openai = Blueprint("openai", __name__, description="The OpenAI images API; its SDKs work unchanged.")

#: Base addresses of the OpenAI API and of AIGNE Hub.
_PREFIXES = ("/v1", "/api", "/api/v1", "/api/v2")
_PATHS = re.compile(r"/v1/images/(generations|edits|variations)/?|/api/.*", re.DOTALL)

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
        "content": {
            "application/json": {"schema": EditBody, "example": EditBody.EXAMPLE},
            "multipart/form-data": {"schema": EditForm},
        },
    },
)
def edit() -> Response:
    return _answer(_checked(edit_of_json, read_json(request)) if request.is_json else _edit_of_form(), "image_edit")


for _prefix in _PREFIXES:
    openai.route(f"{_prefix}/images/generations", methods=["POST"])(generate)
    openai.route(f"{_prefix}/images/edits", methods=["POST"])(edit)


# What comes in


def _edit_of_form() -> dict[str, Any]:
    form: dict[str, Any] = {name: _of_form(name, text) for name, text in request.form.items()}
    files = request.files
    # The SDK sends a list of images as `image[]`.
    if images := [file.read() for file in [*files.getlist("image"), *files.getlist("image[]")]]:
        form["image"] = images
    if masks := [file.read() for file in files.getlist("mask")]:
        form["mask"] = masks
    return _checked(EditForm().load, form)


def _of_form(name: str, text: str) -> Any:
    """A field of a form, where everything is text, as JSON would have it; what is no number is left to be refused."""
    if name in _FORM_INTEGERS and re.fullmatch(r"-?\d{1,20}", text, re.ASCII):
        return int(text)
    if name in _FORM_NUMBERS and re.fullmatch(r"-?\d{1,20}(\.\d{0,20})?", text, re.ASCII):
        return float(text)
    if name == "stream":
        return _FORM_BOOLEANS.get(text.lower(), text)
    return text


def _checked(load: Callable[[Any], dict[str, Any]], data: Any) -> dict[str, Any]:
    try:
        with Judging(services()):
            return load(data)
    except ValidationError as error:
        raise RequestInvalid(field_errors(error.messages)) from error


# What goes out


def _answer(body: dict[str, Any], kind: str) -> Response:
    if body.get("stream"):
        return stream_images(job_of(body), names=NAMES, kind=kind, quality=quality_of(body))
    as_links = wants_links(body)
    if as_links and not services().storage.presigns:
        services().links.check()
    rendered = render(job_of(body), names=NAMES, mask_meaning=MaskMeaning.TRANSPARENT)
    if not rendered.finished:
        return rendered.accepted()
    answer = images_answer(rendered.job, rendered.images, body, _link if as_links else _base64)
    return json_response(answer, 200, rendered.headers)


def _link(image: Image) -> dict[str, str]:
    farm = services()
    return {"url": farm.storage.presigned_url(image.key, LINK_LIFETIME_S) or farm.links.url(image)}


def _base64(image: Image) -> dict[str, str]:
    return {"b64_json": base64.b64encode(services().storage.get(image.key)).decode()}


def is_ours(path: str) -> bool:
    """Whether errors of the path have this API's shape; also of paths it has and we do not."""
    return _PATHS.fullmatch(path) is not None
