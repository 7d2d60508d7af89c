"""How commands print what the farm answers: for a person, for a program that reads lines, or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from client.batches import Batch
from client.commands.cells import Cell
from client.jobs import Job
from client.lines import row_of
from client.terminal import output, plain, tell

#: Characters of a column that is cut, at least.
_LEAST = 12

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def print_json(objects: Iterable[Mapping[str, Any]]) -> None:
    """One object a line."""
    for item in objects:
        typer.echo(row_of(item), nl=False)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, cut: str = "", none: str = "", title: str = ""
) -> None:
    """A table for a person; for a program a line a row, with tabs between the values and no head.

    Of the column `cut` a person sees as much as there is room for; all others are whole. `none` is said to a person
    where there is no row.
    """
    if not output().is_terminal:
        for row in rows:
            typer.echo("\t".join(plain(value) for value in row))
        return
    found = [[_for_person(value) for value in row] for row in rows]
    if not found:
        tell(none)
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold", title=title or None, title_justify="left")
    table.padding = (0, 2, 0, 0)
    for row in found:
        table.add_row(*row)
    for column in table.columns:
        # Rich takes room from columns that may wrap before it takes any from others.
        column.no_wrap = column.header != cut
    whole = [[name, *(row[position] for row in found)] for position, name in enumerate(columns) if name != cut]
    needed = sum(max(cell_len(str(value)) for value in column) + 2 for column in whole) + (_LEAST if cut else 0)
    # An id that is cut off is of no use: a terminal that is too narrow wraps the lines instead.
    output(least=needed).print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, a line each; those without a value are left out."""
    known = [(name, value) for name, value in facts if value not in (None, "", [], {})]
    console = output()
    if not console.is_terminal:
        for name, value in known:
            typer.echo(f"{name}\t{plain(value)}")
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in known:
        table.add_row(name, value.__rich__() if isinstance(value, Cell) else Text(plain(value)))
    console.print(table)


def print_job(job: Job, as_json: bool, *more: str) -> None:
    """A line that says how the job is, or its whole object."""
    if as_json:
        print_json([job.raw])
        return
    reason = [plain(job.error["message"])] if job.error else []
    typer.echo("  ".join([job.id, job.status, *reason, *more]))


def print_batch(batch: Batch, as_json: bool) -> None:
    """A line that says how the batch is, or its whole object."""
    if as_json:
        print_json([batch.raw])
        return
    reasons = [plain(error.message) for error in batch.errors[:1]]
    counts = f"{batch.completed} completed, {batch.failed} failed of {batch.total}"
    typer.echo("  ".join([batch.id, batch.status, counts, *reasons]))


def print_saved(id_: str, file: Path, as_json: bool) -> None:
    """The name of a file that was saved, and of what."""
    if as_json:
        print_json([{"id": id_, "file": str(file)}])
    else:
        typer.echo(file)


def print_deleted(id_: str, as_json: bool) -> None:
    """That it is gone."""
    if as_json:
        print_json([{"id": id_, "deleted": True}])
    else:
        tell(f"{id_} deleted")


def _for_person(value: object) -> Text:
    if isinstance(value, Cell):
        return value.__rich__()
    right = isinstance(value, int | float)
    return Text(plain(value), no_wrap=True, overflow="ellipsis", justify="right" if right else "default")
