"""The models this farm serves, for our own clients and for those of the OpenAI API."""

from __future__ import annotations

from typing import Any

from flask import Response

from api.dialects.openai_errors import ERROR_SCHEMA
from api.http import json_response
from api.schemas.model import ModelPageSchema, ModelSchema
from api.services import Services, services
from api.spec import Blueprint
from shared.errors import RendermillError
from shared.loras import MAX_LORA_SCALE, MAX_LORAS
from shared.models import GuidanceKind, Mode, Model
from shared.requests import DEFAULT_QUALITY, DEFAULT_STRENGTH, MAX_IMAGES, MAX_SEED, OUTPUT_FORMATS

models = Blueprint("models", __name__, description="What can be rendered, and how.")

#: The same models for clients whose base address is that of another dialect.
_PREFIXES = ("/v1", "/api", "/api/v1", "/api/v2")

_NEGATIVE_PROMPT_COST = {
    GuidanceKind.CLASSIFIER_FREE: "nothing: the model is evaluated twice a step anyway while guidance_scale is above 1",
    GuidanceKind.NEGATIVE_ONLY: "twice the rendering time: true classifier-free guidance is switched on",
}


@models.answers(200, "All models.", ModelPageSchema)
@models.describes(summary="List models")
def list_models() -> Response:
    farm = services()
    data = [_view(farm, model) for model in farm.catalog.models.values()]
    return json_response({"object": "list", "data": data})


@models.answers(200, "The model, also by an alias.", ModelSchema)
@models.describes(summary="Look at a model")
def get_model(model_id: str) -> Response:
    farm = services()
    if model_id not in farm.catalog.names:
        raise RendermillError("not_found", farm.catalog.no_such_model(model_id), models=list(farm.catalog.models))
    return json_response(_view(farm, farm.catalog.find(model_id)))


for _prefix in _PREFIXES:
    # Beside /v1 all errors have the OpenAI API's shape.
    _errors = models.refuses(401, 404) if _prefix == "/v1" else models.fails_with(ERROR_SCHEMA)
    models.route(f"{_prefix}/models", methods=["GET"])(_errors(list_models))
    models.route(f"{_prefix}/models/<path:model_id>", methods=["GET"])(_errors(get_model))


def _view(farm: Services, model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        # The OpenAI API tells when a model came; here that is when the catalog was last written.
        "created": farm.catalog_written_at,
        "owned_by": model.id.partition("/")[0],
        "name": model.name,
        "family": model.family,
        "modes": list(model.modes),
        "licence": model.licence,
        "aliases": _aliases(farm, model),
        "parameters": _parameters(model),
        "negative_prompt_cost": _NEGATIVE_PROMPT_COST.get(model.guidance.kind),
        "price": float(model.price),
        "batch_limit": model.batch_limit,
        "live_workers": farm.worker_count.serving(model.id),
    }


def _aliases(farm: Services, model: Model) -> dict[str, list[str]]:
    """The other names of the model, each with the modes in which it stands for it."""
    found = {
        name: [mode.value for mode, target in by_mode.items() if target is model and mode in model.modes]
        for name, by_mode in farm.catalog.aliases.items()
    }
    return {name: modes for name, modes in found.items() if modes}


def _parameters(model: Model) -> dict[str, dict[str, Any]]:
    """What a job of this model may say, with limits and defaults."""
    side = {
        "type": "integer",
        "default": model.size.default,
        "minimum": model.size.min,
        "maximum": model.size.max,
        "multiple_of": model.size.multiple_of,
        "rounded": model.size.round,
    }
    strengths = [DEFAULT_STRENGTH[mode] for mode in model.modes if mode is not Mode.TEXT_TO_IMAGE]
    known: dict[str, dict[str, Any]] = {
        "prompt": {"type": "string", "required": True},
        "negative_prompt": {"type": "string", "default": None},
        "width": {**side, "max_pixels": model.size.max_pixels},
        "height": {**side, "max_pixels": model.size.max_pixels},
        "num_steps": {
            "type": "integer",
            "default": model.num_steps.default,
            "minimum": model.num_steps.min,
            "maximum": model.num_steps.max,
        },
        "guidance_scale": {
            "type": "number",
            "default": model.guidance.default,
            "minimum": model.guidance.min,
            "maximum": model.guidance.max,
            "kind": model.guidance.kind,
        },
        "scheduler": {"type": "string", "default": model.scheduler.name, "enum": list(model.scheduler.names)},
        "loras": {
            "type": "array",
            "default": [],
            "max_items": MAX_LORAS,
            "enum": [{"id": lora.id, "name": lora.name, "licence": lora.licence} for lora in model.loras],
            "scale": {"default": 1, "minimum": -MAX_LORA_SCALE, "maximum": MAX_LORA_SCALE},
        },
        "seed": {"type": "integer", "default": None, "minimum": 0, "maximum": MAX_SEED},
        "n": {"type": "integer", "default": 1, "minimum": 1, "maximum": MAX_IMAGES},
        "input_image": {"type": "string", "required": Mode.TEXT_TO_IMAGE not in model.modes},
        "mask_image": {"type": "string", "required": model.modes == (Mode.INPAINTING,)},
        "strength": {"type": "number", "default": strengths[0] if strengths else None, "minimum": 0.01, "maximum": 1},
    }
    shown = {name: limits for name, limits in known.items() if name in model.parameters}
    shown["output_format"] = {"type": "string", "default": "jpeg", "enum": list(OUTPUT_FORMATS)}
    shown["output_quality"] = {"type": "integer", "default": DEFAULT_QUALITY, "minimum": 1, "maximum": 100}
    return shown
