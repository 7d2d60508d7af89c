"""Whether two folders hold the same network, whatever checkpoints they belong to.

Sizes are compared first, so that what differs costs nothing; only what may be the same is read, once, and reading it
warms the disk's cache for loading it. The model hub's own cache names large files by their hash: those are not read.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

#: Values of a config that say who wrote it or how it is loaded, not what it is.
_INCIDENTAL = {"_name_or_path", "_commit_hash", "_diffusers_version", "transformers_version", "torch_dtype", "dtype"}
_SHA256 = re.compile("[0-9a-f]{64}")
#: As many files as a farm's models have; each entry is some hundred bytes.
_REMEMBERED = 4096


def same_network(one: Path, other: Path) -> bool:
    """Whether the folders have equal configs and equal safetensors files; False where either is no network's folder."""
    if one.resolve() == other.resolve():
        return True
    files, others = _weights(one), _weights(other)
    return (
        bool(files)
        and files.keys() == others.keys()
        and all(files[name].stat().st_size == others[name].stat().st_size for name in files)
        and _config(one) == _config(other)
        and all(_hash(files[name]) == _hash(others[name]) for name in files)
    )


def _weights(folder: Path) -> dict[str, Path]:
    return {file.name: file.resolve() for file in folder.glob("*.safetensors")}


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
        return {name: value for name, value in config.items() if name not in _INCIDENTAL}
    except (OSError, ValueError, AttributeError):
        # Broken or absent: nothing is equal to it, and loading it will say what is wrong.
        return {"of": str(folder)}


def _hash(file: Path) -> str:
    if _SHA256.fullmatch(file.name):
        return file.name
    state = file.stat()
    return _hash_of(file, state.st_size, state.st_mtime_ns)


@lru_cache(_REMEMBERED)
def _hash_of(file: Path, _size: int, _changed_ns: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
