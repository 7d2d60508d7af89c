"""The rules of the house that a glance at the imports can break."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: For each room, what must never be imported in it.
FORBIDDEN = {
    "shared": {
        "api",
        "intake",
        "worker",
        "client",
        "farm",
        "flask",
        "flask_smorest",
        "celery",
        "torch",
        "diffusers",
        "transformers",
    },
    "api": {"worker", "client", "farm", "torch", "diffusers", "transformers"},
    "intake": {"api", "worker", "client", "farm", "flask", "flask_smorest", "celery", "torch", "diffusers"},
    "worker": {"api", "client", "farm", "flask", "flask_smorest", "marshmallow"},
    "client": {
        "api",
        "intake",
        "worker",
        "shared",
        "farm",
        "flask",
        "celery",
        "redis",
        "torch",
        "diffusers",
        "transformers",
    },
    "farm": {"api", "intake", "worker", "flask", "celery", "torch", "diffusers", "transformers"},
}
#: What two rooms must do alike: it imports nothing that a client must not.
ANYWHERE = {"shared.picture_names"}
#: Only here is torch at home.
TORCH_ROOM = ROOT / "worker" / "engine"
TORCH = {"torch", "diffusers", "transformers", "safetensors", "accelerate"}


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a module imports anywhere in its text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module and node.module not in ANYWHERE:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_run_one_way(room: str) -> None:
    assert modules(room), f"{room} has no modules"
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in imported(path)
        if name in FORBIDDEN[room]
    }
    assert not found


def test_what_every_room_may_import_imports_no_room() -> None:
    for name in ANYWHERE:
        assert not set(imported(ROOT / f"{name.replace('.', '/')}.py")) & FORBIDDEN.keys()


def test_torch_lives_in_the_engine_only() -> None:
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("worker")
        if TORCH_ROOM not in path.parents
        for name in imported(path)
        if name in TORCH
    }
    assert not found


def test_no_module_is_two_ideas() -> None:
    """A file past 400 lines is usually two ideas in one room."""
    rooms = [*FORBIDDEN, "bench", "deploy", "tests"]
    long = {
        f"{path.relative_to(ROOT)} has {lines} lines"
        for room in rooms
        for path in modules(room)
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long
