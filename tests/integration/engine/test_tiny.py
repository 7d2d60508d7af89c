"""The tiny checkpoints are whole, small, the same every time, and never in the way of real ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.engine.rendering import CATALOG
from worker.engine import tiny
from worker.engine.tiny_recipes import WRITERS


def test_every_source_of_the_catalog_has_one(tiny_models: Path) -> None:
    sources = {model.source for model in CATALOG.models.values()}
    sources |= {model.unet.source for model in CATALOG.models.values() if model.unet}
    sources |= {lora.source for model in CATALOG.models.values() for lora in model.loras}
    assert sources == set(tiny.SOURCES) == set(WRITERS)
    assert all((tiny_models / source).is_dir() for source in sources)


def test_they_are_small(tiny_models: Path) -> None:
    for source in tiny.SOURCES:
        size = sum(file.stat().st_size for file in (tiny_models / source).rglob("*.safetensors"))
        assert size < 20e6


def test_they_come_out_the_same_every_time(tiny_models: Path, tmp_path: Path) -> None:
    tiny.build(tmp_path)
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert file.read_bytes() == (tiny_models / file.relative_to(tmp_path)).read_bytes(), file


def test_what_is_there_is_not_built_again_and_torch_not_imported(tiny_models: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from worker.engine.tiny import build; "
        f"build(Path({str(tiny_models)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_importing_the_engine_package_does_not_import_torch() -> None:
    program = "import sys; from worker.engine import Item, Rendered; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recipes replaced by ones that write a word and note their source."""
    written: list[str] = []

    def writer(source: str) -> Callable[[Path], None]:
        def write(directory: Path) -> None:
            written.append(source)
            (directory / "word").write_text("tiny")

        return write

    monkeypatch.setattr("worker.engine.tiny_recipes.WRITERS", {source: writer(source) for source in tiny.SOURCES})
    return written


def test_a_changed_recipe_is_built_anew(counted: list[str], tmp_path: Path) -> None:
    tiny.build(tmp_path)
    tiny.build(tmp_path)
    assert counted == list(tiny.SOURCES)
    stale = tmp_path / tiny.SOURCES[1]
    (stale / tiny.STAMP).write_text("another recipe")
    (stale / "left-over").write_text("")
    tiny.build(tmp_path)
    assert counted == [*tiny.SOURCES, tiny.SOURCES[1]]
    assert not (stale / "left-over").exists()


def test_somebodys_own_weights_are_left_alone(counted: list[str], tmp_path: Path) -> None:
    own = tmp_path / tiny.SOURCES[0]
    own.mkdir(parents=True)
    (own / "model_index.json").write_text("real")
    tiny.build(tmp_path)
    assert counted == list(tiny.SOURCES[1:])
    assert [file.name for file in own.iterdir()] == ["model_index.json"]


def test_a_checkpoint_that_fails_to_be_written_leaves_nothing(
    counted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("")
        raise OSError("no space left on device")

    monkeypatch.setattr("worker.engine.tiny_recipes.WRITERS", {tiny.SOURCES[0]: fail})
    with pytest.raises(OSError, match="no space"):
        tiny.build(tmp_path)
    assert counted == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_builder_that_comes_second_takes_what_the_first_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny.SOURCES[0]

    def overtaken(directory: Path) -> None:
        (directory / "word").write_text("late")
        other = tmp_path / source
        other.mkdir(parents=True)
        (other / "word").write_text("early")
        (other / tiny.STAMP).write_text(tiny._recipe_digest())

    monkeypatch.setattr("worker.engine.tiny_recipes.WRITERS", {source: overtaken})
    monkeypatch.setattr(tiny, "SOURCES", (source,))
    tiny.build(tmp_path)
    assert (tmp_path / source / "word").read_text() in {"early", "late"}
    assert [path.name for path in (tmp_path / source).parent.iterdir()] == [Path(source).name]
