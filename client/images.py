"""Pictures: what the farm knows of them, and their files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from client.errors import NotLoaded
from client.files import write
from client.notebook import picture, table

#: What ids and formats are made of: files are named after them.
_WORD = re.compile(r"\w+", re.ASCII)
#: Gives the file of an image id.
Load = Callable[[str], bytes]


@dataclass(frozen=True, kw_only=True)
class Image:
    """One finished picture. `size` is in bytes; `url` is set while it is public.

    `content` is its file. A Client's images fetch it when it is asked for; an AsyncClient's have it after
    `await farm.fetch(images)`.
    """

    id: str
    name: str | None
    url: str | None
    width: int
    height: int
    format: str
    size: int
    created_at: str
    seed: int | None
    model: str | None
    job_id: str | None
    #: Gives the file.
    load: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], load: Load | None = None) -> Self:
        known: dict[str, Any] = {f.name: data.get(f.name) for f in fields(cls)}
        id_ = data["id"]
        if not (_WORD.fullmatch(id_) and _WORD.fullmatch(data["format"])):
            raise ValueError(f"that a picture is called {id_}.{data['format']}")
        known["load"] = cache(lambda: load(id_)) if load else None
        return cls(**known)

    @property
    def content(self) -> bytes:
        """The picture's file. Raises NotLoaded, or whatever fetching it raises."""
        if self.load is None:
            raise NotLoaded(f"{self.id} is not fetched; 'await farm.fetch(images)' gives it with its file")
        return self.load()

    def holding(self, content: bytes) -> Self:
        """The same with its file."""
        return replace(self, load=lambda: content)

    def save(self, path: str | Path) -> Path:
        """Write the file to `path`, or into that folder under its id; where it is."""
        file = Path(path)
        if file.is_dir():
            file /= f"{self.id}.{self.format}"
        write(file, self.content)
        return file

    def _repr_html_(self) -> str:
        caption = f"{self.name or self.id} · {self.width}×{self.height} · seed {self.seed}"
        return table([[caption]]) if self.load is None else picture(self.content, self.format, caption)


class Images(list[Image]):
    """Pictures that are saved, and shown in a notebook, together."""

    def save(self, folder: str | Path) -> list[Path]:
        """Write all files into the folder, which is made where there is none; where they are."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        return [image.save(folder) for image in self]

    def _repr_html_(self) -> str:
        return "".join(image._repr_html_() for image in self) or "no pictures"

    @classmethod
    def from_json(cls, data: Iterable[Mapping[str, Any]], load: Load | None = None) -> Self:
        return cls(Image.from_json(one, load) for one in data)
