"""Run a command that dies with the process that started it.

    python -m farm.bound SIGNAL COMMAND [ARGUMENT…]

The command replaces this process, after asking the kernel for SIGNAL at the parent's death. A farm that is killed
outright (`kill -9`) thus leaves nothing behind that would hold its ports or its data. Linux has this; elsewhere the
command runs unbound.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: `prctl(2)`, from <linux/prctl.h>.
PR_SET_PDEATHSIG = 1
#: Tells a bound child which process its parent must be, so that a parent's death before the request to the kernel
#: is noticed as well. Every bound process sets it for its own children; no `RENDERMILL_` variable, as it is no setting.
PARENT = "_FARM_BOUND_PARENT"


def bind_to_parent(signum: int) -> None:
    """Ask for `signum` when the parent dies; exit at once where it is dead already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        parent = os.environ.get(PARENT)
        if parent is not None and os.getppid() != int(parent):
            sys.exit(f"process {parent}, to which this one is bound, is gone")
    os.environ[PARENT] = str(os.getpid())


def main() -> None:
    name, *command = sys.argv[1:]
    bind_to_parent(signal.Signals[name])
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
