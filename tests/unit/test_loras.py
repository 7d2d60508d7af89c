"""Adapters in the catalog and in requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.catalog import Catalog, load_catalog
from shared.errors import RequestInvalid
from shared.loras import Lora, LoraUse
from shared.requests import RenderRequest, resolve
from shared.settings import Settings

BASE = "stabilityai/stable-diffusion-xl-base-1.0"
TABLE = {
    "id": "ink",
    "name": "Ink",
    "models": [BASE],
    "source": "adapters",
    "file": "ink.safetensors",
    "licence": "MIT",
}


def catalog_with(directory: Path, *tables: dict[str, Any]) -> Catalog:
    path = directory / "catalog.toml"
    more = "".join(
        "\n[[lora]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items()) for table in tables
    )
    path.write_text(Settings().catalog_path.read_text() + more)
    return load_catalog(path)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return catalog_with(tmp_path, TABLE, TABLE | {"id": "chalk", "models": [BASE, "ByteDance/SDXL-Lightning"]})


def resolved(catalog: Catalog, loras: list[dict[str, Any]] | None, **body: Any) -> RenderRequest:
    return resolve(catalog, {"model": "sdxl-base", "prompt": "a cat", "loras": loras, **body})[0]


def refusal(catalog: Catalog, loras: list[dict[str, Any]], **body: Any) -> RequestInvalid:
    with pytest.raises(RequestInvalid) as refused:
        resolved(catalog, loras, **body)
    return refused.value


def test_a_model_has_the_adapters_that_name_it(catalog: Catalog) -> None:
    assert [lora.id for lora in catalog.find("sdxl-base").loras] == ["lcm-lora-sdxl", "ink", "chalk"]
    assert [lora.id for lora in catalog.find("sdxl-lightning").loras] == ["chalk"]
    assert catalog.find("flux-schnell").loras == ()
    assert "loras" in catalog.find("sdxl-base").parameters
    assert "loras" not in catalog.find("flux-schnell").parameters


def test_adapters_come_in_the_order_of_their_ids_at_full_scale(catalog: Catalog) -> None:
    request = resolved(catalog, [{"id": "ink"}, {"id": "chalk", "scale": 0.5}])
    assert request.loras == (LoraUse("chalk", 0.5), LoraUse("ink", 1.0))
    assert resolved(catalog, None).loras == resolved(catalog, []).loras == ()


def test_an_unknown_adapter_is_refused_with_those_that_fit(catalog: Catalog) -> None:
    error = refusal(catalog, [{"id": "inc"}])
    assert error.errors["loras"] == [f"there is no adapter 'inc' for {BASE}; there are chalk, ink, lcm-lora-sdxl"]
    of_another = refusal(catalog, [{"id": "ink"}], model="sdxl-lightning")
    assert "there are chalk" in of_another.errors["loras"][0]


def test_an_adapter_named_twice_is_refused(catalog: Catalog) -> None:
    assert "twice" in refusal(catalog, [{"id": "ink"}, {"id": "ink", "scale": 2}]).errors["loras"][0]


def test_a_model_without_adapters_does_not_take_any(catalog: Catalog) -> None:
    error = refusal(catalog, [{"id": "ink"}], model="flux-schnell")
    assert error.code == "unsupported_parameter"
    assert "does not take loras" in error.errors["loras"][0]
    assert resolved(catalog, [], model="flux-schnell").loras == ()


def test_adapters_and_their_scales_are_part_of_the_lane(catalog: Catalog) -> None:
    asked: list[list[dict[str, Any]]] = [[], [{"id": "ink"}], [{"id": "chalk"}], [{"id": "ink", "scale": 0.1000001}]]
    asked.append([{"id": "ink", "scale": 0.1}])
    assert len({resolved(catalog, loras).lane for loras in asked}) == len(asked)
    assert resolved(catalog, [{"id": "ink", "scale": 1}]).lane == resolved(catalog, [{"id": "ink"}]).lane


def test_a_request_with_adapters_survives_json(catalog: Catalog) -> None:
    request = resolved(catalog, [{"id": "ink", "scale": -0.5}])
    assert RenderRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    assert "loras" not in resolved(catalog, None).to_dict()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": "a:b"}, "must not contain"),
        ({"id": "a@1"}, "must not contain"),
        ({"scale": 1}, "unknown key scale"),
        ({"file": "ink.bin"}, "safetensors"),
        ({"models": ["sdxl"]}, "models of this catalog"),
        ({"models": []}, "models of this catalog"),
        ({"id": "lcm-lora-sdxl"}, "two adapters"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        catalog_with(tmp_path, TABLE | change)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ValueError, match=r"ink: .*licence"):
        Lora.from_table({key: value for key, value in TABLE.items() if key != "licence"})


def test_a_model_does_not_name_its_adapters_itself(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(Settings().catalog_path.read_text().replace('dtype = "bfloat16"', 'loras = ["ink"]', 1))
    with pytest.raises(ValueError, match="unknown key loras"):
        load_catalog(path)
