"""Lines of hostile files, however they are cut into pieces."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake import jsonl
from intake.jsonl import RawLine, raw_lines

LIMIT = 12
TEXT = st.binary(max_size=80).map(lambda data: data.replace(b"\x00", b"\n").replace(b"\x01", b"\r\n"))


@pytest.fixture(autouse=True, scope="module")
def short_lines() -> Iterator[None]:
    """Lines of a few bytes are too long already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "MAX_LINE_BYTES", LIMIT)
        yield


def plainly(data: bytes) -> list[RawLine]:
    """The lines of a file that is all in memory."""
    found, end = [], 0
    for number, text in enumerate(data.split(b"\n"), 1):
        end = min(len(data), end + len(text) + 1)
        long = len(text) > LIMIT
        if number == 1 and not long:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if long or text.strip():
            found.append(RawLine(number, None if long else text, end))
    return found


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(data=st.one_of(TEXT, TEXT.map(lambda text: b"\xef\xbb\xbf" + text)), cuts=st.lists(st.integers(0, 100)))
@settings(max_examples=400, deadline=None)
def test_lines_are_the_same_however_the_file_is_cut(data: bytes, cuts: list[int]) -> None:
    assert list(raw_lines(pieces(data, cuts))) == plainly(data)


@given(data=TEXT, cuts=st.lists(st.integers(0, 100)), stop=st.integers(0, 20))
@settings(max_examples=400, deadline=None)
def test_reading_goes_on_behind_any_line(data: bytes, cuts: list[int], stop: int) -> None:
    lines = plainly(data)
    before, after = lines[:stop], lines[stop:]
    offset, number = (before[-1].end, before[-1].number) if before else (0, 0)
    assert list(raw_lines(pieces(data[offset:], cuts), offset, number)) == after


def test_a_long_line_is_never_held() -> None:

    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"x" * 10
        yield b"\nend"

    lines = list(raw_lines(endless()))
    assert [(line.number, line.data, line.end) for line in lines] == [(1, None, 10_001), (2, b"end", 10_004)]
