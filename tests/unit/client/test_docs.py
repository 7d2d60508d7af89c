"""The page of the Python client is true: its code runs, and its errors are those there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from client import errors

PAGE = (Path(__file__).parents[3] / "docs" / "client.md").read_text()


@pytest.mark.usefixtures("door", "serving")
def test_the_code_of_the_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 6
    for block in blocks:
        exec(compile(block, "docs/client.md", "exec"), names)
    names["farm"].close()
    printed = capsys.readouterr().out
    assert "job.succeeded" in printed
    assert "cat succeeded" in printed
    assert list(Path("pictures").glob("image_*.jpeg"))


def test_the_page_draws_the_tree_of_errors_as_it_is() -> None:
    names = re.findall(r"^[│ ]*[├└]── (\w+) ", PAGE, re.MULTILINE)
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ClientError) and kind is not errors.ClientError
    }
    assert set(names) == kinds
