"""The catalog: which models this farm serves, under which names.

One TOML file, read at start by the front door (limits, defaults) and by the workers (sources, schedulers).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from shared.errors import RequestInvalid
from shared.loras import Lora, loras_by_model
from shared.models import Mode, Model
from shared.settings import settings
from shared.wording import closest


class Catalog:
    """The models by id and alias."""

    def __init__(self, models: Iterable[Model], aliases: Mapping[str, str | Mapping[str, str]] | None = None) -> None:
        self.models = {model.id: model for model in models}
        self._names: dict[str, dict[Mode, Model]] = {}
        for model in self.models.values():
            for name in (model.id, *model.aliases):
                self._add(name, dict.fromkeys(Mode, model))
        for name, target in (aliases or {}).items():
            by_mode = dict.fromkeys(Mode, target) if isinstance(target, str) else target
            try:
                self._add(name, {Mode(mode): self.models[id_] for mode, id_ in by_mode.items()})
            except KeyError as error:
                raise ValueError(f"catalog: alias {name}: there is no model {error}") from error

    def _add(self, name: str, by_mode: dict[Mode, Model]) -> None:
        if name in self._names:
            raise ValueError(f"catalog: two models are called {name}")
        self._names[name] = by_mode

    @property
    def names(self) -> list[str]:
        """Every id and alias a request may use."""
        return list(self._names)

    @property
    def aliases(self) -> dict[str, dict[Mode, Model]]:
        """Names that are not ids, with the model each stands for in each mode."""
        return {name: by_mode for name, by_mode in self._names.items() if name not in self.models}

    def no_such_model(self, name: str) -> str:
        """What to tell who asked for a model that there is not."""
        meant = closest(name, self._names)
        hint = f" Did you mean {meant!r}?" if meant else ""
        return (
            f"There is no model {name!r}.{hint} There are {', '.join(self.models)}, also called "
            f"{', '.join(self.aliases)}."
        )

    def find(self, name: str, mode: Mode = Mode.TEXT_TO_IMAGE) -> Model:
        """The model called `name`; an alias may stand for different models in different modes.

        Raises RequestInvalid `unknown_model`, with the list of models, when there is none.
        """
        by_mode = self._names.get(name)
        if by_mode is None:
            detail = self.no_such_model(name)
            raise RequestInvalid({"model": [detail]}, code="unknown_model", detail=detail, models=list(self.models))
        return by_mode.get(mode) or next(iter(by_mode.values()))


def load_catalog(path: Path) -> Catalog:
    """The catalog of a TOML file. Raises ValueError saying what is wrong where."""
    with path.open("rb") as file:
        data = tomllib.load(file)
    models = [Model.from_table(table) for table in data.get("model", [])]
    loras = loras_by_model(map(Lora.from_table, data.get("lora", [])), [model.id for model in models])
    return Catalog((replace(model, loras=loras[model.id]) for model in models), data.get("aliases"))


@cache
def catalog() -> Catalog:
    """The catalog of this process."""
    return load_catalog(settings().catalog_path)
