"""The command line as a whole: its help, its page in the docs and its exit codes agree, and it starts quickly."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from client.exit_codes import ExitCode
from farm.cli import app
from tests.unit.fake_api import FakeApi, run
from tests.unit.test_architecture import ANYWHERE

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "cli.md").read_text()
EXAMPLE = re.compile(r"Example: `(.+?)`", re.DOTALL)
#: A row of a table: what the command is called, with its arguments; what it does; an example.
ROW = re.compile(r"^\| `([^`]+)` \| .+ \| `(rendermill [^`]+)` \|$", re.MULTILINE)
#: A command that goes on until it is stopped has nothing to print as JSON.
WITHOUT_JSON = {"up"}
HEAVY = {"celery", "flask", "torch", "diffusers", "transformers", "numpy", "PIL", "minio", "marshmallow", "jinja2"}
#: Only the commands of an operator need this, and what of the other rooms is not allowed everywhere.
OPERATORS = {"redis"}
ROOMS = ("api", "intake", "shared", "worker")


def leaves(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Each command that does something, by its words."""
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, *path, name)
    if path and not hasattr(command, "commands"):
        yield " ".join(path), command


ROOT_COMMAND = typer.main.get_command(app)
COMMANDS = dict(leaves(ROOT_COMMAND))


def example_of(name: str) -> str:
    match = EXAMPLE.search(COMMANDS[name].help or "")
    assert match, f"the help of '{name}' has no example"
    return " ".join(match[1].split())


def documented() -> dict[str, str]:
    """The example of each command in the docs, by the command's words."""
    found = {}
    for words, example in ROW.findall(PAGE):
        name = " ".join(word for word in words.split() if re.fullmatch(r"[a-z-]+", word))
        found[name] = example.replace("\\|", "|")
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_an_example_that_parses(name: str) -> None:
    example = example_of(name)
    assert f"rendermill {name.removesuffix(' list')}" in example
    for call in re.split(r"\||&&", example):
        if call.strip().startswith("rendermill "):
            parse(call)


def parse(call: str) -> None:
    """Parse a line as the command would. Raises what it raises for options that are none, or missing arguments."""
    command, words = ROOT_COMMAND, shlex.split(call)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0) if words and words[0] in command.commands else "list"]
    command.make_context(str(command.name), words)


def test_the_docs_have_a_row_for_each_command_with_the_example_of_its_help() -> None:
    assert documented() == {name: example_of(name) for name in COMMANDS}


def test_the_docs_tell_every_exit_code_as_it_is() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [(int(code), meaning) for code, meaning in rows] == [(int(code), code.meaning) for code in ExitCode]


def test_every_command_prints_json_on_request() -> None:
    without = {
        name for name, command in COMMANDS.items() if not any("--json" in option.opts for option in command.params)
    }
    assert without == WITHOUT_JSON


def test_the_first_page_of_help_shows_every_command_in_a_group() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).stdout
    assert "Commands ─" not in shown, "a command without a group"
    for group in ("Make pictures", "Jobs, batches and files", "The farm and your account", "Operate a farm"):
        assert f" {group} " in shown


def test_it_starts_without_what_only_servers_and_workers_need() -> None:
    script = "import sys, farm.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    packages = {name.partition(".")[0] for name in loaded.split()}
    assert (HEAVY | OPERATORS) & packages == set()
    rooms = {name for name in loaded.split() if name.startswith(tuple(f"{room}." for room in ROOMS))}
    assert rooms == ANYWHERE


# What a person sees


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output passes for a terminal of 100 columns."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)


def job(id_: str, prompt: str) -> dict[str, Any]:
    asked = {"prompt": prompt}
    return {"id": id_, "status": "failed", "progress": 0.5, "input": asked, "model": "m", "created_at": None}


@pytest.mark.usefixtures("terminal")
def test_a_person_sees_a_head_colours_and_as_much_of_a_prompt_as_there_is_room_for(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.answers["GET /v1/jobs"] = {"data": [job("job_a", "a [red]fox[/red] " * 20)], "links": {"next": None}}
    shown = run("jobs").stdout
    assert "\x1b[31mfailed" in shown
    head, row = (re.sub(r"\x1b\[[\d;]*m", "", line) for line in shown.splitlines())
    assert head.split() == ["job", "status", "progress", "made", "model", "prompt"]
    assert "━━━━━━━━━━━━━━━━  50%" in row
    assert "a [red]fox[/red]" in row, "what looks like markup is none"
    assert row.endswith("…")
    assert len(row) <= 100
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in run("jobs").stdout


@pytest.mark.usefixtures("terminal")
def test_ids_are_whole_however_narrow_the_terminal_is(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    id_ = "job_" + "a" * 24
    api.answers["GET /v1/jobs"] = {"data": [job(id_, "a fox")], "links": {"next": None}}
    assert id_ in run("jobs").stdout


@pytest.mark.usefixtures("terminal")
def test_a_person_is_told_that_a_list_is_empty(api: FakeApi) -> None:
    api.answers["GET /v1/batches"] = {"data": [], "has_more": False, "last_id": None}
    result = run("batches")
    assert (result.stdout, result.stderr) == ("", "No batches. 'rendermill submit FILE' hands one in.\n")
