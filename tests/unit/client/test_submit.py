"""`rendermill submit` and `resume` against the farm's own front door: lines in, pictures and results out, each once."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from client import Client
from client.batches import MAX_LINES
from client.bulk import plan
from client.bulk.state import FOLDER, Submission, alone
from client.exit_codes import ExitCode
from tests.unit.client.served import Served
from tests.unit.client.submitting import pictures, rows, run, submit

pytestmark = pytest.mark.usefixtures("serving", "door")


def test_every_line_becomes_pictures_named_after_it_and_a_row(door: Served) -> None:
    Path("lines.jsonl").write_text(
        '{"prompt": "a fox", "seed": 7}\n\n'
        '{"custom_id": "../An owl", "prompt": "an owl", "n": 2, "output_format": "png"}\n'
        '{"custom_id": "old", "method": "POST", "url": "/v1/images/generations", "body": {"prompt": "x"}}\n'
    )
    result = run("submit", "lines.jsonl", "--out", "out", "--model", "sdxl-lightning")
    assert result.exit_code == 0, result.output
    assert result.stdout == "3 of 3 lines succeeded, 4 pictures in out\n"
    assert pictures("out") == ["An-owl_0.png", "An-owl_1.png", "line-00001.jpeg", "old.png"]
    found = rows("out/results.jsonl")
    assert [(row["line"], row["custom_id"], row["status"], row["error"]) for row in found] == [
        (1, "line-00001", "succeeded", None),
        (3, "../An owl", "succeeded", None),
        (4, "old", "succeeded", None),
    ]
    assert (found[0]["seed"], found[1]["files"]) == (7, ["An-owl_0.png", "An-owl_1.png"])
    assert not Path("out/errors.jsonl").read_text()
    assert door.count("POST", "/v1/batches") == 2, "one for each endpoint"
    assert door.count("POST", "/v1/jobs") == 0


def test_what_failed_and_what_was_refused_is_in_the_errors_with_its_reason() -> None:
    lines = (
        '{"prompt": "fail: render_failed"}\n{"prompt": "good"}\n{"custom_id": "bad", "prompt": "x", "n": 99}\n'
        '{"prompt": "half of a pair: \\ud800"}\n'
    )
    result = submit("-", "--out", "out", input=lines)
    assert result.exit_code == ExitCode.FAILED
    assert result.stdout == "1 of 4 lines succeeded, 1 picture in out\n"
    assert [
        (row["line"], row["status"], row["error"]["code"], row["job"] is None) for row in rows("out/errors.jsonl")
    ] == [
        (1, "failed", "render_failed", False),
        (3, "refused", "invalid_value", True),
        (4, "refused", "invalid_value", True),
    ]
    assert len(rows("out/results.jsonl")) == 4


def test_what_the_farm_changed_or_did_not_heed_is_told_line_by_line() -> None:
    result = run("submit", "-", "--out", "out", input='{"prompt": "a", "model": "flux-schnell", "guidance_scale": 4}\n')
    assert result.exit_code == 0, result.output
    assert "1 line came with warnings, which are in out/results.jsonl" in result.stderr
    (row,) = rows("out/results.jsonl")
    assert row["warnings"] == [
        "guidance_scale has no effect on black-forest-labs/FLUX.1-schnell without a negative_prompt"
    ]


def test_the_same_lines_again_are_the_same_batch_and_no_picture_is_fetched_twice(door: Served) -> None:
    lines = "".join(f'{{"prompt": "{number}"}}\n' for number in range(5))
    first, again = (submit("-", "--out", "out", input=lines) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0), again.output
    assert again.stdout == first.stdout
    assert set(door.downloads().values()) == {1}
    assert len(pictures("out")) == 5
    other = submit("-", "--out", "other", input=lines)
    assert other.exit_code == 0, other.output
    assert {row["job"] for row in rows("other/results.jsonl")} == {row["job"] for row in rows("out/results.jsonl")}
    assert (door.count("POST", "/v1/files"), door.count("POST", "/v1/batches")) == (1, 2)
    anew = submit("-", "--out", "anew", "--again", input=lines)
    assert anew.exit_code == 0, anew.output
    assert not {row["job"] for row in rows("anew/results.jsonl")} & {row["job"] for row in rows("out/results.jsonl")}


def test_a_folder_is_for_one_submission() -> None:
    assert submit("-", "--out", "out", input='{"prompt": "a"}\n').exit_code == 0
    other = submit("-", "--out", "out", input='{"prompt": "b"}\n')
    assert other.exit_code == ExitCode.FAILED
    assert "out has the pictures of another submission, of standard input; give another --out." in other.stderr
    Path("mine").mkdir()
    Path("mine/results.jsonl").write_text("{}\n")
    assert "mine/results.jsonl is there already" in submit("-", "--out", "mine", input='{"prompt": "b"}\n').stderr


def test_without_waiting_the_batches_are_told_and_resume_waits_for_them() -> None:
    result = submit("-", input='{"prompt": "a"}\n{"prompt": "b"}\n')
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("batch_")
    id_ = result.stderr.rsplit("rendermill resume ", 1)[1].strip()
    waited = run("resume", id_)
    assert (waited.exit_code, waited.stdout) == (0, "2 of 2 lines succeeded\n"), waited.output
    assert run("resume").stdout == waited.stdout, "the newest"
    unfinished = submit("-", input='{"prompt": "other"}\n').stderr.rsplit("rendermill resume ", 1)[1].strip()
    submit("-", "--wait", input='{"prompt": "newer"}\n')
    assert f"This is the submission {unfinished}, of standard input." in run("resume").stderr
    assert run("resume", "nothing").exit_code == ExitCode.FAILED
    (listed,) = (json.loads(row) for row in submit("-", "--json", input='{"prompt": "c"}\n').stdout.splitlines())
    assert (listed["object"], listed["priority"]) == ("batch", "low")


def test_json_is_a_row_for_each_line_as_it_is_finished() -> None:
    result = submit("-", "--wait", "--json", "--priority", "high", input='{"prompt": "a", "custom_id": "x"}\n')
    (row,) = map(json.loads, result.stdout.splitlines())
    assert (row["custom_id"], row["status"], row["files"]) == ("x", "succeeded", [])


def test_a_table_is_submitted_with_its_numbers_typed() -> None:
    Path("table.csv").write_text(
        "custom_id,prompt,seed,guidance_scale,metadata.series,name\n"
        'fox,"a fox, ""red""",7,,animals,\nowl,"an owl\nat night",,,,"An owl"\n'
    )
    result = submit("table.csv", "--out", "out")
    assert result.exit_code == 0, result.output
    assert pictures("out") == ["fox.jpeg", "owl.jpeg"]
    assert [(row["line"], row["seed"] == 7) for row in rows("out/results.jsonl")] == [(2, True), (3, False)]


def test_lines_for_other_routes_are_sent_by_themselves_and_once(door: Served) -> None:
    lines = (
        '{"url": "/v1/images/imagine", "custom_id": "cat", "body": {"name": "cat", "prompt": "a cat"}}\n'
        '{"url": "/v1/images/imagine", "body": {"prompt": "no name"}}\n{"prompt": "a", "model": "sdxl-lightning"}\n'
    )
    sent = run("submit", "-", input=lines)
    assert sent.exit_code == ExitCode.FAILED, "one is refused at once"
    assert [row.split()[0].partition("_")[0] for row in sent.stdout.splitlines()] == ["batch", "job"]
    result = run("submit", "-", "--wait", "--json", input=lines)
    assert result.exit_code == ExitCode.FAILED, result.output
    found = {row["line"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert {line: row["status"] for line, row in found.items()} == {1: "succeeded", 3: "succeeded"}
    assert door.count("POST", "imagine") == 2, "the one that was accepted is known"
    result = run("submit", "-", "--out", "out", input=lines)
    assert pictures("out") == ["cat.jpeg", "line-00003.jpeg"]


def test_the_model_is_for_lines_that_take_the_names_of_the_catalog() -> None:
    lines = (
        '{"prompt": "a"}\n{"url": "/api/v1/images/generations", "body": {"prompt": "b"}}\n'
        '{"url": "/v1/images/imagine", "body": {"name": "c", "prompt": "c"}}\n'
        '{"prompt": "d", "model": "flux-schnell"}\n'
    )
    result = run("submit", "-", "--model", "ByteDance/SDXL-Lightning", "--out", "out", input=lines)
    assert result.exit_code == 0, result.output
    with Client() as farm:
        models = [farm.get(row["job"]).model for row in rows("out/results.jsonl")]
    assert models == [*["ByteDance/SDXL-Lightning"] * 3, "black-forest-labs/FLUX.1-schnell"]


def test_a_file_of_more_lines_than_a_batch_has_room_for_is_several(
    door: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan.MAX_LINES == MAX_LINES
    monkeypatch.setattr(plan, "MAX_LINES", 2)
    lines = "".join(f'{{"prompt": "{number}"}}\n' for number in range(5))
    result = submit("-", "--out", "out", input=lines)
    assert result.exit_code == 0, result.output
    assert door.count("POST", "/v1/batches") == 3
    assert [row["line"] for row in rows("out/results.jsonl")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"prompt": "a"}\n{nonsense\n', "line 2 is not JSON"),
        ("a.jsonl", '{"prompt": "a"\n', "line 1 is not JSON: Expecting ',' delimiter at character 16."),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON that can be read: it is nested too deep"),
        ("a.jsonl", "", "there are no lines"),
        ("a.jsonl", '{"prompt": "a", "custom_id": "x"}\n{"prompt": "b", "custom_id": "x"}', "line 2: custom_id 'x' is"),
        ("a.jsonl", f'{{"prompt": "{"x" * 2**22}"}}', "line 1 has more than 4,194,304 bytes"),
        ("a.csv", "prompt,colour\na,red\n", "line 1: the header must name fields of a job, not 'colour'"),
        ("a.csv", "prompt,prompt\na,b\n", "names prompt twice"),
        ("a.csv", "prompt,seed\na,1\nb,two\n", "line 3: seed must be a number, not 'two'"),
        ("a.csv", "prompt\na,b\n", "line 2 has 2 cells, the header 1"),
        ("a.csv", 'prompt\n"a\n', "is no row of a table"),
    ],
)
def test_a_line_that_is_no_request_is_named_and_nothing_is_submitted(
    door: Served, name: str, content: str, words: str
) -> None:
    Path(name).write_text(content)
    result = submit(name, "--out", "out")
    assert result.exit_code == ExitCode.USAGE
    assert words in result.stderr
    assert result.stderr.endswith("Nothing was submitted.\n")
    assert not door.asked
    assert not Path("out").exists()


def test_without_waiting_a_line_that_is_refused_is_told() -> None:
    result = submit("-", input='{"url": "/v1/images/imagine", "body": {"name": "a"}}\n')
    assert result.exit_code == ExitCode.FAILED
    errors = result.stderr.partition("made no pictures; ")[2].partition(" says why")[0]
    assert [row["error"]["code"] for row in rows(errors)] == ["invalid"]
    assert "1 line made no pictures; " in result.stderr
    assert "submitted" not in result.stderr


def test_a_file_of_prompts_has_one_a_line() -> None:
    Path("a.txt").write_text("a fox\n\n  an owl, {asleep} \n")
    assert submit("a.txt", "--out", "out").exit_code == 0
    assert [row["custom_id"] for row in rows("out/results.jsonl")] == ["line-00001", "line-00003"]


def test_standard_input_is_called_so() -> None:
    assert submit("-", input="a fox\n").stderr.startswith("rendermill: standard input: line 1: the header must name")


def test_a_window_that_no_batch_has_is_a_mistake_of_the_command_line(door: Served) -> None:
    result = submit("-", "--out", "out", "--window", "15d", input='{"prompt": "a"}\n')
    assert result.exit_code == ExitCode.USAGE
    assert "--window: '15d' is no number of hours or days up to 14d" in result.stderr
    assert not door.asked


def test_a_folder_is_free_for_other_lines_where_the_farm_would_not_have_the_first() -> None:
    line = '{"prompt": "a"}\n'
    assert submit("-", "--out", "first", input=line).exit_code == 0
    refused = submit("-", "--out", "second", "--priority", "high", input=line)
    assert refused.exit_code == ExitCode.FAILED
    assert "submitted before, with another --priority" in refused.stderr
    assert submit("-", "--out", "second", input=line + line).exit_code == 0
    assert pictures("second") == ["line-00001.jpeg", "line-00002.jpeg"]


def test_a_bom_and_crlf_are_no_fault() -> None:
    Path("a.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n{"prompt": "b"}\r\n')
    assert submit("a.jsonl", "--wait").exit_code == 0
    Path("b.csv").write_bytes(b"\xef\xbb\xbfprompt\r\na\r\nb\r\n")
    assert submit("b.csv", "--wait").exit_code == 0


def test_a_file_that_is_not_there_and_a_setting_that_is_none_are_mistakes_of_the_command_line() -> None:
    missing = submit("missing.jsonl")
    assert (missing.exit_code, missing.stderr) == (
        ExitCode.USAGE,
        "rendermill: missing.jsonl cannot be used: No such file or directory\n",
    )
    assert submit("-", "--set", "width", input='{"prompt": "a"}').exit_code == ExitCode.USAGE


def test_a_farm_that_is_not_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RENDERMILL_URL", "http://127.0.0.1:9")
    result = submit("-", "--out", "out", input='{"prompt": "a"}\n')
    assert result.exit_code == ExitCode.UNAVAILABLE
    (line,) = result.stderr.splitlines()
    assert "No farm answers at http://127.0.0.1:9" in line


def test_wherever_it_is_cut_short_while_it_is_handed_in_it_becomes_one_batch(
    door: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, left = Submission.save, 0

    def cut_short(submission: Submission) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("cut short")
        save(submission)

    monkeypatch.setattr(Submission, "save", cut_short)
    lines = '{"prompt": "a"}\n{"prompt": "b"}\n'
    ends = []
    for steps in range(6):
        left = steps
        ends.append(submit("-", "--out", "out", input=lines).exception)
    assert sum(isinstance(end, RuntimeError) for end in ends) >= 3
    assert ends[-1] is None
    assert door.count("POST", "/v1/files") == 1
    assert set(door.downloads().values()) == {1}
    with Client() as farm:
        assert len(list(farm.batches())) == 1
        assert len(list(farm.jobs())) == 2


def test_two_at_once_in_one_folder_are_refused() -> None:
    with alone(Path("out") / FOLDER):
        result = submit("-", "--out", "out", input='{"prompt": "a"}\n')
    assert "Another 'rendermill submit' or 'resume' works on" in result.stderr


def test_a_row_that_was_cut_off_is_written_again_without_fetching_the_picture(door: Served) -> None:
    lines = '{"prompt": "a"}\n{"prompt": "b"}\n'
    assert submit("-", "--out", "out", input=lines).exit_code == 0
    results = Path("out/results.jsonl")
    whole = results.read_bytes()
    state = Path("out") / FOLDER / "submission.json"
    known = json.loads(state.read_text())
    known["parts"][0] |= {"seen": 0, "done": False}
    state.write_text(json.dumps({**known, "finished": False}))
    results.write_bytes(whole[:-10])
    assert run("resume", "out").exit_code == 0
    assert results.read_bytes() == whole
    assert set(door.downloads().values()) == {1}


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "/v1/files", "Not all of it was submitted; to go on here: rendermill resume out"),
        ("POST", "/v1/batches", "Not all of it was submitted; to go on here: rendermill resume out"),
        ("GET", "/v1/jobs", "What was submitted goes on; to go on here: rendermill resume out"),
        ("GET", "/download", "What was submitted goes on; to go on here: rendermill resume out"),
    ],
)
def test_wherever_ctrl_c_comes_it_is_said_how_to_go_on_and_nothing_is_done_twice(
    door: Served, method: str, path: str, words: str
) -> None:
    def interrupt_once(by: str, of: str) -> None:
        if by == method and path in of:
            door.before = lambda *_: None
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    door.before = interrupt_once
    lines = "".join(f'{{"prompt": "{number}"}}\n' for number in range(20))
    stopped = submit("-", "--out", "out", input=lines)
    assert stopped.exit_code == ExitCode.INTERRUPTED
    assert words in stopped.stderr
    resumed = run("resume", "out")
    assert resumed.exit_code == 0, resumed.output
    assert len(pictures("out")) == 20
    assert set(door.downloads().values()) == {1}
    with Client() as farm:
        assert len(list(farm.batches())) == 1


def test_a_folder_that_cannot_be_written_any_more_is_one_clear_line_and_can_be_gone_on_with() -> None:
    Path("out/line-00001.jpeg").mkdir(parents=True)
    stopped = submit("-", "--out", "out", input='{"prompt": "a"}\n')
    assert stopped.exit_code == ExitCode.FAILED
    hint, error = stopped.stderr.splitlines()[-2:]
    assert hint == "What was submitted goes on; to go on here: rendermill resume out"
    assert error == "rendermill: out/line-00001.jpeg cannot be written: Is a directory"
    Path("out/line-00001.jpeg").rmdir()
    assert run("resume", "out").stdout == "1 of 1 line succeeded, 1 picture in out\n"
