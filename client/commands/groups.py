"""Commands that have commands of their own, such as `rendermill batches cancel`."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

_DEFAULT = "list"


class ListByDefault(TyperGroup):
    """`rendermill batches` is `rendermill batches list`, whatever options follow."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # A shell that completes has not written the command yet.
        nothing = not args and not ctx.resilient_parsing
        if nothing or (args and args[0].startswith("-") and args[0] not in self.get_help_option_names(ctx)):
            args.insert(0, _DEFAULT)
        return super().parse_args(ctx, args)


def late(module: str, help_: str) -> typer.Typer:
    """A group whose module, which has it as `app`, is not imported before one of its commands is asked for."""

    class Late(ListByDefault):
        @property
        def commands(self) -> MutableMapping[str, Any]:
            return typer.main.get_group(import_module(module).app).commands

        @commands.setter
        def commands(self, _: object) -> None:
            """They are those of the module."""

    return typer.Typer(cls=Late, help=help_)


def group(help_: str) -> typer.Typer:
    """A group of commands, with one called `list` among them."""
    return typer.Typer(cls=ListByDefault, help=help_)
