"""Accounts and their API keys.

An account is a name; everything a key makes belongs to its account. A key is shown once, when it is made; only its
SHA-256 is kept, which is enough for a secret of 238 random bits.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from typing import cast

from redis import Redis

from shared.ids import new_id
from shared.redis_client import PREFIX

#: Short, safe in every key, URL and label.
_ACCOUNT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
#: An account's share of a busy farm. The range keeps the bound on unfairness, which grows with 1/weight, in reason.
MIN_WEIGHT, MAX_WEIGHT = 0.01, 100.0
#: Standard Webhooks asks for 24 to 64 random bytes.
_WEBHOOK_SECRET_BYTES = 32
#: A receiver has a day to take the new secret over.
_OLD_SECRET_S = 86400


def new_webhook_secret() -> str:
    """A new signing secret in the form of Standard Webhooks: `whsec_` and base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_WEBHOOK_SECRET_BYTES)).decode()


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is remembered of a key: its first characters and when it was made."""

    account: str
    hint: str
    created_at: float
    digest: str


class Accounts:
    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix

    def create_key(self, account: str) -> str:
        """A new API key of `account`, which is made when it does not exist.

        Raises ValueError for a name that is not 1 to 40 lower-case letters, digits, `_` or `-`.
        """
        if not _ACCOUNT_NAME.fullmatch(account):
            raise ValueError(
                f"{account!r} is no account name: use 1 to 40 lower-case letters, digits, '_' or '-', "
                "beginning with a letter or digit"
            )
        key = new_id("rm") + secrets.token_hex(12)
        digest = _digest(key)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.sadd(self._prefix + "accounts", account)
        pipeline.hsetnx(f"{self._prefix}account:{account}", "webhook_secret", new_webhook_secret())
        pipeline.hset(
            f"{self._prefix}key:{digest}", mapping={"account": account, "hint": key[:8], "created": repr(time.time())}
        )
        pipeline.sadd(f"{self._prefix}keys:{account}", digest)
        pipeline.execute()
        return key

    def account_of(self, key: str) -> str | None:
        """The account a key belongs to, or None for an unknown key."""
        return cast(str | None, self._redis.hget(f"{self._prefix}key:{_digest(key)}", "account"))

    def names(self) -> list[str]:
        """Every account, by name."""
        return sorted(cast(set[str], self._redis.smembers(self._prefix + "accounts")))

    def keys(self) -> list[KeyInfo]:
        """Every key, oldest first."""
        found = []
        for account in self.names():
            for digest in cast(set[str], self._redis.smembers(f"{self._prefix}keys:{account}")):
                record = cast(dict[str, str], self._redis.hgetall(f"{self._prefix}key:{digest}"))
                if record:  # else it was revoked since
                    found.append(KeyInfo(account, record["hint"], float(record["created"]), digest))
        return sorted(found, key=lambda info: info.created_at)

    def revoke_key(self, hint: str) -> KeyInfo | None:
        """Forget a key, told by its hint or by the whole key; None where no key, or more than one, is meant."""
        matches = [info for info in self.keys() if info.hint == hint or info.digest == _digest(hint)]
        if len(matches) != 1:
            return None
        info = matches[0]
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(f"{self._prefix}key:{info.digest}")
        pipeline.srem(f"{self._prefix}keys:{info.account}", info.digest)
        pipeline.execute()
        return info

    def set_weight(self, account: str, weight: float) -> None:
        """Give the account that many times the share of an account that was never given a weight.

        Raises ValueError outside `MIN_WEIGHT` to `MAX_WEIGHT`, and for an account that does not exist.
        """
        if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
            raise ValueError(f"a weight is a number from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}, not {weight!r}")
        if not self._redis.sismember(self._prefix + "accounts", account):
            raise ValueError(f"there is no account {account!r}; create a key for it first")
        self._redis.hset(f"{self._prefix}account:{account}", "weight", repr(float(weight)))

    def webhook_secret(self, account: str) -> str:
        """The secret that signs webhooks to the `webhook_url` of the account's jobs."""
        name = f"{self._prefix}account:{account}"
        self._redis.hsetnx(name, "webhook_secret", new_webhook_secret())
        return cast(str, self._redis.hget(name, "webhook_secret"))

    def rotate_webhook_secret(self, account: str) -> str:
        """A new webhook secret; the present one goes on to sign beside it for a day."""
        secret, before = new_webhook_secret(), self.webhook_secret(account)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.set(f"{self._prefix}old_webhook_secret:{account}", before, ex=_OLD_SECRET_S)
        pipeline.hset(f"{self._prefix}account:{account}", "webhook_secret", secret)
        pipeline.execute()
        return secret

    def webhook_secrets(self, account: str) -> list[str]:
        """The secrets that sign now: the present one, and that before it for a day after a rotation."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hget(f"{self._prefix}account:{account}", "webhook_secret")
        pipeline.get(f"{self._prefix}old_webhook_secret:{account}")
        present, before = cast(list[str | None], pipeline.execute())
        return [present or self.webhook_secret(account), *([before] if before else [])]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
