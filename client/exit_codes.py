"""How a command ends. Scripts rely on these numbers: they never change their meaning."""

from __future__ import annotations

from enum import IntEnum

from client.errors import ClientError, MissingKey, NotFound, Unauthenticated
from client.retry import passes


class ExitCode(IntEnum):
    """The codes, each with its meaning, as `docs/cli.md` shows them."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    OK = 0, "all is well; for `up` and `webhooks listen`, it was stopped"
    FAILED = 1, "a job did not succeed, a line was refused, or the command could not be carried out"
    USAGE = 2, "the command line is wrong"
    NOT_FOUND = 3, "there is no such job, batch, image, file, model or endpoint"
    UNAUTHENTICATED = 4, "no API key, or a wrong one"
    UNAVAILABLE = 5, "no farm answers, or it is too busy: the same command may go well later"
    INTERRUPTED = 130, "stopped by Ctrl-C; what was submitted goes on"


_CODES: tuple[tuple[type[ClientError], ExitCode], ...] = (
    (MissingKey, ExitCode.UNAUTHENTICATED),
    (Unauthenticated, ExitCode.UNAUTHENTICATED),
    (NotFound, ExitCode.NOT_FOUND),
)


def exit_code_of(error: ClientError) -> ExitCode:
    """The code with which a command ends that met this error."""
    if passes(error):
        return ExitCode.UNAVAILABLE
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)
