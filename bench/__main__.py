"""The benchmarks that need no GPU: what Rendermill does beside rendering, each measure beside a peer in the same run.

    python -m bench                          all of them, in half an hour
    python -m bench --quick                  smaller, in about eight minutes
    python -m bench --only enqueue,claim     some of them

docs/performance.md says how to read the table. `python -m bench.gpu` measures rendering at real sizes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bench import claim, enqueue, fleet, ingest, inputs, interactive, memory, mixed, overhead, rendering, report, submit
from bench.measuring import Row
from bench.sizes import FULL, QUICK, Sizes

BENCHMARKS: dict[str, Callable[[Sizes, Path], list[Row]]] = {
    "enqueue": enqueue.run,
    "ingest": ingest.run,
    "memory": memory.run,
    "claim": claim.run,
    "submit": submit.run,
    "overhead": overhead.run,
    "fleet": fleet.run,
    "inputs": inputs.run,
    "interactive": interactive.run,
    "rendering": rendering.run,
    "mixed": mixed.run,
}
RESULTS = Path(__file__).parent / "results" / "control-plane.json"


def run(names: Sequence[str], sizes: Sizes, console: Console, results: Path) -> list[Row]:
    """Run benchmarks, each on servers of its own. What is measured is written at once, lest a later one lose it."""
    rows: list[Row] = []
    for name in names:
        with (
            console.status(f"measuring: {name}"),
            tempfile.TemporaryDirectory(prefix="rendermill-bench-") as scratch,
        ):
            rows += BENCHMARKS[name](sizes, Path(scratch))
        report.write(rows, sizes, results)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Control-plane benchmarks.")
    parser.add_argument("--quick", action="store_true", help="fewer jobs and rounds; 100,000 in the long queue")
    parser.add_argument("--only", help="comma-separated: " + ", ".join(BENCHMARKS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file to write")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else list(BENCHMARKS)
    if unknown := sorted(set(names) - BENCHMARKS.keys()):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")

    console = Console()
    sizes = QUICK if given.quick else FULL
    rows = run(names, sizes, console, given.results)
    report.show(rows, console)
    console.print(f"Every round: {given.results}")


if __name__ == "__main__":
    main()
