"""Telling who wrote a prompt that is longer than its model reads: the encoders take what fits, and say nothing."""

from __future__ import annotations

from typing import Any

from shared.models import Model
from shared.requests import RenderRequest

#: Characters that are shown of what is read last.
_SHOWN = 30


def truncation_warnings(tokenizer: Any, model: Model, request: RenderRequest) -> list[str]:
    """What of the request's prompts has no effect, in words for a job's warnings."""
    limit = min(tokenizer.model_max_length, model.max_prompt_tokens)
    prompts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt or ""}
    return [
        f"{name} has {tokens} tokens, of which {model.id} reads {limit}: what follows "
        f"{text[max(0, end - _SHOWN) : end]!r} has no effect"
        for name, text in prompts.items()
        for tokens, end in [_read(tokenizer, text, limit)]
        if tokens > limit
    ]


def _read(tokenizer: Any, text: str, limit: int) -> tuple[int, int]:
    """How many tokens a text has, with those that begin and end it, and where of `limit` of them the text ends."""
    tokens = tokenizer(text, truncation=False, return_offsets_mapping=True, verbose=False)
    places = tokens["offset_mapping"]
    # The last one of those that are read ends the text, and stands for none of it.
    return len(places), places[min(len(places), limit) - 2][1] if len(places) > 1 else 0
