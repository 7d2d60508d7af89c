"""Ends that come from outside."""

from __future__ import annotations

import signal
from typing import Any, NoReturn


def stop_as_ctrl_c_does() -> None:
    """From now on a SIGTERM, or a terminal that is closed, raises KeyboardInterrupt: what was begun is tidied up."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
