"""What the OpenAI images API answers, for those who answer at once and those who write it down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.images import Image
from shared.jobs import Job

DEFAULT_MODEL = "dall-e-2"
#: Nothing is counted in tokens here; the SDK insists on the numbers.
NO_USAGE = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}


def is_gpt(body: Mapping[str, Any]) -> bool:
    """Whether the model asked for is of the kind that answers with base64 and more members."""
    return (body.get("model") or DEFAULT_MODEL).startswith(("gpt-image", "chatgpt-image"))


def wants_links(body: Mapping[str, Any]) -> bool:
    asked = body.get("response_format")
    return asked == "url" if asked else not is_gpt(body)


def quality_of(body: Mapping[str, Any]) -> str:
    asked = body.get("quality")
    return asked if asked in {"low", "medium", "high"} else "auto"


def images_answer(
    job: Job, images: Sequence[Image], body: Mapping[str, Any], show: Callable[[Image], dict[str, str]]
) -> dict[str, Any]:
    """The answer to `body`, with each picture as `show` shows it."""
    answer: dict[str, Any] = {"created": int(job.created_at), "data": [show(image) for image in images]}
    if is_gpt(body):
        asked = job.request
        answer |= {
            "background": "opaque",
            "output_format": asked.output_format,
            "quality": quality_of(body),
            "size": f"{asked.width}x{asked.height}",
            "usage": NO_USAGE,
        }
    return answer
