"""Lines of a finished submission that made no pictures, handed in once more, as parts of their own.

What is to change is written down with the submission before it is done, and doing it twice is as doing it once:
whoever is killed meanwhile, the next run goes on.
"""

from __future__ import annotations

import json

from client.async_client import AsyncClient
from client.bulk import ledger
from client.bulk.plan import INDEX, PartFile, index_rows
from client.bulk.state import Part, Submission
from client.errors import ClientError, NotFound
from client.files import whole
from client.lines import row_of


async def retry_failed(farm: AsyncClient, submission: Submission) -> None:
    """Write down that the lines that have an error for a result are to be retried; `move` does it.

    Raises ClientError where the submission is not finished, or the farm has removed its files.
    """
    results = {one["line"]: one["error"] for one in ledger.rows(submission.results)}
    lines = list(index_rows(submission.folder))
    if not submission.finished or any(line not in results for line, *_ in lines):
        raise ClientError(
            f"{submission.name} is not finished: 'rendermill resume {submission.name}' goes on with it. What failed "
            "can be retried then."
        )
    again = [(line, part, name) for line, part, name, _ in lines if results[line]]
    if not again:
        return
    submission.attempt += 1
    names: dict[int, set[str]] = {}
    for _, part, name in again:
        names.setdefault(part, set()).add(name)
    # Lines that are sent by themselves stay so.
    moved = {0: 0}
    for part in sorted(names.keys() - {0}):
        submission.parts.append(await _part(farm, submission, part, names[part]))
        moved[part] = len(submission.parts)
    submission.moves = [(line, moved[part]) for line, part, _ in again]
    submission.finished = False
    submission.save()


async def _part(farm: AsyncClient, submission: Submission, number: int, names: set[str]) -> Part:
    """Some lines of a part as the next one, with its file."""
    old = submission.parts[number - 1]
    try:
        content = await farm.file_content(old.file_id or "")
    except NotFound as error:
        raise ClientError(
            f"The farm has removed the lines of {old.batch_id}. 'rendermill submit FILE --again --out DIR' hands in a "
            f"file of your own; {submission.errors} says which lines failed."
        ) from error
    with PartFile(submission.folder, len(submission.parts) + 1, old.endpoint, submission.attempt) as file:
        for row in content.splitlines(keepends=True):
            if json.loads(row)["custom_id"] in names:
                file.add(row)
    return file.part


def move(submission: Submission) -> None:
    """Do what was written down: lines that are retried belong to other parts, and have no result."""
    if not submission.moves:
        return
    moves = dict(submission.moves)
    with whole(submission.folder / INDEX) as index:
        for line, part, name, stem in index_rows(submission.folder):
            index.write(row_of([line, moves.get(line, part), name, stem]))
    ledger.forget(submission.results, moves, submission.folder)
    if submission.sent_file.exists():
        sent = submission.sent_file.read_bytes().splitlines(keepends=True)
        with whole(submission.sent_file) as file:
            file.writelines(row for row in sent if json.loads(row)[0] not in moves)
    submission.moves = []
    submission.save()
