"""The control-plane benchmarks still run: every path of each, at sizes that measure nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench import __main__ as bench
from bench import report
from bench.measuring import Rounds, Row, Target, in_turn
from bench.sizes import SMOKE


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_a_benchmark_measures_ours_and_the_peer(name: str, tmp_path: Path) -> None:
    rows = bench.run([name], SMOKE, Console(quiet=True), tmp_path / "results" / "bench.json")
    assert rows
    for row in rows:
        assert len(row.rounds.ours) == len(row.rounds.peer)
        assert all(value > 0 for value in (*row.rounds.ours, *row.rounds.peer))

    written = json.loads((tmp_path / "results" / "bench.json").read_text())
    assert [row["measure"] for row in written["rows"]] == [row.measure for row in rows]
    assert written["versions"]["celery"]


def test_each_side_goes_first_in_every_other_round() -> None:
    order: list[str] = []

    def measure(side: str) -> float:
        order.append(side)
        return float(len(order))

    rounds = in_turn(3, lambda: measure("ours"), lambda: measure("peer"))
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]
    assert rounds == Rounds(ours=[1, 4, 5], peer=[2, 3, 6])


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    row = Row("a", "jobs/s", "b", Rounds(ours=[10, 100, 30], peer=[10, 10, 10]))
    assert row.ratio == 3
    assert row.met is None


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(2, at_least=True), True),
        (Target(3, at_least=True), False),
        (Target(2, at_least=False), True),
        (Target(1.5, at_least=False), False),
        (Target(20, at_least=False, on_ratio=False), True),
        (Target(19, at_least=False, on_ratio=False), False),
    ],
)
def test_a_target_bounds_the_ratio_or_what_was_measured(target: Target, met: bool) -> None:
    assert Row("a", "ms", "b", Rounds(ours=[20], peer=[10]), target).met is met


def test_the_table_says_which_targets_are_missed() -> None:
    console = Console(file=io.StringIO(), record=True, width=120)
    rows = [
        Row("fast enough", "jobs/s", "peer", Rounds([60], [10]), Target(6, at_least=True)),
        Row("too large", "bytes", "peer", Rounds([2000], [4000]), Target(1000, at_least=False, on_ratio=False)),
        Row("explains", "ms", "peer", Rounds([1.234], [1])),
    ]
    report.show(rows, console)
    text = console.export_text()
    assert "≥ 6 ×" in text
    assert "≤ 1000 bytes" in text
    assert text.count("missed") == 1
    assert "1.23" in text


def test_an_unknown_benchmark_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--only", "enqeue", "--results", str(tmp_path / "bench.json")])
    assert "enqueue" in capsys.readouterr().err
