"""How objects show themselves in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """A table of plain texts."""
    headings = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>" if head else ""
    cells = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table>{headings}{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def picture(data: bytes, image_format: str, caption: str) -> str:
    """A picture with its file in it, so that the notebook shows it also where there is no farm."""
    source = f"data:image/{image_format};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure style="display:inline-block;margin:4px"><img src="{source}" style="max-width:512px"/>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def bar(done: int, failed: int, total: int) -> str:
    """How far something is."""
    return f'<progress max="{max(total, 1)}" value="{done + failed}"></progress> {done + failed:,} of {total:,}'
