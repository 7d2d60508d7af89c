"""Tiny checkpoints for a farm without real ones, built once by a process of its own: torch stays out of this one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from farm.errors import FarmError

#: Names the builder that made a folder's checkpoints; it is written last.
STAMP = ".built-by"


def ensure_tiny_models(directory: Path, log: Path, tell: Callable[[str], None]) -> None:
    """Build the checkpoints in `directory` unless the present builder did already. Raises FarmError with its words."""
    stamp = directory / STAMP
    builder = _builder_fingerprint()
    if stamp.exists() and stamp.read_text() == builder:
        return
    tell(f"building tiny checkpoints in {directory} (at the first start only)")
    with log.open("wb") as output:
        command = [sys.executable, "-m", "worker.engine.tiny", str(directory)]
        built = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if built.returncode != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise FarmError(f"The tiny checkpoints cannot be built. {log} ends:\n{tail}")
    stamp.write_text(builder)


def _builder_fingerprint() -> str:
    """Differs when the builder's source differs. Does not import it, nor torch with it."""
    spec = find_spec("worker.engine")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    sources = sorted(path for place in spec.submodule_search_locations for path in Path(place).glob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
