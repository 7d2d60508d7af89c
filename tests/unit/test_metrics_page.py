"""docs/metrics.md lists every metric as the code defines it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Histogram": "histogram",
    "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
}


def defined(room: str) -> Iterator[str]:
    """A row of the page for each metric that a room defines."""
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and is_metric(node):
                yield row(node, KINDS[node.func.id])


def is_metric(call: ast.Call) -> bool:
    """Not, for one, a `collections.Counter`."""
    name = call.args[0] if call.args else None
    return call.func.id in KINDS and isinstance(name, ast.Constant) and str(name.value).startswith("rendermill_")


def row(call: ast.Call, kind: str) -> str:
    name, meaning = (ast.literal_eval(argument) for argument in call.args[:2])
    if kind == "counter":
        # As Prometheus shows it, however the code spells it.
        name = name.removesuffix("_total") + "_total"
    given = [argument for argument in call.args[2:] if isinstance(argument, ast.List)]
    given += [keyword.value for keyword in call.keywords if keyword.arg == "labels"]
    labels = ", ".join(f"`{label}`" for label in (ast.literal_eval(given[0]) if given else []))
    return f"| `{name}` | {kind} | {labels} | {meaning} |"


@pytest.mark.parametrize(("heading", "room"), [("## The API", "api"), ("## The workers", "worker")])
def test_the_page_lists_every_metric_as_the_code_defines_it(heading: str, room: str) -> None:
    section = (ROOT / "docs" / "metrics.md").read_text().split(heading)[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| `")]
    rows = list(defined(room))
    assert rows
    assert sorted(table) == sorted(rows), f"{heading} of docs/metrics.md should hold these rows:\n" + "\n".join(rows)


def test_no_metric_is_defined_elsewhere() -> None:
    assert not [row for room in ("shared", "client", "farm") for row in defined(room)]
