"""What is known of a submission, on disk: enough to go on with it after it was killed at any moment.

A submission's folder:

    submission.json   the parts, each with its file and batch on the farm, and how much of it was seen; written last
    index.jsonl       a row for each line: number, part, custom_id, stem of its files
    1.jsonl, 2.jsonl  what is to be uploaded; gone once it is a batch
    direct.jsonl      lines for routes that batches do not take
    sent.jsonl        the jobs of these
    results.jsonl     what became of each line, where the pictures are not saved beside it
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from client.bulk.ledger import ERRORS, RESULTS
from client.errors import ClientError
from client.files import UNFINISHED, write

#: In the folder of the pictures.
FOLDER = ".rendermill-submit"
_FILE = "submission.json"
_VERSION = 1
#: The farm itself forgets batches after this long.
_KEPT_S = 30 * 86400.0


@dataclass(slots=True)
class Part:
    """The lines of one batch."""

    endpoint: str
    lines: int
    digest: str
    #: How often its lines had been retried before.
    attempt: int = 0
    file_id: str | None = None
    batch_id: str | None = None
    #: Of its jobs that have ended, in that order, those whose results are written.
    seen: int = 0
    #: Whether every line has its result.
    done: bool = False


@dataclass(slots=True, kw_only=True)
class Submission:
    """A file that was handed in, or is to be. `folder` is where this is kept."""

    folder: Path
    source: str
    #: Of the lines and what was added to them: the same for the same.
    digest: str
    #: Differs where the same is to be rendered again.
    salt: str
    lines: int
    pictures: int
    direct: int
    parts: list[Part]
    priority: str | None
    window: str
    #: Which farm: its address where one was named, and the data directory of the farm on this machine.
    url: str | None
    data_dir: str
    #: Whether every line has its result.
    finished: bool = False
    #: How often what had failed was retried.
    attempt: int = 0
    #: Lines that are to be retried, each with its new part, until that is done to the index and the results.
    moves: list[tuple[int, int]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """For people, and for what must be the same when the same is handed in again."""
        return self.digest[:12] + (f"-{self.salt}" if self.salt else "")

    @property
    def out(self) -> Path | None:
        """Where the pictures go."""
        return self.folder.parent if self.folder.name == FOLDER else None

    @property
    def results(self) -> Path:
        """What became of each line."""
        return (self.out or self.folder) / RESULTS

    @property
    def errors(self) -> Path:
        """What became of those that made no pictures."""
        return (self.out or self.folder) / ERRORS

    @property
    def name(self) -> str:
        """What `rendermill resume` takes."""
        return str(self.out or self.id)

    @property
    def begun(self) -> bool:
        """Whether the farm may have some of it."""
        return any(part.batch_id for part in self.parts) or self.sent_file.exists()

    @property
    def sent_file(self) -> Path:
        return self.folder / "sent.jsonl"

    @property
    def handed_in(self) -> bool:
        return all(part.batch_id for part in self.parts)

    def part_file(self, number: int) -> Path:
        """What is uploaded for a part, counted from 1."""
        return self.folder / part_name(number)

    def save(self) -> None:
        """Write it down."""
        members = {name: value for name, value in asdict(self).items() if name != "folder"}
        text = json.dumps({"version": _VERSION, **members}, indent=1)
        write(self.folder / _FILE, text.encode())

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The submission of a folder; None where there is none. Raises ClientError where it cannot be read."""
        file = folder / _FILE
        try:
            members = json.loads(file.read_text(encoding="utf-8"))
            if members.pop("version") != _VERSION:
                raise ValueError("it is of another version of rendermill")
            parts = [Part(**part) for part in members.pop("parts")]
            return cls(folder=folder, parts=parts, **members)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ClientError(f"{file} cannot be read: {error}") from error


def part_name(number: int) -> str:
    """The file of a part, counted from 1."""
    return f"{number}.jsonl"


def home() -> Path:
    """Where submissions are kept whose pictures are not saved; made where there is none."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) / "rendermill" / "submissions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def forget_old() -> None:
    """Remove submissions of which the farm knows nothing any more."""
    for folder in home().iterdir():
        with suppress(OSError):
            if folder.stat().st_mtime < time.time() - _KEPT_S:
                shutil.rmtree(folder)


def find(place: str | None) -> Path:
    """Where the submission of a folder of pictures or of an id is kept; without either that of this folder, else the
    newest that is not finished, else the newest.

    Raises ClientError where there is none.
    """
    candidates = [Path(place or ".") / FOLDER]
    if place is None:
        newest = sorted(home().glob(f"*/{_FILE}"), key=lambda file: file.stat().st_mtime, reverse=True)
        # Sorting keeps the order of those that are alike.
        candidates += sorted((file.parent for file in newest), key=_is_over)
    elif Path(place).name == place:
        candidates.append(home() / place)
    for folder in candidates:
        if (folder / _FILE).exists():
            return folder
    where = f"in {place}, nor one of that id" if place else "in this folder, nor another one"
    raise ClientError(f"There is no submission {where}. 'rendermill submit FILE --out DIR' begins one.")


def _is_over(folder: Path) -> bool:
    """Whether nothing is left to do for a submission, or nothing can be done."""
    try:
        submission = Submission.load(folder)
    except ClientError:
        return True
    return submission is None or submission.finished


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else works on the submission of the folder meanwhile. Raises ClientError where somebody does, or OSError.

    What was killed holds no lock, and what it was writing down is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ClientError(f"Another 'rendermill submit' or 'resume' works on {folder}; let it go on.") from error
        for unfinished in folder.glob(f".*{UNFINISHED}"):
            unfinished.unlink()
        yield
