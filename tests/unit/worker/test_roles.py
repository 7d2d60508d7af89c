"""How a worker process says what it is at, and when it goes."""

from __future__ import annotations

import signal

import pytest
from redis import Redis

from shared.errors import JobFailure
from shared.settings import Settings
from shared.workers import Workers
from tests.unit.worker.fakes import FakeEngine
from worker import __main__ as command
from worker import heartbeat, roles
from worker.roles import RenderRole


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr("worker.engine.Engine", lambda *_: engine, raising=False)
    return engine


@pytest.fixture
def role(redis: Redis, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> RenderRole:  # noqa: ARG001
    monkeypatch.setattr(roles, "connect", lambda _: redis)
    return RenderRole(Settings(models="sdxl-base, flux-schnell"))


def state(redis: Redis) -> str:
    (worker,) = Workers(redis).alive()
    return worker.state


def test_a_worker_tells_what_it_serves_and_what_it_is_at(role: RenderRole, redis: Redis) -> None:
    role._beat()
    assert state(redis) == "starting"
    role._preloaded = True
    role._beat()
    assert state(redis) == "starting", "Celery takes no ticket yet"
    role._ready()
    role._beat()
    assert state(redis) == "idle"
    role._drain()
    role._beat()
    assert state(redis) == "draining"
    (worker,) = Workers(redis).alive()
    assert worker.models == ["stabilityai/stable-diffusion-xl-base-1.0", "black-forest-labs/FLUX.1-schnell"]


def test_a_model_that_cannot_be_preloaded_leaves_the_worker_to_the_others(
    redis: Redis, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded: list[str] = []

    def load(model_id: str) -> float:
        if "xl-base" in model_id:
            raise JobFailure("model_unavailable", "its file is cut short")
        loaded.append(model_id)
        return 0.1

    monkeypatch.setattr(engine, "load", load, raising=False)
    monkeypatch.setattr(roles, "connect", lambda _: redis)
    role = RenderRole(Settings(models="sdxl-base, flux-schnell", preload="sdxl-base, flux-schnell"))
    role._load_models()
    role._ready()
    role._beat()
    assert state(redis) == "idle"
    assert loaded == ["black-forest-labs/FLUX.1-schnell"]
    assert "its file is cut short" in caplog.text


def test_a_worker_whose_device_is_lost_tells_itself_to_go_once(
    role: RenderRole, engine: FakeEngine, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[int] = []
    monkeypatch.setattr("os.kill", lambda _, signum: signals.append(signum))
    role._preloaded = True
    role._beat()
    assert signals == []
    engine.device_lost = True
    role._beat()
    role._beat()
    assert signals == [signal.SIGTERM]
    assert state(redis) == "draining"


@pytest.mark.parametrize("arguments", [[], ["rendr"], ["render", "upkeep"], ["--help"]])
def test_a_role_that_does_not_exist_is_answered_with_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 2
    assert "render | upkeep | alive" in capsys.readouterr().err


def test_the_probe_tells_by_its_exit_code_whether_the_worker_lives(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert command.main(["alive"]) == 1
    heartbeat.tick_file().touch()
    assert command.main(["alive"]) == 0
