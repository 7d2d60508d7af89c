"""`rendermill models`: what the farm serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from client.client import Client
from client.commands.cells import Number, credits_
from client.commands.completing import model_name
from client.commands.groups import group
from client.commands.panels import FARM
from client.commands.printing import JsonOption, print_facts, print_json, print_table
from client.connection import with_farm

models = group("Models: what the farm serves, with limits, defaults and prices.")
app = typer.Typer()
app.add_typer(models, name="models", rich_help_panel=FARM)


@models.command("list")
@with_farm
def list_(farm: Client, as_json: JsonOption = False) -> None:
    """List the models that the farm serves. `price` is in credits, for one step over a megapixel.

    Example: `rendermill models`
    """
    found = farm.models()
    if as_json:
        print_json(model.raw for model in found)
        return
    print_table(
        ("model", "makes", "size", "steps", "price", "workers", "also called"),
        (
            (
                model.id,
                ", ".join(model.modes),
                f"{_default(model.parameters, 'width')}×{_default(model.parameters, 'height')}",
                _default(model.parameters, "num_steps"),
                Number(credits_(model.price)),
                model.live_workers,
                ", ".join(model.aliases),
            )
            for model in found
        ),
        cut="also called",
    )


@models.command()
@with_farm
def show(
    farm: Client,
    model: Annotated[str, typer.Argument(help="Its id or an alias.", autocompletion=model_name)],
    as_json: JsonOption = False,
) -> None:
    """Show a model: what a job of it may say, with limits and defaults.

    Example: `rendermill models show flux-schnell`
    """
    found = farm.model(model)
    if as_json:
        print_json([found.raw])
        return
    print_facts(
        [
            ("model", found.id),
            ("name", found.name),
            ("makes", ", ".join(found.modes)),
            ("also called", ", ".join(found.aliases)),
            ("licence", found.raw.get("licence")),
            ("price", f"{credits_(found.price)} credits for one step over a megapixel"),
            ("rendered at once", found.raw.get("batch_limit")),
            ("workers", found.live_workers),
            ("negative prompt costs", found.raw.get("negative_prompt_cost")),
        ]
    )
    typer.echo()
    print_table(
        ("parameter", "type", "default", "values"),
        (
            (name, limits.get("type"), limits.get("default"), _values(limits))
            for name, limits in found.parameters.items()
        ),
        cut="values",
    )


def _default(parameters: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    return parameters.get(name, {}).get("default", "")


def _values(limits: Mapping[str, Any]) -> str:
    """What a parameter may be, in words."""
    words = []
    if limits.get("required"):
        words.append("required")
    if "enum" in limits:
        words.append(", ".join(limits["enum"]))
    if "minimum" in limits or "maximum" in limits:
        least, most = limits.get("minimum", ""), limits.get("maximum", "")
        words.append(f"{least}" if least == most else f"{least} to {most}")
    if "multiple_of" in limits:
        words.append(f"multiples of {limits['multiple_of']}")
    if "max_pixels" in limits:
        words.append(f"{limits['max_pixels'] / 1e6:.1f} megapixels in all")
    if limits.get("kind") == "negative-only":
        words.append("in force only with a negative prompt")
    return ", ".join(words)
