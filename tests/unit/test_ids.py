"""Identifiers: their form, and that every character is as likely as any other."""

from __future__ import annotations

import re
from collections import Counter

from shared.ids import new_id


def test_an_id_is_its_kind_and_24_letters_or_digits() -> None:
    for _ in range(1000):
        assert re.fullmatch(r"job_[A-Za-z0-9]{24}", new_id("job"))


def test_ids_do_not_repeat() -> None:
    assert len({new_id("job") for _ in range(10_000)}) == 10_000


def test_every_character_is_as_likely_as_any_other() -> None:
    drawn = 5_000 * 24
    counts = Counter(character for _ in range(5_000) for character in new_id("x")[2:])
    assert len(counts) == 62
    # Eight standard deviations of a binomial distribution: chance alone does not get there.
    expected = drawn / 62
    assert all(abs(count - expected) < 8 * expected**0.5 for count in counts.values())
