"""The embedded farm's settings and addresses, and what it refuses before it starts anything."""

from __future__ import annotations

import socket
from configparser import RawConfigParser
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farm import embedded, parts
from farm.cli import app
from farm.datadir import DataDir
from farm.embedded import EmbeddedFarm
from farm.errors import FarmError
from farm.runner import configuration
from shared.settings import Settings, read_settings


def _farm(tmp_path: Path, host: str = "127.0.0.1") -> EmbeddedFarm:
    return EmbeddedFarm(tmp_path, host, 8080, lambda _: None)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("farm.local", "http://farm.local:8080"),
        ("::1", "http://[::1]:8080"),
        ("::", "http://[::1]:8080"),
    ],
)
def test_the_url_is_one_that_a_client_on_this_machine_can_use(tmp_path: Path, host: str, url: str) -> None:
    assert _farm(tmp_path, host).url == url


def test_the_users_settings_are_passed_on_and_the_farms_own_addresses_prevail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERMILL_LEASE_S", "7")
    monkeypatch.setenv("RENDERMILL_PUBLIC_URL", "https://pictures.example")
    monkeypatch.setenv("RENDERMILL_REDIS_URL", "redis://elsewhere")
    monkeypatch.setenv("RENDERMILL_API_KEY", "rm_client")
    environment = _farm(tmp_path).environment({"REDIS_URL": "redis://own"})
    assert environment["RENDERMILL_LEASE_S"] == "7"
    assert environment["RENDERMILL_PUBLIC_URL"] == "https://pictures.example"
    assert environment["RENDERMILL_REDIS_URL"] == "redis://own"
    assert environment["RENDERMILL_MODELS_OFFLINE"] == "1"
    assert "RENDERMILL_API_KEY" not in environment


def test_a_farm_whose_models_are_all_synthetic_needs_no_checkpoints(tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples"
    assert not embedded._needs_weights(Settings(catalog=str(examples / "synthetic.toml")))
    assert embedded._needs_weights(Settings())
    with pytest.raises(FarmError, match="nowhere"):
        embedded._needs_weights(Settings(catalog=str(tmp_path / "nowhere.toml")))


def test_with_a_models_dir_of_the_users_own_the_model_hub_is_their_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERMILL_MODELS_DIR", "/models")
    environment = _farm(tmp_path).environment({})
    assert environment["RENDERMILL_MODELS_DIR"] == "/models"
    assert "RENDERMILL_MODELS_OFFLINE" not in environment


def test_up_refuses_a_misspelt_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERMILL_LEASES", "7")
    result = CliRunner().invoke(app, ["up", "--port", "0", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "RENDERMILL_LEASES is not a setting" in result.stderr


def test_up_refuses_a_models_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERMILL_MODELS_DIR", "/nonexistent")
    result = CliRunner().invoke(app, ["up", "--port", "0", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.startswith("rendermill: RENDERMILL_MODELS_DIR=/nonexistent is not a folder.")


def test_the_workers_serve_their_metrics_at_ports_of_their_own() -> None:
    upkeep, render = embedded.workers(Settings(worker_metrics_port=9100))
    assert "RENDERMILL_WORKER_METRICS_PORT=9100" in render.command
    assert "RENDERMILL_WORKER_METRICS_PORT=9101" in upkeep.command
    for worker in embedded.workers(Settings()):
        assert "RENDERMILL_WORKER_METRICS_PORT=0" in worker.command


def test_the_render_worker_may_take_its_drain_time_and_a_little_more_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _render_stop_s(tmp_path) == 15
    monkeypatch.setenv("RENDERMILL_DRAIN_S", "60")
    assert _render_stop_s(tmp_path) == 67


def _render_stop_s(tmp_path: Path) -> int:
    _, render = embedded.workers(read_settings(_farm(tmp_path).environment({})))
    return render.stop_wait_s


def test_the_version_is_told() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"rendermill {version('rendermill')}\n")


def test_a_port_that_was_given_to_one_part_is_not_given_to_another() -> None:
    ports = [parts.free_port() for _ in range(500)]
    assert len(set(ports)) == len(ports)


def test_up_refuses_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["up", "--port", str(port), "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"rendermill: Port {port} of 127.0.0.1 cannot be used")


def test_up_refuses_a_data_directory_in_use(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    directory.lock()
    result = CliRunner().invoke(app, ["up", "--port", "0", "--data-dir", str(tmp_path)])
    directory.unlock()
    assert result.exit_code == 1
    assert "A farm runs in" in result.stderr


def test_the_configuration_lists_the_programs_in_order_and_escapes_what_it_names(tmp_path: Path) -> None:
    odd = tmp_path / "100%"
    programs = [parts.Program(name="one", command=("run", "a b", "50%")), parts.worker("render", 15)]
    config = RawConfigParser()
    config.read_string(configuration(programs, odd, odd, 1234, "hush"))
    one, render = config["program:one"], config["program:render"]
    assert one["command"].endswith("run 'a b' 50%%")
    assert (one["priority"], render["priority"], render["stopwaitsecs"]) == ("0", "1", "15")
    assert config["inet_http_server"]["port"] == "127.0.0.1:1234"
    assert config["supervisord"]["logfile"].endswith("100%%/supervisord.log")
