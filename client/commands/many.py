"""Commands that take several ids: what is wrong with one does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from client.advice import advised
from client.errors import ClientError, Unauthenticated, Unreachable
from client.exit_codes import ExitCode, exit_code_of
from client.kinds import Kind, kind_of
from client.terminal import fail, tell


def for_each(ids: Sequence[str], do: Callable[[str], None], *kinds: Kind) -> None:
    """Do it for each id, where all are of these kinds; if one is not, nothing is done.

    Ends the command with the code of the first error, if there was any, once all are done.
    """
    for id_ in ids:
        known_kind(id_, *kinds)
    first: ExitCode | None = None
    for id_ in ids:
        try:
            do(id_)
        except (Unauthenticated, Unreachable):
            raise  # nothing would come of the others either
        except ClientError as error:
            tell(f"rendermill: {advised(error)}")
            first = first or exit_code_of(error)
    if first is not None:
        raise typer.Exit(first)


def known_kind(id_: str, *kinds: Kind) -> Kind:
    """The kind of an id, which must be of these. Ends the command otherwise."""
    kind = kind_of(id_)
    if kind is None or kind not in kinds:
        *most, last = (each.noun for each in kinds)
        nouns = f"{', '.join(most)} or {last}" if most else last
        fail(f"{id_!r} is not the id of any {nouns}.", ExitCode.USAGE)
    return kind
