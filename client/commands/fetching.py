"""Large answers as files: streamed, with progress, and under their name only once they are whole."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from client.client import Client
from client.errors import ClientError
from client.files import whole


def fetch(farm: Client, path: str, file: Path) -> Path:
    """Save what the farm has at `path` as `file`, whose folder is made. Raises ClientError where that does not go."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (
            farm.stream(path) as answer,
            Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
            whole(file) as target,
        ):
            length = answer.headers.get("content-length")
            task = progress.add_task(file.name, total=int(length) if length else None)
            for piece in answer.iter_bytes():
                target.write(piece)
                progress.advance(task, len(piece))
    except OSError as error:
        raise ClientError(f"{file} cannot be written: {error.strerror}") from error
    return file
