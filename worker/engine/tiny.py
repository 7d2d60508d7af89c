"""Tiny checkpoints for every source of the catalog: `python -m worker.engine.tiny DIR`.

Tests and the embedded farm render with them, through the very code that loads the real weights. Each checkpoint
appears whole or not at all, is rebuilt when its recipe changes, and costs nothing when it is there already: torch is
imported only when something has to be written.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

#: Marks a folder as ours and holds the digest of its recipe; a folder without it is somebody's weights.
STAMP = ".rendermill-tiny"
SOURCES = (
    "stabilityai/stable-diffusion-xl-base-1.0",
    "ByteDance/SDXL-Lightning",
    "latent-consistency/lcm-lora-sdxl",
    "black-forest-labs/FLUX.1-schnell",
    "black-forest-labs/FLUX.1-Fill-dev",
)
_RECIPE_MODULES = (
    "architectures.py",
    "random_weights.py",
    "tiny_loras.py",
    "tiny_recipes.py",
    "tiny_tokenizers.py",
    "tiny_weights.py",
)


def build(directory: Path) -> None:
    """Write the tiny checkpoints that are missing or of another recipe into `directory`, each at its source's name.

    A folder of somebody's own weights is left as it is. Several processes may build at once.
    """
    digest = _recipe_digest()
    for source in SOURCES:
        target = directory / source
        if target.exists() and _stamp_of(target) in (None, digest):
            continue
        from worker.engine.tiny_recipes import WRITERS

        _install(target, WRITERS[source], digest)


def _install(target: Path, write: Callable[[Path], None], digest: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        write(fresh)
        (fresh / STAMP).write_text(digest)
        try:
            if target.exists():
                target.rename(Path(scratch) / "old")
            fresh.rename(target)
        except OSError:
            # Another process was quicker; what it built is as good.
            if _stamp_of(target) != digest:
                raise


def _stamp_of(directory: Path) -> str | None:
    try:
        return (directory / STAMP).read_text()
    except FileNotFoundError:
        return None


def _recipe_digest() -> str:
    """Changes with the code that decides what is written."""
    sources = (Path(__file__).with_name(name).read_bytes() for name in _RECIPE_MODULES)
    return hashlib.sha256(b"".join(sources)).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m worker.engine.tiny DIR")
    build(Path(sys.argv[1]))
    print(f"tiny checkpoints in {sys.argv[1]}")
