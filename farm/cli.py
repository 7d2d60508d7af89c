"""The `rendermill` command: the operator's commands, and those of the client."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

import client.commands
from client.commands.groups import late
from client.commands.panels import OPERATE
from client.signals import stop_as_ctrl_c_does
from client.terminal import fail, tell
from farm.errors import FarmError

_HELP = """A self-hosted, asynchronous image-generation farm.

Start with `rendermill up`; then, in the same folder, `rendermill submit examples/prompts.jsonl --wait --out pictures`.
"""

app = typer.Typer(
    name="rendermill",
    help=_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rendermill {version('rendermill')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(rich_help_panel=OPERATE)
def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; 0 takes a free one.")] = 8080,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".rendermill"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
) -> None:
    """Run a whole farm on this machine until Ctrl-C.

    Valkey, S3, the API and the workers start together; 'ready: URL' is printed when jobs can be sent. A key for the
    API is in DATA_DIR/api-key, each process's log in DATA_DIR/logs. RENDERMILL_* variables are passed on, except
    for the addresses of Valkey and S3, which are the farm's own. Without RENDERMILL_MODELS_DIR the models are tiny
    stand-ins. With RENDERMILL_WORKER_METRICS_PORT the render worker serves its metrics there, and the upkeep worker
    at the next port. Jobs that are not rendered when it stops are rendered after its next start.

    Example: `rendermill up --port 8081 --data-dir ~/farm`
    """
    # Whoever asks a farm for something does not wait for what runs one, nor, below, for what speaks to Redis.
    from farm.embedded import EmbeddedFarm

    farm = EmbeddedFarm(data_dir, host, port, tell)
    stop_as_ctrl_c_does()
    try:
        farm.start()
        tell(f"starting; logs are in {farm.data_dir.logs}")
        farm.wait_ready()
        typer.echo(f"ready: {farm.url}")
        farm.watch()
    except (FarmError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        tell("stopping")
    finally:
        farm.stop()


app.add_typer(client.commands.app)
app.add_typer(late("farm.keys", "API keys (on the farm's side)."), name="keys", rich_help_panel=OPERATE)
app.add_typer(
    late("farm.accounts", "What accounts may do, and their credits (on the farm's side)."),
    name="accounts",
    rich_help_panel=OPERATE,
)


def main() -> None:
    """The entry point."""
    # Its name also when it is run as a module: the shell's completion goes by it.
    app(prog_name=app.info.name)
