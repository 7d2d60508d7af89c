"""LoRA adapters: small weights laid over a model's, in a strength that the request chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

#: More share a picture rarely; each costs a few percent of rendering time.
MAX_LORAS = 4
#: Beyond this an adapter drowns the model; a negative scale turns its effect round.
MAX_LORA_SCALE = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """One `[[lora]]` entry of the catalog: an adapter that this farm offers."""

    id: str
    name: str
    #: Ids of the models that it was trained for.
    models: tuple[str, ...]
    #: A folder or model-hub id, like a model's, and the safetensors file in it.
    source: str
    file: str
    licence: str
    revision: str = "main"

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """The adapter of one `[[lora]]` table. Raises ValueError, naming the adapter and the key, for a wrong one."""
        name = table.get("id", "(an adapter without id)")
        if any(mark in name for mark in ":,@"):
            raise ValueError(f"catalog: {name}: an id must not contain ':', ',' or '@', which part keys and lanes")
        if unknown := table.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"catalog: {name}: unknown key {', '.join(sorted(unknown))}")
        if not str(table.get("file", "")).endswith(".safetensors"):
            raise ValueError(f"catalog: {name}: file must be the name of a safetensors file")
        try:
            return cls(**{**table, "models": tuple(table.get("models", ()))})
        except TypeError as error:
            raise ValueError(f"catalog: {name}: {error}") from error


@dataclass(frozen=True, slots=True)
class LoraUse:
    """An adapter in a request."""

    id: str
    scale: float

    def __str__(self) -> str:
        # All digits: of two that share a lane, the pictures are made with the same scale.
        return f"{self.id}@{float(self.scale)!r}"


def loras_by_model(loras: Iterable[Lora], models: Iterable[str]) -> dict[str, tuple[Lora, ...]]:
    """Each model's adapters. Raises ValueError for two of one id, and for one that no model or an unknown one takes."""
    found: dict[str, tuple[Lora, ...]] = dict.fromkeys(models, ())
    ids: set[str] = set()
    for lora in loras:
        if lora.id in ids:
            raise ValueError(f"catalog: two adapters are called {lora.id}")
        ids.add(lora.id)
        unknown = [model for model in lora.models if model not in found]
        if unknown or not lora.models:
            raise ValueError(f"catalog: {lora.id}: models must name models of this catalog, not {unknown}")
        for model in lora.models:
            found[model] += (lora,)
    return found


def chosen(asked: Iterable[Mapping[str, Any]], offered: Iterable[Lora], model: str) -> tuple[LoraUse, ...]:
    """The adapters that a request asks for, in the order of their ids: it makes no difference to the picture.

    Raises ValueError with the words for whoever asked for one that the model does not have, or for one twice.
    """
    known = {lora.id for lora in offered}
    uses: dict[str, LoraUse] = {}
    for entry in asked:
        id_ = entry["id"]
        if id_ not in known:
            raise ValueError(f"there is no adapter {id_!r} for {model}; there are {', '.join(sorted(known))}")
        if id_ in uses:
            raise ValueError(f"names {id_!r} twice; send it once, with the scale that is meant")
        scale = entry.get("scale")
        uses[id_] = LoraUse(id_, 1.0 if scale is None else scale)
    return tuple(uses[id_] for id_ in sorted(uses))
