"""A file into a submission on disk, or into the one that it became before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from client.bulk.ledger import RESULTS
from client.bulk.plan import Plan
from client.bulk.sources import lines_of, name_of
from client.bulk.state import FOLDER, Submission, alone, forget_old, home
from client.errors import ClientError

#: How the folders begin in which files are read; what was killed then leaves one behind.
_NEW = "new-"


@contextmanager
def prepared(
    file: str,
    fields: Mapping[str, Any],
    *,
    model: str | None,
    out: Path | None,
    salt: str,
    priority: str | None,
    window: str,
    url: str | None,
    data_dir: Path,
) -> Iterator[Submission]:
    """The submission of a file, on which nobody else works meanwhile.

    Raises LineError where a line is no request, OSError where the file cannot be read, and ClientError where the
    folder holds another submission.
    """
    if out is None:
        forget_old()
    parent = home() if out is None else out / FOLDER
    plan = Plan(parent / f"{_NEW}{os.getpid()}")
    try:
        with lines_of(file) as lines:
            plan.read(lines, fields, model)
        new = Submission(
            folder=parent,
            source=name_of(file),
            digest=plan.digest,
            salt=salt,
            lines=plan.lines,
            pictures=plan.pictures,
            direct=plan.direct,
            parts=plan.parts,
            priority=priority,
            window=window,
            url=url,
            data_dir=str(data_dir.absolute()),
        )
        if out is None:
            new.folder = parent / new.id
        with alone(new.folder):
            if out is not None:
                _tidy(parent, plan.folder)
            yield _known(new) or _begun(new, plan)
    finally:
        shutil.rmtree(plan.folder, ignore_errors=True)
        # Where nothing came of it, nothing is left.
        for empty in (parent, *([out] if out else [])):
            with suppress(OSError):
                empty.rmdir()


def _known(new: Submission) -> Submission | None:
    """The same submission as it was left. Raises ClientError where its place is taken."""
    known = Submission.load(new.folder)
    if known is None:
        if new.out and (new.out / RESULTS).exists():
            raise ClientError(f"{new.out / RESULTS} is there already; give another --out.")
        return None
    if (known.digest, known.salt) != (new.digest, new.salt):
        if not known.begun:
            # The farm refused it, or was never asked: there is nothing of it to go on with.
            return None
        raise ClientError(f"{new.out} has the pictures of another submission, of {known.source}; give another --out.")
    if (known.priority, known.window) != (new.priority, new.window):
        if not known.begun:
            # The farm refused the others, or was never asked.
            known.priority, known.window = new.priority, new.window
            return known
        raise ClientError(f"This was submitted with other options; 'rendermill resume {known.name}' goes on with it.")
    return known


def _tidy(parent: Path, own: Path) -> None:
    """Remove what was left by those who were killed while they read; whoever is still at it is refused later."""
    for folder in parent.glob(f"{_NEW}*"):
        if folder != own:
            shutil.rmtree(folder, ignore_errors=True)


def _begun(new: Submission, plan: Plan) -> Submission:
    for file in plan.folder.iterdir():
        file.replace(new.folder / file.name)
    new.save()
    return new
