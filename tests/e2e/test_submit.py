"""`rendermill submit` as its users run it, stopped and killed in the middle, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from client.wire import AT_ONCE
from tests.e2e.counting import CountingProxy
from tests.running_farm import RunningFarm, hear_ctrl_c
from tests.servers import PATIENCE_S, wait_until

LINES = 40
#: Pictures that are there when the command is hurt.
SOME = 8
RUN_S = 120.0


@pytest.fixture
def proxy(farm: RunningFarm) -> Iterator[CountingProxy]:
    with CountingProxy(farm.url) as proxy:
        yield proxy


@pytest.fixture
def lines(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A file of lines that no other test has."""
    file = tmp_path / "lines.jsonl"
    body = {"model": "sdxl-lightning", "width": 256, "height": 256}
    rows = ({**body, "prompt": f"{request.node.name} {number}", "seed": number} for number in range(LINES))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def command(farm: RunningFarm, proxy: CountingProxy, *arguments: str) -> subprocess.Popen[str]:
    """A command that is running."""
    return subprocess.Popen(
        [sys.executable, "-m", "farm", *arguments],
        env={**os.environ, "RENDERMILL_URL": proxy.url, "RENDERMILL_API_KEY": farm.key},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )


def pictures(out: Path) -> set[str]:
    return {file.name for file in out.glob("*.jpeg")}


def has_pictures(out: Path, count: int) -> bool:
    return len(pictures(out)) >= count


def finish(farm: RunningFarm, proxy: CountingProxy, *arguments: str) -> str:
    """Run a command to its end; what it printed."""
    with command(farm, proxy, *arguments) as process:
        printed, errors = process.communicate(timeout=RUN_S)
    assert process.returncode == 0, errors
    return printed


def check_all_is_here(out: Path, proxy: CountingProxy) -> dict[str, str]:
    """Every line has its picture and its row, and no two are the same; the file of each job."""
    rows = [json.loads(row) for row in (out / "results.jsonl").read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, LINES + 1))
    assert {name for row in rows for name in row["files"]} == pictures(out)
    assert len(pictures(out)) == LINES
    assert len({row["job"] for row in rows}) == LINES
    assert len(proxy.downloads) == LINES, "one picture a line was rendered and fetched, and no other"
    for name in pictures(out):
        with Image.open(out / name) as picture:
            picture.load()
    assert not list(out.rglob("*.part"))
    return {row["job"]: row["files"][0] for row in rows}


def test_a_submission_that_ctrl_c_stops_is_resumed_and_no_picture_is_fetched_twice(
    farm: RunningFarm, proxy: CountingProxy, lines: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with command(farm, proxy, "submit", str(lines), "--out", str(out)) as process:
        wait_until(partial(has_pictures, out, SOME), "some pictures are here", RUN_S)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=RUN_S)
    assert process.returncode == 130, errors
    assert f"Stopped. What was submitted goes on; to go on here: rendermill resume {out}" in errors
    assert SOME <= len(pictures(out)) < LINES
    finish(farm, proxy, "resume", str(out))
    check_all_is_here(out, proxy)
    assert set(proxy.downloads.values()) == {1}


def test_a_submission_that_is_killed_is_gone_on_with_by_the_same_command(
    farm: RunningFarm, proxy: CountingProxy, lines: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ("submit", str(lines), "--out", str(out))
    kills: list[tuple[set[str], Counter[str]]] = []
    for share in (1, 2, 3):
        with command(farm, proxy, *arguments) as process:
            wait_until(partial(has_pictures, out, share * SOME), "some more are here", RUN_S)
            process.kill()
            process.wait()
        kills.append((pictures(out), Counter(proxy.downloads)))
        assert len(kills[-1][0]) < LINES
    printed = finish(farm, proxy, *arguments)
    assert printed == f"{LINES} of {LINES} lines succeeded, {LINES} pictures in {out}\n"
    files = check_all_is_here(out, proxy)
    with farm.client() as api:
        image_of = {name: api.get(job).images[0].id for job, name in files.items()}
    for here, fetched in kills:
        for name in here:
            assert proxy.downloads[image_of[name]] == fetched[image_of[name]], "what was here was fetched again"
    # What was under way when the command was killed has to be fetched anew, and nothing else.
    assert sum(proxy.downloads.values()) <= LINES + len(kills) * AT_ONCE


def test_a_second_ctrl_c_stops_at_once(farm: RunningFarm, proxy: CountingProxy, lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with command(farm, proxy, "submit", str(lines), "--out", str(out)) as process:
        assert process.stderr is not None
        wait_until(partial(has_pictures, out, SOME), "some pictures are here", RUN_S)
        process.send_signal(signal.SIGINT)
        while "Ctrl-C again" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) == 130
    finish(farm, proxy, "resume", str(out))
    check_all_is_here(out, proxy)
