"""What `rendermill submit` and `resume` make of files that somebody, or a crash, has damaged."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from client import AsyncClient, NotFound
from client.bulk.ledger import RESULTS, Ledger, row
from client.bulk.state import FOLDER
from client.exit_codes import ExitCode
from tests.unit.client.served import Served
from tests.unit.client.submitting import pictures, rows, run, submit

LINES = '{"prompt": "a"}\n{"prompt": "fail: render_failed"}\n{"prompt": "b"}\n'
STATE = Path("out") / FOLDER / "submission.json"


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As on a disk that is full: a write takes what there is room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("serving")
def test_results_that_were_removed_are_written_again_without_fetching_a_picture(door: Served) -> None:
    submit("-", "--out", "out", input=LINES)
    found = rows("out/results.jsonl")
    Path("out/results.jsonl").unlink()
    assert run("resume", "out").stdout == "2 of 3 lines succeeded, 2 pictures in out\n"
    assert rows("out/results.jsonl") == found
    assert set(door.downloads().values()) == {1}


@pytest.mark.usefixtures("serving")
def test_rows_that_were_lost_though_it_went_on_are_written_again(door: Served) -> None:
    submit("-", "--out", "out", input=LINES)
    results = Path("out/results.jsonl")
    whole = results.read_bytes()
    known = json.loads(STATE.read_text())
    known["parts"][0]["done"] = False
    STATE.write_text(json.dumps({**known, "finished": False}))
    results.write_bytes(whole[: whole.index(b"\n") + 1])
    run("resume", "out")
    assert results.read_bytes() == whole
    assert set(door.downloads().values()) == {1}


@pytest.mark.usefixtures("serving", "door")
def test_jobs_that_do_not_know_whose_line_they_are_are_found_in_the_output_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.views._batch", lambda job: {"batch_id": job.batch, "custom_id": None})
    result = submit("-", "--out", "out", input=LINES)
    assert result.stdout == "2 of 3 lines succeeded, 2 pictures in out\n", result.output
    assert pictures("out") == ["line-00001.jpeg", "line-00003.jpeg"]
    (failed,) = rows("out/errors.jsonl")
    assert (failed["line"], failed["error"]["code"]) == (2, "render_failed")


@pytest.mark.usefixtures("serving", "door")
def test_what_the_farm_has_forgotten_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    submit("-", "--out", "out", input=LINES)
    Path("out/results.jsonl").unlink()
    gone = NotFound(410, "gone", "It is gone.")
    monkeypatch.setattr(AsyncClient, "finished_jobs", AsyncMock(return_value=([], 0, False)))
    monkeypatch.setattr(AsyncClient, "failures", AsyncMock(side_effect=gone))
    monkeypatch.setattr(AsyncClient, "file_content", AsyncMock(side_effect=gone))
    result = run("resume", "out")
    assert result.exit_code == ExitCode.FAILED
    assert result.stdout == "0 of 3 lines succeeded, 0 pictures in out\n", result.output
    assert {row["error"]["message"] for row in rows("out/errors.jsonl")} == {
        "The batch is completed; no more is known of this line."
    }


@pytest.mark.usefixtures("serving")
def test_a_window_that_the_farm_refused_can_be_put_right(door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the farm took less than the command line thinks it does.
    monkeypatch.setattr("client.commands.submit.is_window", lambda _: True)
    refused = submit("-", "--out", "out", "--window", "99d", input=LINES)
    assert refused.exit_code == ExitCode.FAILED
    assert "completion_window" in refused.stderr
    mended = submit("-", "--out", "out", input=LINES)
    assert mended.stdout == "2 of 3 lines succeeded, 2 pictures in out\n", mended.output
    other = submit("-", "--out", "out", "--window", "2d", input=LINES)
    assert "This was submitted with other options" in other.stderr
    assert door.count("POST", "/v1/files") == 1


@pytest.mark.usefixtures("serving", "door")
def test_what_was_left_by_somebody_who_was_killed_while_reading_is_removed() -> None:
    (left := Path("out") / FOLDER / "new-1").mkdir(parents=True)
    (left / "1.jsonl").write_text("{}\n")
    submit("-", "--out", "out", input=LINES)
    assert not left.exists()


@pytest.mark.parametrize("content", ["nonsense\n", "[]\n", "{}\n", "\n"])
@pytest.mark.usefixtures("serving", "door")
def test_a_row_that_is_none_is_named(content: str) -> None:
    submit("-", "--out", "out", input=LINES)
    with Path("out/results.jsonl").open("a") as results:
        results.write(content)
    result = run("resume", "out")
    assert result.exit_code == ExitCode.FAILED
    assert "Row 4 of out/results.jsonl is none of this command." in result.stderr


@pytest.mark.parametrize("content", ["nonsense", "[]", "5", "{}", '{"version": 0}', '{"version": 1, "parts": [5]}'])
@pytest.mark.usefixtures("door")
def test_a_state_of_another_version_is_one_clear_line(content: str) -> None:
    STATE.parent.mkdir(parents=True)
    STATE.write_text(content)
    for result in (run("resume", "out"), submit("-", "--out", "out", input=LINES)):
        assert result.exit_code == ExitCode.FAILED
        assert f"rendermill: {STATE} cannot be read: " in result.stderr


@pytest.mark.usefixtures("door")
def test_a_folder_that_cannot_be_used_is_one_clear_line() -> None:
    STATE.parent.mkdir(parents=True)
    STATE.write_text("{}")
    (STATE.parent / "lock").mkdir()
    result = run("resume", "out")
    assert (result.exit_code, result.stderr) == (
        ExitCode.USAGE,
        f"rendermill: {STATE.parent / 'lock'} cannot be used: Is a directory\n",
    )


def test_a_row_for_which_the_disk_has_no_room_is_no_row(tmp_path: Path) -> None:
    made = [row(line, f"line-{line}", job="job_a", status="succeeded", files=[]) for line in (1, 2)]
    with Ledger(tmp_path) as ledger:
        ledger.add(made[0])
        size = (tmp_path / RESULTS).stat().st_size
        with files_no_larger_than(size + 10), pytest.raises(OSError, match="No space left"):
            ledger.add(made[1])
        assert 2 not in ledger
    with Ledger(tmp_path) as ledger:
        ledger.add(made[1])
    assert rows(str(tmp_path / RESULTS)) == made


@pytest.mark.usefixtures("serving", "door")
def test_half_a_pair_of_surrogates_is_told_as_it_was_written() -> None:
    result = submit("-", "--wait", "--json", input='{"prompt": "a", "custom_id": "\\ud83d"}\n')
    (told,) = (json.loads(text) for text in result.stdout.splitlines())
    assert told["custom_id"] == "\ud83d"
