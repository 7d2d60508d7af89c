"""`rendermill webhooks listen`: see the webhooks of your account as they come, or have them sent on to your program."""

from __future__ import annotations

import ipaddress
import queue
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer

from client.client import Client
from client.commands.printing import JsonOption, print_json
from client.connection import DEFAULT_DATA_DIR, DataDirOption, KeyOption, UrlOption, connected
from client.errors import ApiError, ClientError
from client.receiver import Message, Receiver
from client.signals import stop_as_ctrl_c_does
from client.terminal import fail, plain, tell
from client.webhooks import Event, Webhooks

app = typer.Typer()

#: As long as the farm itself waits for a receiver.
_FORWARD_TIMEOUT_S = 15.0
#: What a receiver needs in order to verify; the rest belongs to the connection.
_FORWARDED = ("content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature")
_INVALID = 422


@app.command()
def listen(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    public_url: Annotated[
        str | None, typer.Option(help="Where the farm reaches this port, if not at this machine's own address.")
    ] = None,
    forward_to: Annotated[
        str | None, typer.Option(metavar="URL", help="Send what is verified on to your program, unchanged.")
    ] = None,
    event: Annotated[
        list[Event] | None, typer.Option(metavar="EVENT", help="Only this; may be repeated. All, if absent.")
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(help="Verify with this one, and tell the farm of no endpoint: that is up to you then."),
    ] = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Receive webhooks on this machine, verify them and print them, until Ctrl-C.

    The farm is told of an endpoint here, which is removed at the end. The farm must reach this machine: 'rendermill
    up' does; one elsewhere needs --public-url, such as the https address of a tunnel.

    Example: `rendermill webhooks listen --forward-to http://127.0.0.1:3000/hook`
    """
    stop_as_ctrl_c_does()
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    try:
        receiver = Receiver(messages.put, host, port)
    except OSError as error:
        fail(f"Port {port} of {host} cannot be used: {error.strerror or error}. Give another --port.")
    address = public_url or receiver.url
    with receiver:
        if secret is not None:
            _trust(receiver, secret)
            greeting = f"listening at {address}; send webhooks there, as the webhook_url of jobs or an endpoint"
            _print_all(messages, greeting, forward_to, as_json)
            return
        with connected(url, api_key, data_dir) as farm, _endpoint(farm, address, event or ()) as own:
            # Jobs may name this address as their webhook_url as well; those are signed with the account's secret.
            _trust(receiver, own["secret"], Webhooks(farm).secret())
            greeting = f"listening at {address}, signed with {own['secret']}; Ctrl-C ends it"
            _print_all(messages, greeting, forward_to, as_json)


@contextmanager
def _endpoint(farm: Client, address: str, events: Sequence[Event]) -> Iterator[dict[str, Any]]:
    """An endpoint of the account for as long as the context lasts."""
    webhooks = Webhooks(farm)
    if _loopback(address) and not _loopback(farm.url):
        raise ClientError(
            f"The farm at {farm.url} cannot reach {address}, which is this machine's own. Give a --public-url that "
            "leads here, such as the https address of a tunnel, or use a farm on this machine."
        )
    try:
        own = webhooks.create(address, events)
    except ApiError as error:
        if error.status != _INVALID:
            raise
        raise ClientError(
            f"The farm does not send webhooks to {address}: {error} Set RENDERMILL_EGRESS_ALLOW where the farm runs to "
            "a network that holds it, such as 127.0.0.0/8, or give a --public-url that begins with https."
        ) from error
    try:
        yield own
    finally:
        try:
            webhooks.delete(own["id"])
        except ClientError as error:
            tell(f"{own['id']} is still there: {error} Remove it with 'rendermill webhooks delete {own['id']}'.")


def _trust(receiver: Receiver, *secrets: str) -> None:
    try:
        receiver.trust(*secrets)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--secret") from error


def _print_all(messages: queue.SimpleQueue[Message], greeting: str, forward_to: str | None, as_json: bool) -> None:
    """Print what comes, and send it on, until Ctrl-C."""
    with httpx.Client(timeout=_FORWARD_TIMEOUT_S, trust_env=False) as http:
        try:
            tell(greeting)
            while True:
                _print(message := messages.get(), as_json)
                if forward_to is not None and message.event is not None:
                    tell(_forward(http, forward_to, message))
        except KeyboardInterrupt:
            tell("stopped")


def _print(message: Message, as_json: bool) -> None:
    if message.event is None:
        tell(f"refused, for its signature is wrong: {plain(message.id) or 'no webhook-id'} of {message.sender}")
    elif as_json:
        print_json([message.raw])
    else:
        typer.echo(_line(message, message.event))
    # Whoever reads it in a pipe is to have it now.
    sys.stdout.flush()


def _line(message: Message, event: Mapping[str, Any]) -> str:
    """An event in one line, for a person or a program."""
    about = event.get("data")
    data = about if isinstance(about, Mapping) else {}
    moment = f"{message.received_at.astimezone():%H:%M:%S}"
    cells = [moment, f"{plain(event.get('type')):<15}", data.get("id"), data.get("model"), _result(data)]
    return "  ".join(plain(cell) for cell in cells if cell)


def _result(data: Mapping[str, Any]) -> str:
    if counts := data.get("request_counts"):
        return f"{counts['completed']} completed, {counts['failed']} failed of {counts['total']}"
    if error := data.get("error"):
        return str(error.get("message"))
    images = data.get("images") or []
    return ", ".join(str(image.get("id")) for image in images)


def _forward(http: httpx.Client, to: str, message: Message) -> str:
    headers = {name: message.headers[name] for name in _FORWARDED if name in message.headers}
    try:
        answer = http.post(to, content=message.body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"  not forwarded: {to} does not answer: {error or type(error).__name__}"
    return f"  {answer.status_code} from {to} after {answer.elapsed.total_seconds() * 1000:.0f} ms"


def _loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
