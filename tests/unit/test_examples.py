"""examples/prompts.jsonl: up to date, readable, and covering what it says it covers."""

from __future__ import annotations

import runpy
from pathlib import Path

from client.lines import Line, json_lines
from farm.demo.render import DIALECTS
from shared.catalog import load_catalog
from shared.requests import resolve

EXAMPLES = Path(__file__).parents[2] / "examples"
CATALOG = load_catalog(Path(__file__).parents[2] / "shared" / "catalog.toml")


def _lines() -> list[Line]:
    return list(json_lines((EXAMPLES / "prompts.jsonl").read_text(encoding="utf-8").split("\n")))


def test_the_prompts_are_what_their_script_writes() -> None:
    made = runpy.run_path(str(EXAMPLES / "make_prompts.py"))["text"]()
    assert (EXAMPLES / "prompts.jsonl").read_text(encoding="utf-8") == made


def test_every_dialect_has_a_line() -> None:
    assert {line.url for line in _lines()} == set(DIALECTS)


def test_every_model_of_the_catalog_has_a_native_line() -> None:
    used = {CATALOG.find(line.body["model"]).id for line in _lines() if line.native}
    assert used == set(CATALOG.models)


def test_every_native_line_is_within_its_models_limits() -> None:
    for line in _lines():
        if line.native:
            request, warnings = resolve(CATALOG, line.body)
            assert request.model
            assert not warnings
