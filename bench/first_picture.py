"""The peer of a worker's start: a program that loads a model with diffusers alone, renders one picture and saves it.

python -m bench.first_picture MODELS_DIR FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from bench.workloads import TINY
from shared.catalog import catalog


def main(models_dir: Path, file: Path) -> None:
    plain = TINY[0].plain(catalog(), models_dir, "cpu", torch.float32)
    picture = plain(torch.Generator("cpu").manual_seed(1))
    unfinished = file.with_suffix(".part")
    picture.save(unfinished, "JPEG")
    unfinished.rename(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
