"""What an account may do: its rate of requests, its queued and running jobs, its balance.

They lie in the account's record. `enqueue.lua` holds jobs to the first two and to the balance, `claim.lua` to the
number that may run; this module changes and reads them, and says what a refusal means.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from redis import Redis

from shared.credits import MAX_CREDITS, MICROS, credits_of
from shared.errors import RendermillError
from shared.jobs import JobStatus
from shared.redis_client import PREFIX, Script

_RATE = re.compile(r"(\d{1,9})/(\d{0,9})(s|min|h|d)")
_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86400}
#: A bucket that takes longer than this to fill is no rate but a budget.
_MAX_PERIOD_S = 30 * 86400
#: When to come back to a queue that is full: nobody knows, but a batch has been rendered by then.
_QUEUE_RETRY_S = 10
#: A call's name is remembered for minutes; 96 random bits never meet in that time.
_CALL_NAME_BYTES = 12


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests at once, and again as many over each period."""

    requests: int
    period_s: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rate of `60/min`, `10/s`, `1000/h`, `5000/d` or `100/30s`. Raises ValueError for anything else."""
        match = _RATE.fullmatch(text.replace(" ", ""))
        if match is None or match[2] == "0" or int(match[1]) == 0:
            raise ValueError(f"{text!r} is no rate: write requests/period, such as 60/min, 10/s or 100/30s")
        period_s = int(match[2] or 1) * _UNITS_S[match[3]]
        if period_s > _MAX_PERIOD_S:
            raise ValueError(f"the period of a rate is at most {_MAX_PERIOD_S // 86400} days, not {text!r}")
        return cls(int(match[1]), period_s)

    def left(self, full_in_s: float) -> int:
        """Requests that may be made now, where all will be back in so many seconds."""
        # A hair must not cost a request: enqueue.lua counts in the same way.
        return max(0, math.floor((self.period_s - full_in_s + 1e-5) * self.requests / self.period_s))

    def __str__(self) -> str:
        unit = next(unit for unit in ("d", "h", "min", "s") if self.period_s % _UNITS_S[unit] == 0)
        count = self.period_s // _UNITS_S[unit]
        return f"{self.requests}/{'' if count == 1 else count}{unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """An account's limits; None is none."""

    weight: float = 1.0
    rate: Rate | None = None
    #: Most jobs that wait, those that wait for a retry among them.
    max_queued: int | None = None
    #: Most jobs that run at once.
    max_running: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """An account's credits, in millionths."""

    #: What is left to reserve; None where the account need not pay.
    available: int | None
    #: Taken from it for jobs that are not finished.
    reserved: int
    #: Paid for pictures, ever.
    charged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What is taken of an account's limits at a moment."""

    #: None without a rate.
    requests_left: int | None
    queued: int
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountState:
    limits: Limits
    used: Used
    balance: Balance


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an account stands with those of its limits that jobs are held to when they come in."""

    rate: Rate | None = None
    requests_left: int = 0
    #: Seconds until all requests of the rate are back.
    full_in_s: int = 0
    max_queued: int | None = None
    queued: int = 0

    @classmethod
    def from_answer(cls, row: Sequence[str]) -> Self:
        """The end of an answer of `enqueue.lua`."""
        requests, period_ms, left, full_in_ms, max_queued, queued = row
        return cls(
            rate=_rate(requests, period_ms) if requests else None,
            requests_left=max(0, int(left or 0)),
            full_in_s=_whole_seconds(full_in_ms or "0"),
            max_queued=int(max_queued) if max_queued else None,
            queued=int(queued or 0),
        )


class Refused(RendermillError):
    """A job that a limit stands against, and those after it. `standing` says how near the others are."""

    def __init__(self, verdict: str, detail: str, standing: Standing) -> None:
        self.standing = standing
        words, retry_s, extra = _explained(verdict, detail, standing)
        headers = {} if retry_s is None else {"Retry-After": str(retry_s)}
        super().__init__(verdict, words, headers=headers, **extra)


def _explained(verdict: str, detail: str, standing: Standing) -> tuple[str, int | None, dict[str, list[str] | float]]:
    """What a verdict of `enqueue.lua` says to the client: words, seconds to wait, members of the problem document."""
    match verdict:
        case "rate_limited":
            retry_s = max(1, _whole_seconds(detail))
            words = f"The account may make {standing.rate} requests; the next one in {retry_s} s."
            return words, retry_s, {"violated-policies": ["requests"]}
        case "queue_full_account":
            words = (
                f"{standing.queued} of the account's jobs wait, and {standing.max_queued} may. "
                "Wait for some of them to begin, or cancel them."
            )
            return words, _QUEUE_RETRY_S, {"violated-policies": ["queue"]}
        case "queue_full":
            return "The farm has more jobs than it should take on. Try again in a while.", _QUEUE_RETRY_S, {}
        case _:
            needed, balance = (credits_of(int(amount)) for amount in detail.split())
            words = f"This costs {needed:,.6g} credits, and the balance is {balance:,.6g}."
            return words, None, {"price": needed, "balance": balance}


def _whole_seconds(milliseconds: str) -> int:
    return -(-int(milliseconds) // 1000)


class AccountLimits:
    """Reads and changes the limits and balances of accounts."""

    def __init__(self, redis: Redis, prefix: str = PREFIX) -> None:
        self._redis = redis
        self._prefix = prefix
        self._set = Script(redis, "set_limits", prefix)

    def account(self, account: str) -> AccountState:
        """Everything about the account, as it was at one moment."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hgetall(f"{self._prefix}account:{account}")
        pipeline.zcard(f"{self._prefix}jobs:{account}:{JobStatus.QUEUED}")
        pipeline.zcard(f"{self._prefix}jobs:{account}:{JobStatus.RUNNING}")
        pipeline.get(f"{self._prefix}rate:{account}")
        pipeline.time()
        record, queued, running, full_at_ms, (seconds, microseconds) = pipeline.execute()
        rate = _rate(record["rate_requests"], record["rate_period"]) if "rate_requests" in record else None
        filling_s = max(0.0, float(full_at_ms or 0) / 1000 - seconds - microseconds / 1e6)
        return AccountState(
            limits=Limits(
                weight=float(record.get("weight", 1)),
                rate=rate,
                max_queued=_optional(record, "max_queued"),
                max_running=_optional(record, "max_running"),
            ),
            used=Used(
                requests_left=None if rate is None else rate.left(filling_s),
                queued=queued,
                running=running,
            ),
            balance=Balance(
                available=_optional(record, "balance"),
                reserved=int(record.get("reserved", 0)),
                charged=int(record.get("charged", 0)),
            ),
        )

    def balance(self, account: str) -> Balance:
        return self.account(account).balance

    def set_rate(self, account: str, rate: Rate | None) -> None:
        """Raises ValueError, as all the others do, for an account that does not exist."""
        if rate is None:
            self._change(account, "rate_requests", "", "rate_period", "")
        else:
            self._change(account, "rate_requests", rate.requests, "rate_period", rate.period_s * 1000)

    def set_max_queued(self, account: str, jobs: int | None) -> None:
        self._change(account, "max_queued", _count(jobs))

    def set_max_running(self, account: str, jobs: int | None) -> None:
        """Jobs that run already go on, however many there are."""
        self._change(account, "max_running", _count(jobs))

    def set_balance(self, account: str, micros: int | None) -> None:
        """What can be reserved from now on; None where the account need not pay."""
        self._change(account, "balance", "" if micros is None else micros)

    def top_up(self, account: str, micros: int) -> None:
        """Add to the balance, which begins at nothing. Raises ValueError where it would become too large to count."""
        if (self.balance(account).available or 0) + micros > MAX_CREDITS * MICROS:
            raise ValueError(f"a balance is at most {MAX_CREDITS} credits")
        self._change(account, "top_up", micros)

    def _change(self, account: str, *changes: str | int) -> None:
        if not self._set(account, secrets.token_urlsafe(_CALL_NAME_BYTES), *changes):
            raise ValueError(f"there is no account {account!r}; create a key for it first")


def _rate(requests: str, period_ms: str) -> Rate:
    return Rate(int(requests), int(period_ms) // 1000)


def _optional(record: dict[str, str], name: str) -> int | None:
    return int(record[name]) if name in record else None


def _count(jobs: int | None) -> str | int:
    if jobs is not None and jobs < 0:
        raise ValueError(f"a number of jobs is not negative: {jobs}")
    return "" if jobs is None else jobs
