"""The data directory: one farm at a time, and secrets that stay."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from farm.datadir import DataDir, Running, write_private
from farm.errors import FarmError

RUNNING = Running(pid=1, url="http://127.0.0.1:8080", redis_url="redis://r", runner_url="http://s")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_are_the_owners_alone(tmp_path: Path) -> None:
    made = DataDir(tmp_path).secrets()
    assert DataDir(tmp_path).secrets() == made
    assert len({made.valkey_password, made.s3_secret_key, made.secret_key}) == 3
    assert _mode(tmp_path / "secrets.json") == 0o600


def test_broken_secrets_are_an_error_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(FarmError, match=r"secrets\.json cannot be read"):
        DataDir(tmp_path).secrets()


def test_a_second_farm_is_told_of_the_first(tmp_path: Path) -> None:
    first, second = DataDir(tmp_path), DataDir(tmp_path)
    first.lock()
    first.set_running(RUNNING)
    with pytest.raises(FarmError, match=r"runs in .* already .*http://127\.0\.0\.1:8080"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_data_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FarmError, match="cannot be used"):
        DataDir(tmp_path / "file").lock()


def test_a_running_farm_is_found_until_it_stops(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    assert directory.running() is None
    directory.set_running(RUNNING)
    assert DataDir(tmp_path).running() == RUNNING
    assert _mode(tmp_path / "farm.json") == 0o600
    directory.set_running(None)
    assert directory.running() is None


def test_a_private_file_replaces_a_public_one(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new")
    assert file.read_text() == "new"
    assert _mode(file) == 0o600
    assert list(tmp_path.iterdir()) == [file]
