"""Telling apart what goes wrong on a device: full, which passes, and broken, which does not."""

from __future__ import annotations

import torch

#: Where memory runs out inside a library or on the CPU, the exception is of no class of its own.
_FULL = ("out of memory", "can't allocate memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the host had no room."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)


def is_device_lost(error: BaseException) -> bool:
    """Whether the device answers nothing any more: after such an error every call of this process fails."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)
