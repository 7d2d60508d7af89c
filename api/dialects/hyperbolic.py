"""The Hyperbolic image API: `POST /v1/image/generation`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from flask import Response
from marshmallow import Schema, ValidationError, fields, validates_schema

from api.dialects.rendering import Rendered, render
from api.errors import Problem, error_response, error_type
from api.http import json_response
from api.schemas.job import JobSchema
from api.services import services
from api.spec import Blueprint
from intake.fields import MAX_PROMPT, Bool, Int, Number, Text, choice
from intake.job_body import MAX_GUIDANCE, MAX_MODEL_NAME, MAX_SIDE, MAX_STEPS, image_text
from intake.strict import Strict
from shared.requests import MAX_SEED

hyperbolic = Blueprint("hyperbolic", __name__, description="The Hyperbolic API's way to a picture.")

PATH = "/v1/image/generation"

#: Its two generations of names for the same field: a request uses one of each pair.
_PAIRS = (("num_steps", "steps"), ("guidance_scale", "cfg_scale"))
#: Fields of a job, as its clients call them.
_NAMES = {"model": "model_name"}
#: Inpainting goes on from its own results, which must not lose anything.
_ALWAYS = {"output_format": "png"}


class HyperbolicBody(Strict):
    EXAMPLE = {  # noqa: RUF012 - read only
        "model_name": "SDXL1.0-base",
        "prompt": "a lighthouse at dusk",
        "width": 512,
        "height": 512,
    }

    model_name = Text(max=MAX_MODEL_NAME, required=True)
    prompt = Text(max=MAX_PROMPT, required=True)
    negative_prompt = Text(min=0, max=MAX_PROMPT, allow_none=True)
    width = Int(min=1, max=MAX_SIDE, allow_none=True)
    height = Int(min=1, max=MAX_SIDE, allow_none=True)
    num_steps = Int(min=1, max=MAX_STEPS, allow_none=True)
    steps = Int(min=1, max=MAX_STEPS, allow_none=True, metadata={"description": "Another name of `num_steps`."})
    guidance_scale = Number(min=0, max=MAX_GUIDANCE, allow_none=True)
    cfg_scale = Number(
        min=0, max=MAX_GUIDANCE, allow_none=True, metadata={"description": "Another name of `guidance_scale`."}
    )
    seed = Int(min=0, max=MAX_SEED, allow_none=True)
    input_image = image_text(allow_none=True)
    mask_image = image_text(allow_none=True, metadata={"description": "White pixels are repainted."})
    strength = Number(min=0.01, max=1, allow_none=True)
    backend = choice(
        "auto", "tvm", "torch", allow_none=True, metadata={"description": "Accepted, and without effect: all is torch."}
    )
    enable_refiner = Bool(allow_none=True, metadata={"description": "Only false: there is no refiner."})

    @validates_schema(skip_on_field_errors=False)
    def check_one_of_each_pair(self, data: Mapping[str, Any], **_: Any) -> None:
        for name, other in _PAIRS:
            if data.get(name) is not None and data.get(other) is not None and data[name] != data[other]:
                raise ValidationError(f"is the same as {name}; send one of them", other)

    @validates_schema(skip_on_field_errors=False)
    def check_no_refiner(self, data: Mapping[str, Any], **_: Any) -> None:
        if data.get("enable_refiner"):
            raise ValidationError("there is no refiner here; leave it out", "enable_refiner")


class HyperbolicImageSchema(Schema):
    index = fields.Integer(required=True)
    image = fields.String(required=True, metadata={"description": "Base64 of a PNG file."})
    b64_json = fields.String(required=True, metadata={"description": "The same."})
    random_seed = fields.Integer(required=True)


class HyperbolicAnswerSchema(Schema):
    images = fields.List(fields.Nested(HyperbolicImageSchema), required=True)
    inference_time = fields.Float(required=True, metadata={"description": "Seconds of rendering."})


@hyperbolic.route(PATH, methods=["POST"])
@hyperbolic.body(HyperbolicBody)
@hyperbolic.answers(200, "The images.", HyperbolicAnswerSchema)
@hyperbolic.answers(202, "The job, for a client that does not wait.", JobSchema)
@hyperbolic.fails_with(
    {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "code": {"type": "string"},
                    "errors": {"type": "object"},
                },
            }
        },
    },
)
@hyperbolic.describes(summary="Generate an image")
def generate(body: dict[str, Any]) -> Response:
    names = dict(_NAMES)
    job = {name: body.pop(name) for name in body.keys() - {"model_name", "backend", "enable_refiner"}}
    for name, other in _PAIRS:
        if job.get(name) is None and job.get(other) is not None:
            job[name], names[name] = job[other], other
        job.pop(other, None)
    rendered = render({**job, **_ALWAYS, "model": body["model_name"]}, names=names)
    return _answer(rendered) if rendered.finished else rendered.accepted()


def _answer(rendered: Rendered) -> Response:
    storage = services().storage
    images = []
    for index, image in enumerate(rendered.images):
        text = base64.b64encode(storage.get(image.key)).decode()
        images.append({"index": index, "image": text, "b64_json": text, "random_seed": image.seed})
    seconds = rendered.job.timings.get("render_s", 0.0)
    return json_response({"images": images, "inference_time": seconds}, 200, rendered.headers)


def is_ours(path: str) -> bool:
    return path.rstrip("/") == PATH


def error_shape(problem: Problem) -> Response:
    """An `error` with `message`, `type` and `code`; and every wrong field, which the original does not tell."""
    error: dict[str, Any] = {
        "message": problem.detail,
        "type": error_type(problem.status),
        "code": problem.code,
        **problem.extra,
    }
    if problem.errors:
        error["message"] = "; ".join(f"{name}: {', '.join(words)}" for name, words in problem.errors.items())
        error["errors"] = problem.errors
    return error_response(problem, {"error": error})
