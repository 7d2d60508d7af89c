"""`rendermill keys` on a real Valkey."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from client.exit_codes import ExitCode
from farm.cli import app
from farm.datadir import DataDir, Running
from shared.accounts import Accounts


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def test_a_key_is_made_listed_and_revoked(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERMILL_REDIS_URL", valkey_url)
    key = _run("create", "keys-test").stdout.strip()
    with Redis.from_url(valkey_url, decode_responses=True) as redis:
        assert Accounts(redis).account_of(key) == "keys-test"
        listed = _run("list").stdout
        assert "keys-test" in listed
        assert key not in listed
        assert "keys-test" in _run("revoke", key).stdout
        assert Accounts(redis).account_of(key) is None


def test_what_is_made_and_listed_is_json_on_request(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERMILL_REDIS_URL", valkey_url)
    made = json.loads(_run("create", "keys-json", "--json").stdout)
    listed = [json.loads(line) for line in _run("list", "--json").stdout.splitlines()]
    (mine,) = [info for info in listed if info["account"] == "keys-json"]
    assert made["key"].startswith(mine["key"])
    assert mine["created_at"].endswith("Z")
    assert made["key"] not in _run("list", "--json").stdout
    assert json.loads(_run("revoke", made["key"], "--json").stdout) == mine


def test_the_farm_of_a_data_directory_is_found(valkey_url: str, tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    directory.set_running(Running(pid=1, url="http://u", redis_url=valkey_url, runner_url="http://r"))
    result = _run("create", "of-a-directory", "--data-dir", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def test_a_wrong_account_name_is_one_clear_line(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERMILL_REDIS_URL", valkey_url)
    result = _run("create", "Not A Name")
    assert result.exit_code == ExitCode.USAGE
    assert "is no account name" in result.stderr


def test_a_key_that_does_not_exist_is_one_clear_line(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERMILL_REDIS_URL", valkey_url)
    result = _run("revoke", "rm_nonexistent")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "No key, or more than one" in result.stderr


def test_without_a_farm_it_says_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RENDERMILL_REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    result = _run("list")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "No farm runs in .rendermill" in result.stderr
