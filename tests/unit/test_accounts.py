"""Accounts and their keys."""

from __future__ import annotations

import base64

import pytest
from redis import Redis

from shared.accounts import Accounts


@pytest.fixture
def accounts(redis: Redis) -> Accounts:
    return Accounts(redis)


def test_a_key_opens_its_account_and_nothing_else_does(accounts: Accounts) -> None:
    keys = {name: accounts.create_key(name) for name in ("alice", "bob")}
    assert {name: accounts.account_of(key) for name, key in keys.items()} == {"alice": "alice", "bob": "bob"}
    for wrong in ("", keys["alice"][:-1], keys["alice"] + "x", keys["alice"].swapcase(), "rm_"):
        assert accounts.account_of(wrong) is None


def test_no_key_is_kept_in_clear(redis: Redis, accounts: Accounts) -> None:
    key = accounts.create_key("alice")
    kept = " ".join(
        [*redis.keys("*"), *(str(redis.hgetall(name)) for name in redis.keys("rm:key:*") + redis.keys("rm:account:*"))]
    )
    assert key not in kept
    assert key[8:] not in kept


@pytest.mark.parametrize("name", ["", "Alice", "a b", "a:b", "a/normal", "-a", "ä", "a" * 41, "a\n", "*"])
def test_a_name_that_would_not_be_safe_in_every_key_is_refused(redis: Redis, accounts: Accounts, name: str) -> None:
    with pytest.raises(ValueError, match="account name"):
        accounts.create_key(name)
    assert redis.keys("*") == []


def test_a_key_is_revoked_by_its_hint_or_in_full(accounts: Accounts) -> None:
    keys = [accounts.create_key("alice") for _ in range(3)]
    first, second, third = accounts.keys()
    assert {info.hint for info in (first, second, third)} == {key[:8] for key in keys}
    assert accounts.revoke_key(keys[0][:8])
    assert accounts.revoke_key(keys[1])
    assert [accounts.account_of(key) for key in keys] == [None, None, "alice"]
    assert len(accounts.keys()) == 1


@pytest.mark.parametrize("hint", ["", "rm", "rm_", "no-such"])
def test_what_means_no_key_revokes_none(accounts: Accounts, hint: str) -> None:
    key = accounts.create_key("alice")
    assert accounts.revoke_key(hint) is None
    assert accounts.revoke_key(key[:8] + "x" * 40) is None, "another key with the same beginning"
    assert accounts.account_of(key) == "alice"


def test_a_webhook_secret_stays_until_it_is_rotated(accounts: Accounts) -> None:
    secret = accounts.webhook_secret("alice")
    assert accounts.webhook_secret("alice") == secret
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
    rotated = accounts.rotate_webhook_secret("alice")
    assert accounts.webhook_secret("alice") == rotated != secret


@pytest.mark.parametrize("weight", [0.0, -1.0, 1e-9, 1e9, float("nan"), float("inf")])
def test_a_weight_that_would_upset_the_fair_queue_is_refused(redis: Redis, accounts: Accounts, weight: float) -> None:
    accounts.create_key("alice")
    with pytest.raises(ValueError, match="weight"):
        accounts.set_weight("alice", weight)
    with pytest.raises(ValueError, match="no account"):
        accounts.set_weight("nobody", 2.0)
    assert redis.hget("rm:account:alice", "weight") is None
