"""What gunicorn is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from api import gunicorn


def test_the_gauges_of_a_dead_process_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for name in ("gauge_livesum_12.db", "counter_12.db", "gauge_livesum_13.db"):
        (tmp_path / name).touch()
    gunicorn.child_exit(None, SimpleNamespace(pid=12))
    assert {path.name for path in tmp_path.iterdir()} == {"counter_12.db", "gauge_livesum_13.db"}


def test_a_process_that_ends_without_metrics_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    gunicorn.child_exit(None, SimpleNamespace(pid=12))


def test_every_thread_of_the_settings_is_used() -> None:
    assert (gunicorn.worker_class, gunicorn.threads, gunicorn.preload_app) == ("gthread", 64, False)
