"""`rendermill resume --retry-failed`: what made no pictures is handed in once more, into the same folder."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from typer.testing import Result

from client import AsyncClient, NotFound
from client.bulk.state import FOLDER
from client.exit_codes import ExitCode
from tests.unit.client.served import Served
from tests.unit.client.submitting import pictures, rows
from tests.unit.client.submitting import run as rendermill

LINES = (
    '{"prompt": "a"}\n{"prompt": "fail once: render_failed"}\n{"custom_id": "bad", "prompt": "x", "n": 99}\n'
    '{"custom_id": "old", "url": "/v1/images/generations", "body": {"prompt": "fail once: timeout", "n": 2}}\n'
    '{"url": "/v1/images/imagine", "custom_id": "cat", "body": {"name": "cat", "prompt": "fail once: gone"}}\n'
)

pytestmark = pytest.mark.usefixtures("serving")


def submit(lines: str) -> Result:
    # No sizes: the routes of other services have none.
    return rendermill("submit", "-", "--out", "out", "--model", "sdxl-lightning", input=lines)


def failed(folder: str = "out") -> list[int]:
    """The lines without pictures, of which the results and the errors say the same."""
    errors = [row["line"] for row in rows(f"{folder}/errors.jsonl")]
    assert errors == [row["line"] for row in rows(f"{folder}/results.jsonl") if row["error"]]
    return errors


def test_what_failed_is_handed_in_once_more_and_nothing_else(door: Served) -> None:
    first = submit(LINES)
    assert first.exit_code == ExitCode.FAILED
    assert "'rendermill resume out --retry-failed' tries once more" in first.stderr
    assert failed() == [2, 3, 4, 5]
    here = dict(door.downloads())
    again = rendermill("resume", "out", "--retry-failed")
    assert (again.exit_code, again.stdout) == (ExitCode.FAILED, "4 of 5 lines succeeded, 5 pictures in out\n")
    assert pictures("out") == ["cat.jpeg", "line-00001.jpeg", "line-00002.jpeg", "old_0.png", "old_1.png"]
    found = rows("out/results.jsonl")
    assert [(row["line"], row["status"]) for row in found] == [
        (1, "succeeded"),
        (2, "succeeded"),
        (3, "refused"),
        (4, "succeeded"),
        (5, "succeeded"),
    ]
    assert len({row["job"] for row in found}) == 5
    assert failed() == [3]
    assert all(door.downloads()[path] == times for path, times in here.items()), "what was here was fetched again"
    assert door.count("POST", "/v1/batches") == 4, "one more for each endpoint"


def test_what_fails_again_can_be_retried_again_and_again(door: Served) -> None:
    submit('{"prompt": "fail: render_failed"}\n{"prompt": "a"}\n')
    jobs = set()
    for _ in range(3):
        assert rendermill("resume", "out", "--retry-failed").stdout == "1 of 2 lines succeeded, 1 picture in out\n"
        (row,) = rows("out/errors.jsonl")
        jobs.add(row["job"])
    assert len(jobs) == 3, "each time a job of its own"
    assert set(door.downloads().values()) == {1}
    assert rendermill("resume", "out").stdout == "1 of 2 lines succeeded, 1 picture in out\n"
    assert {row["job"] for row in rows("out/errors.jsonl")} <= jobs, "it is not retried unless that is asked for"


def test_where_nothing_failed_nothing_is_handed_in(door: Served) -> None:
    submit('{"prompt": "a"}\n')
    assert rendermill("resume", "out", "--retry-failed").stdout == "1 of 1 line succeeded, 1 picture in out\n"
    assert door.count("POST", "/v1/batches") == 1


@pytest.mark.parametrize("killed_in", ["client.bulk.retry.ledger.forget", "client.bulk.run.hand_in"])
def test_a_retry_that_is_killed_is_gone_on_with(killed_in: str, door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(LINES)
    with monkeypatch.context() as patch:
        patch.setattr(killed_in, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert rendermill("resume", "out", "--retry-failed").exit_code == ExitCode.INTERRUPTED
    assert rendermill("resume", "out").stdout == "4 of 5 lines succeeded, 5 pictures in out\n"
    assert failed() == [3]
    assert set(door.downloads().values()) == {1}


@pytest.mark.usefixtures("door")
def test_what_is_not_finished_is_not_retried_yet() -> None:
    submit(LINES)
    state = Path("out") / FOLDER / "submission.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "finished": False}))
    result = rendermill("resume", "out", "--retry-failed")
    assert result.exit_code == ExitCode.FAILED
    assert "out is not finished: 'rendermill resume out' goes on with it." in result.stderr


@pytest.mark.usefixtures("door")
def test_where_a_result_was_lost_it_is_found_again_first() -> None:
    submit(LINES)
    results = Path("out/results.jsonl")
    results.write_text(results.read_text().replace('{"line":4', '{"line":400'))
    assert "out is not finished" in rendermill("resume", "out", "--retry-failed").stderr
    results.unlink()
    assert rendermill("resume", "out").stdout == "1 of 5 lines succeeded, 1 picture in out\n"
    assert rendermill("resume", "out", "--retry-failed").stdout == "4 of 5 lines succeeded, 5 pictures in out\n"


@pytest.mark.usefixtures("door")
def test_lines_that_the_farm_has_removed_are_to_be_handed_in_by_oneself(monkeypatch: pytest.MonkeyPatch) -> None:
    submit(LINES)
    monkeypatch.setattr(AsyncClient, "file_content", AsyncMock(side_effect=NotFound(404, "not_found", "It is gone.")))
    result = rendermill("resume", "out", "--retry-failed")
    assert result.exit_code == ExitCode.FAILED
    assert "The farm has removed the lines of batch_" in result.stderr
    assert "'rendermill submit FILE --again --out DIR'" in result.stderr
    assert failed() == [2, 3, 4, 5]
