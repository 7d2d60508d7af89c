from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog import Catalog, load_catalog
from shared.errors import RendermillError
from shared.models import Mode, Model, Size
from shared.settings import Settings

REQUIRED = [
    "stabilityai/stable-diffusion-xl-base-1.0",
    "ByteDance/SDXL-Lightning",
    "black-forest-labs/FLUX.1-schnell",
    "black-forest-labs/FLUX.1-Fill-dev",
]


SYNTHETIC_EXAMPLE = Path(__file__).parents[2] / "examples" / "synthetic.toml"


@pytest.fixture
def shipped() -> Catalog:
    return load_catalog(Settings().catalog_path)


SIZE = Size(default=1024, min=256, max=2048, multiple_of=16, max_pixels=2_097_152)


@given(st.integers(min_value=1, max_value=40_000), st.integers(min_value=1, max_value=40_000))
def test_any_size_is_fitted_into_the_limits(width: int, height: int) -> None:
    fitted = SIZE.fitted(width, height)
    assert all(256 <= side <= 2048 and side % 16 == 0 for side in fitted)
    assert fitted[0] * fitted[1] <= SIZE.max_pixels
    if max(width, height) <= 8 * min(width, height):
        # The model can make the shape: there is a scale that makes both sides, each rounded down to a multiple.
        assert max(fitted[0] / width, fitted[1] / height) <= min((fitted[0] + 16) / width, (fitted[1] + 16) / height)


@given(st.integers(min_value=16, max_value=128), st.integers(min_value=16, max_value=128))
def test_a_size_that_is_allowed_stays(columns: int, rows: int) -> None:
    size = columns * 16, rows * 16
    if size[0] * size[1] <= SIZE.max_pixels:
        assert SIZE.fitted(*size) == size


@pytest.fixture
def table() -> dict[str, Any]:
    """One well-formed `[[model]]` table."""
    tables: list[dict[str, Any]] = tomllib.loads(Settings().catalog_path.read_text())["model"]
    return tables[0]


def test_the_shipped_catalog_has_the_seed_models(shipped: Catalog) -> None:
    assert list(shipped.models) == REQUIRED


@pytest.mark.parametrize(("alias", "id_"), [("flux-schnell", REQUIRED[2]), ("SDXL1.0-base", REQUIRED[0])])
def test_a_model_is_found_by_alias(shipped: Catalog, alias: str, id_: str) -> None:
    assert shipped.find(alias).id == id_


def test_an_alias_may_stand_for_another_model_in_another_mode(shipped: Catalog) -> None:
    assert shipped.find("gpt-image-1").family == "flux"
    assert shipped.find("gpt-image-1", Mode.INPAINTING).family == "flux-fill"


def test_an_unknown_model_is_refused_with_the_list_of_models(shipped: Catalog) -> None:
    with pytest.raises(RendermillError) as refused:
        shipped.find("midjourney")
    assert refused.value.code == "unknown_model"
    assert refused.value.extra["models"] == REQUIRED


def test_lightning_runs_its_four_steps_and_nothing_else(shipped: Catalog) -> None:
    lightning = shipped.find("sdxl-lightning")
    assert (lightning.num_steps.min, lightning.num_steps.default, lightning.num_steps.max) == (4, 4, 4)
    assert lightning.scheduler.timestep_spacing == "trailing"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"batch_limt": 8}, "unknown key batch_limt"),
        ({"modes": ["text-to-music"]}, "text-to-music"),
        ({"guidance": {"kind": "strict", "default": 1, "max": 2}}, "strict"),
        ({"size": {"default": 1024}}, "missing"),
        ({"scheduler": {"name": "ddim"}}, "no scheduler 'ddim'; there are euler"),
        ({"scheduler": {"name": "euler", "alternatives": ["heun"]}}, "heun"),
        ({"scheduler": {"alternatives": ["lcm"]}}, "missing"),
        ({"id": "a:b"}, "must not contain"),
        ({"compile": "yes"}, "yes"),
        ({"quantize": "int4"}, "int4"),
        ({"quantize": "fp8", "dtype": "float16"}, "needs dtype = 'bfloat16', not 'float16'"),
        ({"step_cache": {"technique": "taylorseer"}}, "families flux and flux-fill, not for sdxl"),
        ({"vae": {"file": "vae.safetensors"}}, "file"),
        ({"price": -1}, "price"),
        ({"price": "much"}, "price"),
        ({"price": "nan"}, "price"),
        ({"synthetic": {"batch_s": 1}}, "a model of the family sdxl has no synthetic"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(table: dict[str, Any], change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Model.from_table(table | change)


@pytest.fixture
def fill_table() -> dict[str, Any]:
    """The table of a model that runs long enough to spare steps."""
    tables: list[dict[str, Any]] = tomllib.loads(Settings().catalog_path.read_text())["model"]
    return tables[-1]


@pytest.mark.parametrize(
    ("table", "option", "value", "mixes_batch"),
    [
        ({"technique": "taylorseer"}, "interval", 3, False),
        ({"technique": "taylorseer", "interval": 5}, "interval", 5, False),
        ({"technique": "first-block", "threshold": 0.1}, "threshold", 0.1, True),
    ],
)
def test_a_model_of_many_steps_may_spare_some(
    fill_table: dict[str, Any], table: dict[str, Any], option: str, value: float, mixes_batch: bool
) -> None:
    step_cache = Model.from_table(fill_table | {"step_cache": table}).step_cache
    assert step_cache is not None
    assert step_cache.record == {"technique": table["technique"], option: value, "mixes_batch": mixes_batch}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"step_cache": {}}, "'technique' is missing"),
        ({"step_cache": {"technique": "tea"}}, "tea"),
        ({"step_cache": {"technique": "taylorseer", "threshold": 0.1}}, "taylorseer has no threshold"),
        ({"step_cache": {"technique": "taylorseer", "interval": 1}}, "a number of steps from 2, not 1"),
        ({"step_cache": {"technique": "first-block", "threshold": "0.1"}}, "a number, not '0.1'"),
        ({"step_cache": {"technique": "first-block", "threshold": 1}}, "between 0 and 1, not 1"),
        ({"step_cache": {"technique": "taylorseer"}, "compile": "full"}, "not with 'full'"),
        (
            {"step_cache": {"technique": "taylorseer"}, "guidance": {"kind": "negative-only", "default": 2, "max": 9}},
            "of the kind embedded",
        ),
    ],
)
def test_a_step_cache_that_cannot_work_is_refused(
    fill_table: dict[str, Any], change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Model.from_table(fill_table | change)


def test_adapters_are_refused_for_a_quantized_model(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(
        Settings().catalog_path.read_text().replace("batch_limit = 8", 'batch_limit = 8\nquantize = "fp8"', 1)
    )
    with pytest.raises(ValueError, match=r"adapters cannot be laid over quantized weights.*lcm-lora-sdxl"):
        load_catalog(path)


def test_a_model_may_have_an_autoencoder_from_elsewhere(table: dict[str, Any]) -> None:
    assert Model.from_table(table).vae is None
    vae = Model.from_table(table | {"vae": {"source": "somebody/vae"}}).vae
    assert vae is not None
    assert (vae.source, vae.revision) == ("somebody/vae", "main")


@pytest.mark.parametrize("price", [0.1, "0.1"])
def test_a_price_is_the_decimal_that_was_written(table: dict[str, Any], price: object) -> None:
    assert Model.from_table(table | {"price": price}).price == Decimal("0.1")


@pytest.mark.parametrize("key", ["source", "scheduler", "licence"])
def test_a_missing_key_is_named(table: dict[str, Any], key: str) -> None:
    del table[key]
    with pytest.raises(ValueError, match=f"{key}.* is missing"):
        Model.from_table(table)


@pytest.fixture
def synthetic() -> dict[str, Any]:
    """A well-formed table of a synthetic model."""
    tables: list[dict[str, Any]] = tomllib.loads(SYNTHETIC_EXAMPLE.read_text())["model"]
    return tables[0]


def test_a_synthetic_model_needs_no_weights(synthetic: dict[str, Any]) -> None:
    model = Model.from_table(synthetic)
    assert model.synthetic is not None
    assert model.synthetic.batch_s == 0.1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"source": "a/b"}, "a model of the family synthetic has no source"),
        ({"scheduler": {"name": "euler"}, "dtype": "float16"}, "has no dtype, scheduler"),
        ({"synthetic": {}}, "batch_s"),
        ({"synthetic": {"batch_s": "0.1"}}, "batch_s is a number of seconds, not '0.1'"),
        ({"synthetic": {"batch_s": True}}, "batch_s is a number of seconds, not True"),
        ({"synthetic": {"batch_s": -1}}, "batch_s is from 0 to 600 seconds"),
        ({"synthetic": {"batch_s": float("nan")}}, "batch_s is from 0 to 600 seconds"),
        ({"synthetic": {"batch_s": 1, "step_s": 1}}, "step_s"),
        ({"synthetic": {"batch_s": 1, "load_s": "2"}}, "load_s is a number of seconds, not '2'"),
        ({"linger_s": True}, "linger_s is a number of seconds, not True"),
        ({"linger_s": 61}, "linger_s is from 0 to 60 seconds"),
    ],
)
def test_a_wrong_entry_of_a_synthetic_model_is_refused(
    synthetic: dict[str, Any], change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        Model.from_table(synthetic | change)


def test_a_synthetic_model_says_how_long_a_batch_takes(synthetic: dict[str, Any]) -> None:
    del synthetic["synthetic"]
    with pytest.raises(ValueError, match="synthetic is missing"):
        Model.from_table(synthetic)


def test_two_models_cannot_share_a_name(table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="sdxl-base"):
        Catalog([Model.from_table(table), Model.from_table(table | {"id": "another"})])


def test_an_alias_of_no_model_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="dall-e-2"):
        Catalog([Model.from_table(table)], {"dall-e-2": "nothing"})


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text("[[model")
    with pytest.raises(tomllib.TOMLDecodeError):
        load_catalog(path)
