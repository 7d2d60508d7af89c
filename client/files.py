"""Files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

#: How the names end of files that are not whole yet; those of a process that was killed stay.
UNFINISHED = ".part"


def write(path: Path, content: bytes, beside: Path | None = None) -> None:
    """Write the file so that, whatever happens, it is under its name whole or not at all. Raises OSError.

    What is not whole is in the folder `beside`, on the same file system, or in the file's own.
    """
    with whole(path, beside) as file:
        file.write(content)


@contextmanager
def whole(path: Path, beside: Path | None = None) -> Iterator[BinaryIO]:
    """A file to be written in the block; it is under its name once the block has ended well. As `write` else."""
    handle, name = tempfile.mkstemp(dir=beside or path.parent, prefix=f".{path.name[:50]}.", suffix=UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        # mkstemp is for secrets; this is a file as any other.
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def mend(path: Path) -> None:
    """Cut off a last row without an end: somebody was killed who wrote it. Where there is no file, nothing happens."""
    if not path.exists():
        return
    whole = 0
    with path.open("rb") as file:
        for row in file:
            whole += len(row) if row.endswith(b"\n") else 0
    os.truncate(path, whole)


def _umask() -> int:
    """The process's mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
