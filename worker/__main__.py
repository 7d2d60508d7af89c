"""`python -m worker render`, `python -m worker upkeep`, and `python -m worker alive` for a container's probe."""

from __future__ import annotations

import logging
import sys

from shared.settings import settings
from worker.heartbeat import is_alive

_USAGE = "usage: python -m worker (render | upkeep | alive)"


def main(arguments: list[str]) -> int:
    """Run a worker; for `alive`, 0 where this machine's worker beat lately, else 1."""
    if arguments not in (["render"], ["upkeep"], ["alive"]):
        print(_USAGE, file=sys.stderr)
        return 2
    role = arguments[0]
    if role == "alive":
        return 0 if is_alive() else 1
    logging.basicConfig(level=settings().log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # A line for each ticket taken says nothing; what was done with it is logged where it is done. The address of a
    # webhook may contain its receiver's secret.
    for name in ("celery.worker.strategy", "celery.app.trace", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Late: reading the roles loads Celery, which a probe has no need of.
    from worker.roles import run

    run(role)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
