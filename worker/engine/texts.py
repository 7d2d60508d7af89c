"""What the text encoders make of prompts, kept for those that come again: negative prompts, templates, retries.

Everything is kept by the encoders that made it. Networks that come and go take their texts with them: a number stands
for each, and is never given to another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from weakref import WeakKeyDictionary

import torch
from diffusers import DiffusionPipeline

from shared.loras import LoraUse
from shared.models import Model
from worker import metrics

#: What a prompt becomes: its tokens, shaped (tokens, width), and the whole of it, shaped (width).
Encoding = tuple[torch.Tensor, torch.Tensor]
#: Encodes prompts by a pipeline's own means, stacked; a family's affair.
Encode = Callable[[DiffusionPipeline, Model, Sequence[str]], Encoding]
_Key = tuple[tuple[int, ...], int, tuple[LoraUse, ...], str]

_ENCODERS = ("text_encoder", "text_encoder_2")


class TextCache:
    """Encodings on their device, within a limit of bytes; those longest without use give way."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[_Key, Encoding] = OrderedDict()
        self._bytes = 0
        self._numbers: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()
        self._next_number = count()

    @property
    def bytes_kept(self) -> int:
        return self._bytes

    def encodings(
        self,
        pipeline: DiffusionPipeline,
        model: Model,
        loras: tuple[LoraUse, ...],
        texts: Sequence[str],
        encode: Encode,
    ) -> dict[str, Encoding]:
        """The encoding of each text. Those that are not known are encoded together, each once."""
        encoders = tuple(self._number(getattr(pipeline, name)) for name in _ENCODERS)
        keys: dict[str, _Key] = {text: (encoders, model.max_prompt_tokens, loras, text) for text in texts}
        found = {text: self._kept[key] for text, key in keys.items() if key in self._kept}
        unknown = [text for text in keys if text not in found]
        metrics.TEXTS.labels(model.id, "hit").inc(len(found))
        metrics.TEXTS.labels(model.id, "miss").inc(len(unknown))
        for text in found:
            self._kept.move_to_end(keys[text])
        if unknown:
            for text, tokens, whole in zip(unknown, *encode(pipeline, model, unknown), strict=True):
                # Copied, for a part of a stack keeps all of the stack in memory.
                found[text] = (tokens.clone(), whole.clone())
                self._keep(keys[text], found[text])
        return found

    def clear(self) -> bool:
        """Give the memory back; False where there is nothing to give."""
        had_some = bool(self._kept)
        self._kept.clear()
        self._bytes = 0
        return had_some

    def _keep(self, key: _Key, encoding: Encoding) -> None:
        self._kept[key] = encoding
        self._bytes += _size(key, encoding)
        while self._bytes > self._limit:
            self._bytes -= _size(*self._kept.popitem(last=False))

    def _number(self, encoder: torch.nn.Module) -> int:
        if encoder not in self._numbers:
            self._numbers[encoder] = next(self._next_number)
        return self._numbers[encoder]


def _size(key: _Key, encoding: Encoding) -> int:
    """Bytes, with those of the text at their most."""
    return sum(part.nbytes for part in encoding) + 4 * len(key[-1])
