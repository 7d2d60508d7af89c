"""Values as programs and as people read them."""

from __future__ import annotations

import time

import pytest

from client.commands.cells import Bar, Cell, Moment, Number, Share, Status, credits_, duration, size


def shown(cell: Cell) -> tuple[str, str]:
    return str(cell), cell.__rich__().plain


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0%"), (0.5, "50%"), (0.999, "99%"), (1.0, "100%")], ids=["none", "half", "nearly", "all"]
)
def test_a_bar_is_full_only_where_all_is_done(share: float, text: str) -> None:
    for_programs, for_people = shown(Bar(share))
    assert for_programs == text
    assert for_people.endswith(text)
    assert len(for_people) == len("━" * 16 + " 100%")


def test_a_moment_is_utc_for_programs_and_how_long_ago_for_people() -> None:
    assert shown(Moment(1_700_000_000))[0] == "2023-11-14T22:13:20Z"
    assert shown(Moment("2026-01-02T04:04:05.678+01:00"))[0] == "2026-01-02T03:04:05Z"
    assert shown(Moment(time.time() - 200))[1] == "3 min ago"
    assert shown(Moment(time.time() + 7300))[1] == "in 2 h"
    assert shown(Moment(None)) == ("", "")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_a_duration_is_in_the_largest_unit_that_it_fills(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (123_456_789, "123 MB"), (5e12, "5000.0 GB")]
)
def test_sizes_are_in_thousands(count: float, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("amount", "words"), [(None, ""), (0.0, "0"), (0.000001, "0.000001"), (1234.5, "1,234.5"), (100.0, "100")]
)
def test_credits_have_the_decimal_places_that_they_need(amount: float | None, words: str) -> None:
    assert credits_(amount) == words


def test_a_limit_that_is_reached_stands_out() -> None:
    assert str(Share(3, None)) == "3"
    assert Share(9, 10).__rich__().style == ""
    assert Share(10, 10).__rich__().style == "yellow"


def test_a_status_has_the_colour_of_how_it_went() -> None:
    assert Status("succeeded").__rich__().style == "green"
    assert Status("failed").__rich__().style == "red"
    assert Status("new here").__rich__().style == ""


def test_a_number_stands_at_the_right() -> None:
    assert Number("1.5").__rich__().justify == "right"
