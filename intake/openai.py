"""The OpenAI images API as jobs: its names for our fields, and what it asks of the answer."""

from __future__ import annotations

from typing import Any

from intake.openai_bodies import EditBody
from shared.openai_answers import DEFAULT_MODEL

#: Fields of a job, as this API calls them.
NAMES = {
    "width": "size",
    "height": "size",
    "num_steps": "num_inference_steps",
    "output_quality": "output_compression",
    "input_image": "image",
    "mask_image": "mask",
}


def edit_of_json(data: Any) -> dict[str, Any]:
    """The checked fields of an edit's JSON body, its images named as a form names them. Raises ValidationError."""
    body: dict[str, Any] = EditBody().load(data)
    references = {"image": body.pop("images")[0], "mask": body.pop("mask", None)}
    images = {name: next(iter(reference.values())) for name, reference in references.items() if reference}
    return {**body, **images}


def job_of(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of a job. The images leave `body`, so that they are kept no longer than they are needed."""
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
