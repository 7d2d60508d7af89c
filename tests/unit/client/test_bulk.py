"""The parts of a submission that need no farm: names, tables, what is shown, and that fields are those there are."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError, fields

from api.schemas.batch import Window
from client.batches import Batch, is_window
from client.bulk import sources
from client.bulk.display import Display
from client.bulk.sources import lines_of, setting
from client.errors import Unreachable
from intake.job_body import JobBody
from shared.picture_names import PictureNames, numbered


def batch(status: str, completed: int = 0, failed: int = 0, **more: Any) -> Batch:
    counts = {"total": 10, "completed": completed, "failed": failed}
    members = {"id": "batch_1", "endpoint": "/v1/jobs", "input_file_id": "file_1"}
    return Batch.from_json({**members, "status": status, "request_counts": counts, **more})


def test_without_a_terminal_each_stage_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(10, 20, settled=0, failed=0) as display:
        display.uploading("uploading", 2048)(2048)
        display.batch(1, batch("validating"))
        display.eta(1, 125)
        display.batch(1, batch("in_progress", completed=4, failed=1))
        display.batch(1, batch("in_progress", completed=5, failed=1))
        display.batch(1, batch("completed", completed=9, failed=1))
    assert capsys.readouterr().err.splitlines() == [
        "uploading: 0 bytes of 2.0 kB",
        "validating: 0 of 10 done",
        "rendering: 5 of 10 done, 1 failed, 0 here, 2 min left",
        "saving: 10 of 10 done, 1 failed, 0 here",
    ]


def test_a_batch_that_waits_for_credits_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    poor = batch("in_progress", held_up={"code": "insufficient_credits", "message": "This costs 2 credits."})
    full = batch("in_progress", held_up={"code": "queue_full_account", "message": "Too many wait."})
    with Display(10, 10, settled=0, failed=0) as display:
        display.eta(1, 125)
        for seen in (poor, poor, full):
            display.batch(1, seen)
    assert capsys.readouterr().err.splitlines() == [
        "batch_1 waits for credits: This costs 2 credits. With more of them it goes on.",
        "rendering: 0 of 10 done",
    ]


def test_a_farm_that_is_away_is_waited_for_in_words_and_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(10, 10, settled=0, failed=0) as display:
        display.uploading("uploading", 1)
        display.retrying(Unreachable("No farm answers"))
        display.retrying(None)
        display.uploading("uploading", 1)(1)
        display.batch(1, batch("in_progress", completed=4))
        display.retrying(Unreachable("No farm answers"))
        display.retrying(Unreachable("No farm answers"))
        display.retrying(None)
    assert capsys.readouterr().err.splitlines() == [
        "uploading: 0 bytes of 1 byte",
        "waiting for the farm: 0 of 10 done, trying again",
        "uploading: 0 bytes of 1 byte",
        "rendering: 4 of 10 done, 0 here",
        "waiting for the farm: 4 of 10 done, trying again",
        "rendering: 4 of 10 done, 0 here",
    ]


def test_an_end_that_was_predicted_and_has_passed_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(10, 10, settled=0, failed=0) as display:
        display.eta(1, 0.0)
        display.batch(1, batch("in_progress"))
    assert capsys.readouterr().err == "rendering: 0 of 10 done\n"


@pytest.mark.parametrize("window", ["1h", "336h", "14d", "337h", "15d", "0d", "d", "1w", " 1d", "999d", "1000h"])
def test_the_client_knows_what_windows_the_farm_takes(window: str) -> None:
    try:
        taken = Window().deserialize(window) == window
    except ValidationError:
        taken = False
    assert is_window(window) is taken


@given(st.lists(st.tuples(st.text(max_size=80), st.integers(1, 10)), max_size=30))
def test_names_are_safe_and_no_two_are_alike(lines: list[tuple[str, int]]) -> None:
    names = PictureNames()
    made = [
        name for number, (text, n) in enumerate(lines, start=1) for name in numbered(names.take(number, text, n), n)
    ]
    assert len({name.lower() for name in made}) == len(made)
    for name in made:
        assert Path(name).name == name
        assert not name.startswith((".", "-"))
        assert len(name.encode()) < 240
        assert not any(character in name for character in '/\\:*?"<>| \0\n')


def test_a_device_of_windows_is_no_name() -> None:
    assert PictureNames().take(1, "NUL.txt", 1) == "_NUL.txt"


def test_a_table_has_the_fields_of_a_job_with_their_types() -> None:
    typed = {"model": str, "width": int}
    schema = JobBody().fields
    kinds = {"Int": int, "Number": float}
    for name, field in schema.items():
        if isinstance(field, fields.List | fields.Dict) or name == "metadata":
            continue
        typed[name] = kinds.get(type(field).__name__, str)
    assert {**dict.fromkeys(sources.TEXTS, str), **sources.NUMBERS} == typed


@pytest.mark.parametrize(
    "content", [codecs.BOM_UTF8 + b"prompt\tseed\na\t1\n\nb\t\n", b"prompt\tseed\r\na\t1\r\n\r\nb\t\r\n"]
)
def test_a_table_may_have_tabs_a_bom_crlf_and_blank_lines(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "table.tsv"
    file.write_bytes(content)
    with lines_of(str(file)) as lines:
        found = list(lines)
    assert [(line.number, line.body) for line in found] == [(2, {"prompt": "a", "seed": 1}), (4, {"prompt": "b"})]


@pytest.mark.parametrize(
    ("text", "known"),
    [("width=512", 512), ("name=fox", "fox"), ('metadata={"a": "b"}', {"a": "b"}), ("prompt=a=b", "a=b")],
)
def test_a_setting_is_json_or_a_text(text: str, known: object) -> None:
    assert setting(text) == (text.partition("=")[0], known)
