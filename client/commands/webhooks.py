"""`rendermill webhooks`: who is told of what, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from client.client import Client
from client.commands import listen
from client.commands.cells import Moment, Status
from client.commands.completing import endpoint_id
from client.commands.groups import group
from client.commands.many import for_each
from client.commands.panels import FARM
from client.commands.printing import JsonOption, print_deleted, print_facts, print_json, print_table
from client.connection import with_farm
from client.kinds import DELIVERY, ENDPOINT
from client.webhooks import Event, Webhooks

webhooks = group("Webhooks: who is told of the end of jobs and batches, and what became of it.")
webhooks.add_typer(listen.app)
app = typer.Typer()
app.add_typer(webhooks, name="webhooks", rich_help_panel=FARM)


@webhooks.command("list")
@with_farm
def list_(farm: Client, as_json: JsonOption = False) -> None:
    """List your endpoints.

    Example: `rendermill webhooks list`
    """
    found = Webhooks(farm).endpoints()
    if as_json:
        print_json(found)
        return
    print_table(
        ("endpoint", "made", "state", "url", "events"),
        (
            (
                each["id"],
                Moment(each["created_at"]),
                each["disabled"] or "in use",
                each["url"],
                "all" if set(each["events"]) == set(Event) else ", ".join(each["events"]),
            )
            for each in found
        ),
        cut="events",
        none="No endpoints. 'rendermill webhooks create URL' adds one.",
    )


@webhooks.command()
@with_farm
def create(
    farm: Client,
    address: Annotated[str, typer.Argument(metavar="URL", help="A public https address, which answers 2xx.")],
    event: Annotated[
        list[Event] | None,
        typer.Option(metavar="EVENT", help="Tell of this, such as job.failed; may be repeated. All, if absent."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add an endpoint, which is told of all your jobs and batches. Prints the secret that signs what it is sent.

    Example: `rendermill webhooks create https://example.com/hook --event job.succeeded`
    """
    made = Webhooks(farm).create(address, event or ())
    if as_json:
        print_json([made])
        return
    print_facts((name, made[name]) for name in ("id", "url", "secret"))


@webhooks.command()
@with_farm
def delete(
    farm: Client,
    ids: Annotated[
        list[str], typer.Argument(metavar="ID…", help="Ids of endpoints: ep_….", autocompletion=endpoint_id)
    ],
    as_json: JsonOption = False,
) -> None:
    """Remove endpoints: they are told of nothing any more.

    Example: `rendermill webhooks delete ep_4kT…`
    """

    def remove(id_: str) -> None:
        Webhooks(farm).delete(id_)
        print_deleted(id_, as_json)

    for_each(ids, remove, ENDPOINT)


@webhooks.command()
@with_farm
def secret(
    farm: Client,
    endpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]", help="An endpoint; without it, the webhook_url of jobs.", autocompletion=endpoint_id
        ),
    ] = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Make a new one for the webhook_url of jobs; the old one holds for a day.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the secret with which a receiver verifies what it is sent.

    Example: `rendermill webhooks secret ep_4kT…`
    """
    if rotate and endpoint:
        raise typer.BadParameter("the secrets of endpoints do not rotate; add the endpoint again instead")
    found = Webhooks(farm).rotate_secret() if rotate else Webhooks(farm).secret(endpoint)
    if as_json:
        print_json([{"secret": found}])
    else:
        typer.echo(found)


@webhooks.command()
@with_farm
def deliveries(
    farm: Client,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List what was sent, newest first, and how the last attempt went.

    Example: `rendermill webhooks deliveries --json | jq 'select(.status == "failed").id'`
    """
    found = Webhooks(farm).deliveries(limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("delivery", "status", "made", "event", "attempts", "last"),
        (
            (
                each["id"],
                Status(each["status"]),
                Moment(each["created_at"]),
                each["event"],
                len(each["attempts"]),
                each["attempts"][-1].get("detail") or each["attempts"][-1]["result"] if each["attempts"] else "",
            )
            for each in found
        ),
        cut="last",
        none="Nothing was sent yet.",
    )


@webhooks.command()
@with_farm
def redeliver(
    farm: Client,
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of deliveries: msg_….")],
    as_json: JsonOption = False,
) -> None:
    """Send deliveries again, with the same webhook-id.

    Example: `rendermill webhooks redeliver msg_7Qd…`
    """

    def send_again(id_: str) -> None:
        again = Webhooks(farm).redeliver(id_)
        if as_json:
            print_json([again])
        else:
            typer.echo(f"{again['id']}  {again['status']}")

    for_each(ids, send_again, DELIVERY)
