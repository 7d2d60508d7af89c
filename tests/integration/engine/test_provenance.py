"""The record of what made a picture."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from shared.settings import Settings
from tests.integration.engine.rendering import BASE, LIGHTNING, item, render, request
from worker.engine import Engine
from worker.engine.checkpoints import Loader


def loader(models_dir: Path) -> Loader:
    return Loader(Settings(models_dir=str(models_dir), models_offline=True), torch.device("cpu"))


def test_a_picture_comes_with_its_revisions_device_and_versions(engine: Engine) -> None:
    rendered, _ = render(engine, [item(request(LIGHTNING))])
    assert rendered.provenance == {
        "revisions": {BASE: None, LIGHTNING: None},
        "device": "cpu",
        "dtype": "float32",
        "quantize": "off",
        "step_cache": None,
        "compile": "off",
        "versions": {name: version(name) for name in ("rendermill", "torch", "diffusers", "transformers")},
    }


def test_with_adapters_it_names_their_sources_and_library(engine: Engine) -> None:
    asked = request(BASE, loras=[{"id": "lcm-lora-sdxl"}])
    record = render(engine, [item(asked)])[0].provenance
    assert set(record["revisions"]) == {BASE, "latent-consistency/lcm-lora-sdxl"}
    assert record["versions"]["peft"] == version("peft")


def test_what_was_not_rendered_has_none(engine: Engine) -> None:
    rendered = engine.render(engine._catalog.models[BASE], [item(request(BASE))], lambda *_: True)
    assert rendered.provenance == {}


def test_the_commit_of_a_folder_that_the_hubs_client_filled_is_read_from_its_notes(tmp_path: Path) -> None:
    notes = tmp_path / "org/model/.cache/huggingface/download/unet"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").write_text("0123abc\netag\n1700000000.0\n")
    assert loader(tmp_path).commit("org/model", "main") == "0123abc"


def test_the_commit_of_what_came_from_the_hub_is_that_of_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.checkpoints.HF_HUB_CACHE", str(tmp_path / "hub"))
    refs = tmp_path / "hub" / "models--org--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("0123abc")
    assert loader(tmp_path).commit("org/model", "main") == "0123abc"
    assert loader(tmp_path).commit("org/model", "4567def") == "4567def"
