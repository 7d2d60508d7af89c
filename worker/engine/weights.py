"""The weights of one network: on the device, or out of its way in host memory.

The network itself stays what it is, with the same parameters; only where their values lie changes. So whoever holds the
network, be it another model or a compiled kernel, need not know that it was away.

Host memory is pinned for a GPU, so that the copy back runs at the speed of the bus. Pinned memory comes in powers of
two, which would take FLUX.1 nearly twice its bytes if each tensor had its own; so tensors are packed into large chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import nn

#: Large enough that what no tensor fits into at the end of a chunk is some hundredths of it.
_CHUNK = 2**30
#: Where a tensor may begin in a chunk: a cache line, which is a multiple of every dtype's size.
_ALIGNMENT = 64


class Weights:
    """Where the parameters and buffers of one network are, adapters in it included.

    It is measured when it is made and when it moves: walking through a network takes milliseconds.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        """Of a network that is on the device."""
        self.network = network
        self._device = device
        #: What of the host's memory they lie in; none while they are on the device.
        self._chunks: list[torch.Tensor] = []
        self._measure()

    @property
    def on_device(self) -> bool:
        return not self._chunks

    def to_host(self) -> None:
        """Move them to host memory. Where that runs out they stay where they are, and it raises."""
        self._measure()
        pinned = self._device.type == "cuda"
        chunks: list[torch.Tensor] = []
        places: list[tuple[torch.Tensor, torch.Tensor]] = []
        for group in _grouped(self._tensors()):
            chunk = torch.empty(_chunk_size(group), dtype=torch.uint8, pin_memory=pinned)
            chunks.append(chunk)
            start = 0
            for tensor in group:
                values = chunk[start : start + tensor.nbytes].view(tensor.dtype)
                # In the same layout, channels last included.
                place = values.as_strided(tensor.shape, tensor.stride())
                place.copy_(tensor.detach(), non_blocking=True)
                places.append((tensor, place))
                start += _aligned(tensor.nbytes)
        self._put(places)
        self._chunks = chunks

    def to_device(self) -> None:
        """Bring them back, if they are away. Where the device has no room they stay where they are, and it raises."""
        if self.on_device:
            return
        places = [
            (tensor, torch.empty_like(tensor, device=self._device, requires_grad=False)) for tensor in self._tensors()
        ]
        for tensor, place in places:
            place.copy_(tensor.detach(), non_blocking=True)
        self._put(places)
        self._chunks = []

    def _measure(self) -> None:
        tensors = list(self._tensors())
        self.nbytes = sum(tensor.nbytes for tensor in tensors)
        #: Bytes that they take, or would take, of the host's memory.
        self.host_nbytes = sum(map(_chunk_size, _grouped(tensors)))

    def _put(self, places: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Let each tensor have its values in its new place, once all copies have arrived there."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        for tensor, place in places:
            tensor.data = place

    def _tensors(self) -> Iterator[torch.Tensor]:
        """Each once, also where two layers share it."""
        return chain(self.network.parameters(), self.network.buffers())


def _grouped(tensors: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The tensors, in groups that fill a chunk as far as they do; one that is larger is a group of its own."""
    group: list[torch.Tensor] = []
    filled = 0
    for tensor in tensors:
        if group and filled + _aligned(tensor.nbytes) > _CHUNK:
            yield group
            group, filled = [], 0
        group.append(tensor)
        filled += _aligned(tensor.nbytes)
    if group:
        yield group


def _chunk_size(group: Iterable[torch.Tensor]) -> int:
    """The power of two that holds them."""
    return 1 << (sum(_aligned(tensor.nbytes) for tensor in group) - 1).bit_length()


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT
