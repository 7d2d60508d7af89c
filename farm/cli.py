"""The `rendermill` command: the operator's commands, and those of the client."""

from __future__ import annotations

import signal
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

import client.cli
from client.terminal import fail
from farm import accounts, keys
from farm.embedded import EmbeddedFarm
from farm.errors import FarmError

app = typer.Typer(
    name="rendermill",
    help="A self-hosted, asynchronous image-generation farm.",
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


@app.command()
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
    """
    farm = EmbeddedFarm(data_dir, host, port, _tell)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        farm.start()
        _tell(f"starting; logs are in {farm.data_dir.logs}")
        farm.wait_ready()
        typer.echo(f"ready: {farm.url}")
        farm.watch()
    except (FarmError, OSError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        _tell("stopping")
    finally:
        farm.stop()


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


app.add_typer(keys.app, name="keys")
app.add_typer(accounts.app, name="accounts")
app.add_typer(client.cli.app)


def main() -> None:
    """The entry point."""
    app()
