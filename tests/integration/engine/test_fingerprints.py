"""Which folders hold the same network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker.engine import fingerprints
from worker.engine.fingerprints import same_network

CONFIG = {"_class_name": "AutoencoderKL", "_diffusers_version": "0.30.0", "latent_channels": 16}


def network(folder: Path, weights: bytes = b"weights", **config: Any) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def test_equal_files_are_the_same_network_whoever_wrote_them(tmp_path: Path) -> None:
    one = network(tmp_path / "one")
    assert same_network(one, one)
    assert same_network(one, network(tmp_path / "other", _diffusers_version="0.42.1", _name_or_path="elsewhere"))


@pytest.mark.parametrize(
    ("weights", "config"), [(b"weight!", {}), (b"more weights", {}), (b"weights", {"act_fn": "gelu"})]
)
def test_other_weights_or_another_config_are_another_network(
    tmp_path: Path, weights: bytes, config: dict[str, Any]
) -> None:
    assert not same_network(network(tmp_path / "one"), network(tmp_path / "other", weights, **config))


def test_what_is_broken_or_absent_is_not_the_same_as_anything(tmp_path: Path) -> None:
    one, other = network(tmp_path / "one"), network(tmp_path / "other")
    for folder in (one, other):
        (folder / "config.json").write_text("{not json")
    assert not same_network(one, other)
    assert not same_network(tmp_path / "nowhere", tmp_path / "elsewhere")
    assert not same_network(one, tmp_path / "nowhere")


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    one, other = network(tmp_path / "one"), network(tmp_path / "other")
    assert same_network(one, other)
    (other / "model.safetensors").write_bytes(b"weight?")
    assert not same_network(one, other)


def test_files_that_the_hubs_cache_names_by_their_hash_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [network(tmp_path / name) for name in ("one", "other")]
    for folder in folders:
        blob = tmp_path / f"blobs-{folder.name}" / ("ab" * 32)
        blob.parent.mkdir()
        (folder / "model.safetensors").rename(blob)
        (folder / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr(fingerprints, "_hash_of", None)
    assert same_network(*folders)
