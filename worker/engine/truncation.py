"""Telling who wrote a prompt that is longer than its model reads: the encoders take what fits, and say nothing."""

from __future__ import annotations

from typing import Any

from shared.models import Model
from shared.requests import RenderRequest

#: Characters that are shown of what is read last.
_SHOWN = 30


def truncation_warnings(tokenizer: Any, limit: int, model: Model, request: RenderRequest) -> list[str]:
    """What of the request's prompts has no effect where `limit` tokens are read, in words for a job's warnings."""
    prompts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt or ""}
    tokens = {name: tokenizer(text, truncation=False, verbose=False)["input_ids"] for name, text in prompts.items()}
    return [
        f"{name} has {len(ids)} tokens, of which {model.id} reads {limit}: what follows "
        f"{_last_words(tokenizer, ids[: limit - 1])!r} has no effect"
        for name, ids in tokens.items()
        if len(ids) > limit
    ]


def _last_words(tokenizer: Any, ids: list[int]) -> str:
    """The end of what is read, as the tokenizer spells it. (The last token that is read only ends the text.)"""
    spelled: str = tokenizer.decode(ids, skip_special_tokens=True)
    return spelled.strip()[-_SHOWN:]
