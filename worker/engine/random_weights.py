"""Checkpoints with random weights in the real folder format, of any size, written by the real classes.

What loads a downloaded checkpoint loads these: one folder a component, safetensors, a `model_index.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, T5EncoderModel

from worker.engine.architectures import Architecture, Part
from worker.engine.tiny_tokenizers import write_clip_tokenizer, write_t5_tokenizer

#: Changes a network's fresh weights in place.
Tune = Callable[[nn.Module], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to write: an architecture, the pipeline its folder names, and how its weights come about."""

    architecture: Architecture
    pipeline: str
    seed: int
    #: T5's longest prompt in tokens, where the architecture has a T5.
    max_prompt_tokens: int = 256
    tune: Tune | None = None


def write_checkpoint(
    directory: Path, recipe: Recipe, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> None:
    """Make the recipe's networks on `device` in `dtype` and write them, with tokenizers, into the new `directory`."""
    index: dict[str, object] = {"_class_name": recipe.pipeline, "_diffusers_version": diffusers.__version__}
    for name, part in recipe.architecture.parts.items():
        if name.startswith("text_encoder"):
            tokenizer = name.replace("text_encoder", "tokenizer")
            vocabulary, tokenizer_class = _write_tokenizer(directory / tokenizer, part, recipe)
            index[tokenizer] = ["transformers", tokenizer_class]
            part = _with_vocabulary(part, vocabulary)
        network = make(part, recipe, device=device, dtype=dtype)
        network.save_pretrained(directory / name)  # type: ignore[operator]
        index[name] = [part.cls.__module__.partition(".")[0], part.cls.__name__]
    scheduler = recipe.architecture.scheduler
    scheduler.cls(**scheduler.config).save_pretrained(directory / "scheduler")
    index["scheduler"] = ["diffusers", scheduler.cls.__name__]
    (directory / "model_index.json").write_text(json.dumps(index, indent=2))


def write_single_file(file: Path, name: str, recipe: Recipe, *, device: str = "cpu", dtype: torch.dtype) -> None:
    """Write one network of the recipe as a plain state dict, as distilled denoisers are published."""
    network = make(recipe.architecture.parts[name], recipe, device=device, dtype=dtype)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), file)


def make(part: Part, recipe: Recipe, *, device: str, dtype: torch.dtype) -> nn.Module:
    """One network with the recipe's weights; the same for the same seed, device and dtype."""
    default = torch.get_default_dtype()
    devices = [] if torch.device(device).type == "cpu" else [torch.device(device)]
    with torch.random.fork_rng(devices), torch.device(device):
        torch.manual_seed(recipe.seed)
        torch.set_default_dtype(dtype)
        try:
            network = part.make()
        finally:
            torch.set_default_dtype(default)
        if recipe.tune:
            with torch.no_grad():
                recipe.tune(network)
    return network


def _write_tokenizer(directory: Path, encoder: Part, recipe: Recipe) -> tuple[int, str]:
    if encoder.cls is T5EncoderModel:
        # The published folders name the class of earlier transformers, which today's has as an alias.
        return write_t5_tokenizer(directory, max_length=recipe.max_prompt_tokens), "T5TokenizerFast"
    # The second encoder of SDXL pads with "!", the first with its end mark.
    pad = "!" if encoder.cls is CLIPTextModelWithProjection else "<|endoftext|>"
    return write_clip_tokenizer(directory, pad_token=pad), "CLIPTokenizer"


def _with_vocabulary(part: Part, size: int) -> Part:
    if part.cls in (CLIPTextModel, CLIPTextModelWithProjection):
        return part.with_config(vocab_size=size, bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1)
    # T5's embedding is as long as the next multiple of 128 above its vocabulary.
    return part.with_config(vocab_size=-(-size // 128) * 128)
