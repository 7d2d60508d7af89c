"""Finding a checkpoint and loading it: safetensors only, never remote code.

A source of the catalog is looked for at `<models_dir>/<source>`, then as a folder, then on the model hub unless the
settings forbid it. Whatever goes wrong becomes JobFailure `model_unavailable` with words that say what to do.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import diffusers
import huggingface_hub
import torch
import transformers
from diffusers import DiffusionPipeline
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.file_download import repo_folder_name

from shared.errors import JobFailure
from shared.models import Model, UNetSource, VAESource
from shared.settings import Settings
from worker.engine.compiling import compile_networks
from worker.engine.fingerprints import same_network
from worker.engine.memory import is_out_of_memory
from worker.engine.quantization import check_device, quantize_denoiser
from worker.engine.safetensors_files import count_values, files_of, fill
from worker.engine.step_caching import enable_step_cache

# Progress bars and notes about truncated prompts belong to somebody at a terminal, not to a worker's log.
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

#: What the client of the hub leaves in a folder that it filled: a file for each one fetched, its first line the commit.
_DOWNLOAD_NOTES = ".cache/huggingface/download/**/*.metadata"
#: The parts of any family's checkpoint that are networks.
_NETWORKS = ("text_encoder", "text_encoder_2", "unet", "transformer", "vae")
#: Networks of convolutions, which are quicker where a pixel's channels lie side by side: on tensor cores as on a CPU.
_CONVOLUTIONAL = frozenset({"unet", "vae"})
#: T5's embedding is longer than its vocabulary, by less than this.
_VOCABULARY_PADDING = 128


class SingleFile(Protocol):
    """Weights in one file of a source, as the catalog names them."""

    @property
    def source(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def file(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads checkpoints onto one device."""

    settings: Settings
    device: torch.device

    def dtype(self, model: Model) -> torch.dtype:
        """The catalog's dtype; float32 on a CPU, where half precision is slow, and inexact beyond need."""
        if self.device.type == "cpu":
            return torch.float32
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[model.dtype]

    def pipeline(self, model: Model, cls: type[DiffusionPipeline], shared: Mapping[str, Any]) -> DiffusionPipeline:
        """The model's pipeline. Parts in `shared` are taken as they are, wherever they lie; the others are loaded.

        They go from their files to the device one tensor after the other, not by way of a whole copy in host memory.
        """
        dtype = self.dtype(model)
        check_device(model, self.device)
        with failures_explained(f"The checkpoint of {model.id}", model.source):
            parts = dict(shared)
            if model.unet and "unet" not in parts:
                parts["unet"] = self._single_file_unet(model, model.unet, dtype)
            if model.vae and "vae" not in parts:
                parts["vae"] = self._vae(model.vae, dtype)
            pipeline = cls.from_pretrained(
                self._folder_or_hub_id(model.source),
                revision=model.revision,
                dtype=dtype,
                device_map=self.device.type,
                use_safetensors=True,
                local_files_only=self.settings.models_offline,
                **parts,
            )
            _check_tokenizers(pipeline.components)
            for name in _CONVOLUTIONAL & pipeline.components.keys() - shared.keys():
                pipeline.components[name].to(memory_format=torch.channels_last)
            quantize_denoiser(pipeline, model.quantize)
            compile_networks(pipeline, model.compile, self.settings.compile_cache, model.step_cache)
            enable_step_cache(pipeline, model.step_cache)
        if dtype is not torch.float16 or model.vae:
            # SDXL's own VAE overflows in float16 alone, but its pipelines widen it to float32 for every picture that
            # they encode or decode unless told that it need not be.
            pipeline.vae.register_to_config(force_upcast=False)
        return pipeline

    def weights_bytes(self, model: Model, known: Container[str]) -> int:
        """Bytes of the model's weights on the device, without the parts in `known`. Files not fetched yet count as 0.

        Raises JobFailure `model_unavailable` for files that are none.
        """
        with failures_explained(f"The checkpoint of {model.id}", model.source):
            files = [file for part in _NETWORKS if part not in known for file in self._part_files(part, model)]
            return sum(map(count_values, files)) * self.dtype(model).itemsize

    def _single_file_unet(self, model: Model, unet: UNetSource, dtype: torch.dtype) -> Any:
        """A UNet of the base model's architecture with the weights of one file, a plain state dict."""
        config = diffusers.UNet2DConditionModel.load_config(
            self._folder_or_hub_id(model.source),
            subfolder="unet",
            revision=model.revision,
            local_files_only=self.settings.models_offline,
        )
        with torch.device("meta"):
            network = diffusers.UNet2DConditionModel.from_config(config)
        fill(network, self.file(unet), self.device, dtype)
        network.eval()
        return network

    def _vae(self, vae: VAESource, dtype: torch.dtype) -> Any:
        return diffusers.AutoencoderKL.from_pretrained(
            self._folder_or_hub_id(vae.source),
            revision=vae.revision,
            torch_dtype=dtype,
            device_map=self.device.type,
            use_safetensors=True,
            local_files_only=self.settings.models_offline,
        )

    def have_same(self, part: str, one: Model, other: Model) -> bool:
        """Whether a network is the same in both models' checkpoints, by the contents of its files."""
        return same_network(self._part_folder(part, one), self._part_folder(part, other))

    def _part_folder(self, part: str, model: Model) -> Path:
        """Where a network's files are, or would be once they have come from the model hub."""
        if part == "vae" and model.vae:
            return self._local_folder(model.vae.source, model.vae.revision)
        return self._local_folder(model.source, model.revision) / part

    def _part_files(self, part: str, model: Model) -> list[Path]:
        """The files of a network's weights that are here."""
        if part == "unet" and model.unet:
            single = self._local_folder(model.unet.source, model.unet.revision) / model.unet.file
            return [single] if single.is_file() else []
        return files_of(self._part_folder(part, model))

    def _local_folder(self, source: str, revision: str) -> Path:
        folder = self._folder(source)
        if folder is not None:
            return folder
        snapshots = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=source, repo_type="model") / "snapshots"
        return snapshots / str(self.commit(source, revision))

    def commit(self, source: str, revision: str) -> str | None:
        """The commit of the model hub that the source's files are of; None for a folder that does not tell."""
        folder = self._folder(source)
        if folder is not None:
            notes = sorted(folder.glob(_DOWNLOAD_NOTES))
            return notes[0].read_text().partition("\n")[0] if notes else None
        snapshots = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=source, repo_type="model")
        noted = snapshots / "refs" / revision
        # A revision that is no branch or tag is a commit itself.
        return noted.read_text().strip() if noted.is_file() else revision

    def _folder_or_hub_id(self, source: str) -> str:
        folder = self._folder(source)
        if folder is None and self.settings.models_offline:
            raise FileNotFoundError(f"{Path(self.settings.models_dir) / source} does not exist")
        return str(folder or source)

    def file(self, wanted: SingleFile) -> Path:
        """Where the file is, fetched from the model hub if need be. Raises FileNotFoundError."""
        folder = self._folder(wanted.source)
        if folder is not None:
            return folder / wanted.file
        if self.settings.models_offline:
            raise FileNotFoundError(f"{Path(self.settings.models_dir) / wanted.source / wanted.file} does not exist")
        return Path(huggingface_hub.hf_hub_download(wanted.source, wanted.file, revision=wanted.revision))

    def _folder(self, source: str) -> Path | None:
        places = (Path(self.settings.models_dir) / source, Path(source))
        return next((place for place in places if place.is_dir()), None)


@contextmanager
def failures_explained(what: str, source: str) -> Iterator[None]:
    """Turn whatever is raised while `what` is loaded from `source` into JobFailure `model_unavailable`."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # Loading fails in the words of three libraries, with exceptions of every kind; none of them is the owner's.
        raise JobFailure(
            "model_unavailable",
            f"{what} cannot be loaded: {type(error).__name__}: {str(error).strip()[:500]} "
            f"Put its complete folder, with safetensors weights and tokenizers, at <RENDERMILL_MODELS_DIR>/"
            f"{source}, or let the worker reach the model hub (RENDERMILL_MODELS_OFFLINE=0), and try again.",
        ) from error


def _check_tokenizers(components: Mapping[str, Any]) -> None:
    """A tokenizer whose files are missing loads all the same, without a vocabulary, and would garble every prompt."""
    for name, tokenizer in components.items():
        if not name.startswith("tokenizer"):
            continue
        encoder = components[name.replace("tokenizer", "text_encoder")]
        words, embedding = len(tokenizer), encoder.config.vocab_size
        if not embedding - _VOCABULARY_PADDING < words <= embedding:
            raise ValueError(
                f"the files of {name} are missing or belong to another model: "
                f"it knows {words} tokens, its encoder {embedding}."
            )
