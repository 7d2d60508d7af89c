"""Credits, what jobs are paid with.

Everywhere within the farm they are whole millionths: sums of them are exact, in Python, in Lua and in Redis. Only
what people read and write are credits.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

MICROS = 1_000_000
#: The most credits of an account: its millionths are counted exactly in a script's double-precision numbers.
MAX_CREDITS = 1_000_000_000


def micros(text: str) -> int:
    """Millionths of what a person wrote. Raises ValueError for what is no amount of credits, or finer than they are."""
    try:
        amount = Decimal(text) * MICROS
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is no amount of credits") from error
    if not amount.is_finite() or amount != int(amount):
        raise ValueError(f"{text!r} is no amount of credits: they have at most six decimal places")
    if not 0 <= amount <= MAX_CREDITS * MICROS:
        raise ValueError(f"credits are from 0 to {MAX_CREDITS}, not {text}")
    return int(amount)


def credits_of(amount: int) -> float:
    """Credits, to be shown; never to be counted with."""
    return amount / MICROS
