"""`rendermill accounts` on a real Valkey."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from client.exit_codes import ExitCode
from farm.cli import app
from shared.accounts import Accounts
from shared.limits import AccountLimits, Balance, Limits, Rate
from shared.redis_client import connect
from tests.scheduling import complete, new_job, new_scheduler

ACCOUNT = "accounts-test"


@pytest.fixture
def redis(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """A Valkey that the commands find, with one account."""
    monkeypatch.setenv("RENDERMILL_REDIS_URL", valkey_url)
    with connect(valkey_url) as client:
        client.flushall()
        Accounts(client).create_key(ACCOUNT)
        yield client


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["accounts", *arguments])


def _set(*options: str) -> Result:
    return _run("set", ACCOUNT, *options)


def test_limits_are_set_and_taken_away(redis: Redis) -> None:
    limits = AccountLimits(redis)
    given = _set(
        "--weight", "2.5", "--rate", "60/min", "--max-queued", "1000", "--max-running", "4", "--balance", "12.5"
    )
    assert given.exit_code == 0, given.output
    state = limits.account(ACCOUNT)
    assert state.limits == Limits(weight=2.5, rate=Rate(60, 60), max_queued=1000, max_running=4)
    assert state.balance == Balance(available=12_500_000, reserved=0, charged=0)
    for shown in ("2.5", "60/min, 60 left", "0 of 1000", "0 of 4", "12.5"):
        assert shown in given.stdout
    assert _set("--top-up", "0.000001").exit_code == 0
    assert limits.balance(ACCOUNT).available == 12_500_001
    taken = _set("--rate", "none", "--max-queued", "none", "--max-running", "none", "--balance", "none")
    assert taken.exit_code == 0, taken.output
    state = limits.account(ACCOUNT)
    assert state.limits == Limits(weight=2.5)
    assert state.balance.available is None


def test_accounts_are_listed_with_what_they_used(redis: Redis) -> None:
    scheduler = new_scheduler(redis)
    job = new_job(ACCOUNT, price=2_500_000)
    scheduler.enqueue(ACCOUNT, [job, new_job(ACCOUNT)])
    complete(scheduler, scheduler.claim(job.request.model, "w", max_images=1).leases[0])
    listed = _run("list")
    assert listed.exit_code == 0, listed.output
    assert ACCOUNT in listed.stdout
    shown = _run("show", ACCOUNT).stdout
    assert "2.5" in shown
    (day,) = json.loads(_run("show", ACCOUNT, "--json").stdout)["usage"]
    assert (day["succeeded"], day["credits"]) == (1, 2.5)
    (row,) = [json.loads(line) for line in _run("list", "--json").stdout.splitlines()]
    assert (row["id"], row["charged"], row["used"]["queued"]) == (ACCOUNT, 2.5, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rate", "many"], "is no rate"),
        (["--max-queued", "-1"], "is no number of jobs"),
        (["--max-running", "1.5"], "is no number of jobs"),
        (["--balance", "0.0000001"], "at most six decimal places"),
        (["--top-up", "2000000000"], "credits are from 0"),
        (["--weight", "0"], "a weight is a number"),
    ],
)
def test_a_wrong_value_is_one_clear_line_and_changes_nothing(redis: Redis, options: list[str], words: str) -> None:
    result = _set("--max-queued", "7", *options)
    assert result.exit_code == ExitCode.USAGE
    assert words in result.stderr
    assert AccountLimits(redis).account(ACCOUNT).limits == Limits()


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize("arguments", [["show", "nobody"], ["set", "nobody", "--max-queued", "1"]])
def test_an_account_that_does_not_exist_is_one_clear_line(arguments: list[str]) -> None:
    result = _run(*arguments)
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "There is no account 'nobody'" in result.stderr
