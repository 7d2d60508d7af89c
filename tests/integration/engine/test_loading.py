"""Checkpoints: shared, missing, broken, and never anything but safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from shared.catalog import Catalog
from shared.errors import JobFailure
from shared.settings import Settings
from tests.integration.engine.rendering import BASE, CATALOG, FILL, LIGHTNING, SCHNELL, item, render, request
from worker.engine import Engine
from worker.engine.checkpoints import Loader
from worker.engine.residency import Residency

Damage = Callable[[Path], Any]


def engine_over(models_dir: Path | str, catalog: Catalog = CATALOG) -> Engine:
    return Engine(catalog, Settings(models_dir=str(models_dir), models_offline=True), device="cpu")


def residency_over(models_dir: Path) -> Residency:
    return Residency(Loader(Settings(models_dir=str(models_dir), models_offline=True), torch.device("cpu")))


def test_a_model_is_loaded_once_and_kept(tiny_models: Path) -> None:
    engine = engine_over(tiny_models)
    assert engine.device_name == "cpu"
    assert engine.resident == []
    assert engine.load("flux-schnell") > 0
    assert engine.resident == [SCHNELL]
    rendered, _ = render(engine, [item(request(SCHNELL))])
    assert rendered.load_s == 0
    assert rendered.render_s > 0


def test_rendering_loads_the_model_and_says_how_long_that_took(tiny_models: Path) -> None:
    rendered, _ = render(engine_over(tiny_models), [item(request(SCHNELL))])
    assert rendered.load_s > 0


@pytest.mark.parametrize(("first", "second"), [(BASE, LIGHTNING), (LIGHTNING, BASE)])
def test_base_and_lightning_share_all_but_the_unet(tiny_models: Path, first: str, second: str) -> None:
    residency = residency_over(tiny_models)
    one = residency.get(CATALOG.models[first]).components
    other = residency.get(CATALOG.models[second]).components
    for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "vae"):
        assert one[name] is other[name]
    assert one["unet"] is not other["unet"]


@pytest.mark.parametrize(("first", "second"), [(SCHNELL, FILL), (FILL, SCHNELL)])
def test_schnell_and_fill_share_what_their_files_have_in_common(tiny_models: Path, first: str, second: str) -> None:
    residency = residency_over(tiny_models)
    one = residency.get(CATALOG.models[first]).components
    other = residency.get(CATALOG.models[second]).components
    for name in ("text_encoder", "text_encoder_2", "vae"):
        assert one[name] is other[name]
    for name in ("tokenizer_2", "transformer"):
        assert one[name] is not other[name]


def test_networks_of_other_weights_are_not_shared(tiny_models: Path, tmp_path: Path) -> None:
    for source in (SCHNELL, FILL):
        shutil.copytree(tiny_models / source, tmp_path / source)
    file = tmp_path / FILL / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["decoder.conv_out.bias"] += 1e-3
    save_file(weights, file, metadata={"format": "pt"})
    residency = residency_over(tmp_path)
    schnell, fill = residency.get(CATALOG.models[SCHNELL]), residency.get(CATALOG.models[FILL])
    assert schnell.vae is not fill.vae
    assert schnell.text_encoder_2 is fill.text_encoder_2


def test_lightning_renders_with_the_weights_of_its_single_file(tiny_models: Path) -> None:
    unet = residency_over(tiny_models).get(CATALOG.models[LIGHTNING]).unet
    weights = load_file(tiny_models / LIGHTNING / "sdxl_lightning_4step_unet.safetensors")
    assert unet.state_dict().keys() == weights.keys()
    for name, tensor in unet.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_lightning_steps_at_trailing_timesteps_and_the_base_at_its_own(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    timesteps: list[list[int]] = []
    original = EulerDiscreteScheduler.set_timesteps

    def noting(self: EulerDiscreteScheduler, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        timesteps.append([int(timestep) for timestep in self.timesteps])

    monkeypatch.setattr(EulerDiscreteScheduler, "set_timesteps", noting)
    render(engine, [item(request(LIGHTNING))])
    render(engine, [item(request(BASE))])
    assert timesteps == [[999, 749, 499, 249], [751, 501, 251, 1]]


def test_a_source_may_be_the_path_of_a_folder(tiny_models: Path, tmp_path: Path) -> None:
    model = replace(CATALOG.models[SCHNELL], source=str(tiny_models / SCHNELL))
    assert engine_over(tmp_path, Catalog([model])).load(SCHNELL) > 0


@pytest.mark.parametrize("model", [BASE, LIGHTNING, SCHNELL, FILL])
def test_a_missing_folder_is_named(tmp_path: Path, model: str) -> None:
    with pytest.raises(JobFailure) as failure:
        engine_over(tmp_path / "nowhere").load(model)
    assert failure.value.code == "model_unavailable"
    assert str(tmp_path / "nowhere" / CATALOG.models[model].source) in failure.value.message
    assert "RENDERMILL_MODELS_DIR" in failure.value.message


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def not_weights(file: Path) -> None:
    file.write_bytes(b"not weights at all")


def as_pickle(file: Path) -> None:
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()


def without_a_tensor(file: Path) -> None:
    weights = load_file(file)
    weights.popitem()
    save_file(weights, file, metadata={"format": "pt"})


def not_json(file: Path) -> None:
    file.write_text("{not json")


def another_list(file: Path) -> None:
    file.write_text("[1, 2, 3]")


def of_another_size(file: Path) -> None:
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"num_attention_heads": config["num_attention_heads"] + 1}))


DAMAGES: list[tuple[str, str, Damage]] = [
    (SCHNELL, "transformer/diffusion_pytorch_model.safetensors", cut_short),
    (SCHNELL, "transformer/diffusion_pytorch_model.safetensors", not_weights),
    (SCHNELL, "transformer/diffusion_pytorch_model.safetensors", as_pickle),
    (SCHNELL, "text_encoder_2/model.safetensors", not_weights),
    (SCHNELL, "text_encoder_2/model.safetensors", as_pickle),
    (SCHNELL, "vae", shutil.rmtree),
    (SCHNELL, "tokenizer", shutil.rmtree),
    (SCHNELL, "tokenizer_2", shutil.rmtree),
    (SCHNELL, "tokenizer/vocab.json", Path.unlink),
    (SCHNELL, "tokenizer_2/tokenizer.json", Path.unlink),
    (SCHNELL, "scheduler", shutil.rmtree),
    (SCHNELL, "model_index.json", Path.unlink),
    (SCHNELL, "model_index.json", not_json),
    (SCHNELL, "model_index.json", another_list),
    (SCHNELL, "transformer/config.json", not_json),
    (SCHNELL, "transformer/config.json", of_another_size),
    (SCHNELL, "tokenizer/tokenizer_config.json", not_json),
    (SCHNELL, "scheduler/scheduler_config.json", not_json),
    (LIGHTNING, "sdxl_lightning_4step_unet.safetensors", Path.unlink),
    (LIGHTNING, "sdxl_lightning_4step_unet.safetensors", cut_short),
    (LIGHTNING, "sdxl_lightning_4step_unet.safetensors", without_a_tensor),
]


@pytest.mark.parametrize(
    ("source", "path", "damage"), DAMAGES, ids=[f"{damage.__name__}-{path}" for _, path, damage in DAMAGES]
)
def test_a_damaged_checkpoint_is_unavailable_and_the_others_are_served(
    tiny_models: Path, tmp_path: Path, source: str, path: str, damage: Damage
) -> None:
    for name in {source, BASE}:
        shutil.copytree(tiny_models / name, tmp_path / name)
    damage(tmp_path / source / path)
    engine = engine_over(tmp_path)
    for _ in range(2):
        # The second time nothing is left of the first.
        with pytest.raises(JobFailure) as failure:
            render(engine, [item(request(source))])
        assert failure.value.code == "model_unavailable"
        assert source in failure.value.message
    rendered, _ = render(engine, [item(request(BASE))])
    assert len(rendered.images) == 1
    assert engine.resident == [BASE]


@pytest.mark.parametrize("source", [SCHNELL, LIGHTNING, "a-file"])
def test_a_source_that_is_something_else_is_unavailable(tiny_models: Path, tmp_path: Path, source: str) -> None:
    (tmp_path / SCHNELL).parent.mkdir()
    (tmp_path / SCHNELL).symlink_to(tiny_models / SCHNELL)
    (tmp_path / LIGHTNING).parent.mkdir()
    (tmp_path / LIGHTNING).symlink_to(tiny_models / LIGHTNING)
    (tmp_path / "a-file").write_text("weights?")
    wrong = replace(CATALOG.models[BASE], source=source)
    engine = engine_over(tmp_path, Catalog([wrong, CATALOG.models[SCHNELL]]))
    with pytest.raises(JobFailure) as failure:
        engine.load(BASE)
    assert failure.value.code == "model_unavailable"
    assert source in failure.value.message
    assert engine.load(SCHNELL) > 0


def test_code_in_a_checkpoint_is_never_run(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / SCHNELL
    shutil.copytree(tiny_models / SCHNELL, folder)
    traces = tmp_path / "it-ran"
    code = f"open({str(traces)!r}, 'w').close()\nclass Evil: pass\n"
    (folder / "pipeline.py").write_text(code)
    (folder / "transformer" / "evil.py").write_text(code)
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = ["evil", "Evil"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(JobFailure):
        engine_over(tmp_path).load(SCHNELL)
    assert not traces.exists()


def test_after_a_failed_load_the_others_still_load(tiny_models: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_models / SCHNELL, tmp_path / SCHNELL)
    engine = engine_over(tmp_path)
    with pytest.raises(JobFailure):
        engine.load(FILL)
    assert engine.load(SCHNELL) > 0
    assert engine.resident == [SCHNELL]
