"""Webhooks: receivers, secrets, and what became of each delivery."""

from __future__ import annotations

from typing import Any

from flask import Response

from api.auth import account
from api.http import json_response
from api.schemas.webhook import (
    DeliveriesQuery,
    DeliveryPageSchema,
    DeliverySchema,
    EndpointBody,
    EndpointPageSchema,
    EndpointSchema,
    SecretSchema,
)
from api.services import services
from api.spec import Blueprint
from intake.job_body import EVENTS
from shared.deliveries import Delivery, Endpoint
from shared.images import iso_time

webhooks = Blueprint(
    "webhooks", __name__, url_prefix="/v1/webhooks", description="Signed as Standard Webhooks, retried, logged."
)

# The account's own secret, which signs what goes to the webhook_url of a job


@webhooks.route("/secret", methods=["GET"])
@webhooks.answers(200, "The secret that signs webhooks to the `webhook_url` of jobs.", SecretSchema)
@webhooks.refuses(401)
@webhooks.describes(summary="The account's signing secret")
def get_secret() -> Response:
    return json_response({"secret": services().accounts.webhook_secret(account())})


@webhooks.route("/secret/rotate", methods=["POST"])
@webhooks.answers(200, "The new secret; for a day the old one signs beside it.", SecretSchema)
@webhooks.refuses(401)
@webhooks.describes(summary="Make a new signing secret")
def rotate_secret() -> Response:
    return json_response({"secret": services().accounts.rotate_webhook_secret(account())})


# Endpoints, which are told of all jobs


@webhooks.route("", methods=["POST"])
@webhooks.body(EndpointBody)
@webhooks.answers(201, "The endpoint with its secret.", EndpointSchema)
@webhooks.refuses(400, 401, 409, 413, 415, 422)
@webhooks.describes(summary="Add an endpoint")
def add_endpoint(body: dict[str, Any]) -> Response:
    endpoint = services().deliveries.add_endpoint(account(), body["url"], body.get("events", EVENTS))
    return json_response({**_endpoint(endpoint), "secret": endpoint.secret}, 201)


@webhooks.route("", methods=["GET"])
@webhooks.answers(200, "All endpoints, oldest first.", EndpointPageSchema)
@webhooks.refuses(401)
@webhooks.describes(summary="List endpoints")
def list_endpoints() -> Response:
    found = services().deliveries.endpoints(account())
    return json_response({"object": "list", "data": [_endpoint(endpoint) for endpoint in found]})


@webhooks.route("/<endpoint_id>", methods=["GET"])
@webhooks.answers(200, "The endpoint.", EndpointSchema)
@webhooks.refuses(401, 404)
@webhooks.describes(summary="Look at an endpoint")
def get_endpoint(endpoint_id: str) -> Response:
    return json_response(_endpoint(services().deliveries.endpoint(endpoint_id, account())))


@webhooks.route("/<endpoint_id>", methods=["DELETE"])
@webhooks.answers(204, "It is told of nothing any more.")
@webhooks.refuses(401, 404)
@webhooks.describes(summary="Remove an endpoint")
def remove_endpoint(endpoint_id: str) -> Response:
    deliveries = services().deliveries
    deliveries.remove_endpoint(deliveries.endpoint(endpoint_id, account()))
    return Response(status=204)


@webhooks.route("/<endpoint_id>/secret", methods=["GET"])
@webhooks.answers(200, "The secret that signs what this endpoint is sent.", SecretSchema)
@webhooks.refuses(401, 404)
@webhooks.describes(summary="An endpoint's signing secret")
def get_endpoint_secret(endpoint_id: str) -> Response:
    return json_response({"secret": services().deliveries.endpoint(endpoint_id, account()).secret})


# The log of deliveries


@webhooks.route("/deliveries", methods=["GET"])
@webhooks.query(DeliveriesQuery)
@webhooks.answers(200, "A page of deliveries, newest first.", DeliveryPageSchema)
@webhooks.refuses(400, 401, 422)
@webhooks.describes(summary="List deliveries")
def list_deliveries(query: dict[str, Any]) -> Response:
    found, after = services().deliveries.page(account(), limit=query["limit"], after=query.get("after"))
    data = [_delivery(delivery) for delivery in found]
    return json_response({"object": "list", "data": data, "has_more": after is not None, "after": after})


@webhooks.route("/deliveries/<delivery_id>", methods=["GET"])
@webhooks.answers(200, "The delivery with its attempts.", DeliverySchema)
@webhooks.refuses(401, 404)
@webhooks.describes(summary="Look at a delivery")
def get_delivery(delivery_id: str) -> Response:
    return json_response(_delivery(services().deliveries.get(delivery_id, account())))


@webhooks.route("/deliveries/<delivery_id>/redeliver", methods=["POST"])
@webhooks.answers(202, "It is sent again, with the same id.", DeliverySchema)
@webhooks.refuses(401, 404)
@webhooks.describes(summary="Send a delivery again")
def redeliver(delivery_id: str) -> Response:
    deliveries = services().deliveries
    deliveries.redeliver(deliveries.get(delivery_id, account()))
    return json_response(_delivery(deliveries.get(delivery_id, account())), 202)


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "url": endpoint.url,
        "events": endpoint.events,
        "created_at": iso_time(endpoint.created_at),
        "disabled": endpoint.disabled,
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "object": "webhook_delivery",
        "event": delivery.event,
        "job_id": None if delivery.is_of_batch else delivery.job,
        "batch_id": delivery.job if delivery.is_of_batch else None,
        "endpoint_id": delivery.endpoint or None,
        "status": delivery.status,
        "created_at": iso_time(delivery.created_at),
        "attempts": services().deliveries.attempts(delivery.id),
    }
