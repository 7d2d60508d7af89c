"""The memory of a device and of its host: how much there is, and telling apart what goes wrong.

A device that is full is so for now; one that is broken stays so.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch

#: Where memory runs out inside a library or on the CPU, the exception is of no class of its own.
_FULL = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
#: Where the kernel tells a container's limit: control groups of version 2, and of version 1.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

#: `M_ARENA_MAX` of glibc's mallopt(3).
_ARENA_MAX = -8
#: As many as threads that allocate much at the same time: one has the device, another encodes what came before.
_ARENAS = 2


def share_heaps() -> None:
    """Have the threads of this process share their heaps, where the C library can.

    glibc gives each thread a heap of its own, and a heap keeps the most that it ever needed. Every thread of a worker
    renders some time, so the process would grow until each had kept what the largest batch takes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, _ARENAS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the host had no room."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)


def is_device_lost(error: BaseException) -> bool:
    """Whether the device answers nothing any more: after such an error every call of this process fails."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def device_memory(device: torch.device) -> int:
    """All bytes of the device, used or not. Those of a CPU are the host's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return host_memory()


def host_memory() -> int:
    """All bytes of the machine, or of the container where it may use fewer."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit.read_text().strip() for limit in _LIMITS if limit.is_file()]
    # Where there is no limit, it says "max", or a number beyond all memory.
    return min([machine, *(int(limit) for limit in limits if limit.isdigit())])


def budget(setting: float, memory: int) -> int:
    """The bytes that a setting allows: up to 1 it is a share of all the memory, above 1 bytes."""
    return int(setting * memory) if setting <= 1 else int(setting)
