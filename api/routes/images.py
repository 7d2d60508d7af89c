"""Images: finished and uploaded pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from flask import Response, request

from api.auth import account, public
from api.http import begun, json_response, tagged_json
from api.schemas.image import ImagePageSchema, ImageSchema, ImagesQuery, UploadForm
from api.services import services
from api.spec import Blueprint
from intake import pictures
from shared.errors import RendermillError, RequestInvalid
from shared.ids import new_id
from shared.images import Image
from shared.storage import CONTENT_TYPES, ObjectMissing

images = Blueprint("images", __name__, url_prefix="/v1/images", description="Finished and uploaded pictures.")
public_images = Blueprint("public_images", __name__, url_prefix="/images", description="Pictures without a key.")

#: A published picture may be kept this long by caches, so an unpublished one is gone everywhere after as long.
_PUBLIC_CACHE_S = 60


@images.route("", methods=["GET"])
@images.query(ImagesQuery)
@images.answers(200, "A page of images, newest first.", ImagePageSchema)
@images.refuses(400, 401, 422)
@images.describes(summary="List images")
def list_images(query: dict[str, Any]) -> Response:
    farm = services()
    take = query["take"]
    page = farm.images.page(account(), take=take, start=query.get("from_"))

    def link(start: str | None) -> str | None:
        address = f"{farm.settings.public_url.rstrip('/')}/v1/images"
        return None if start is None else f"{address}?{urlencode({'take': take, 'from': start})}"

    return json_response(
        {
            "data": farm.views.images(page.images),
            "links": {"previous": link(page.previous), "next": link(page.next)},
        }
    )


@images.route("/upload", methods=["POST"])
@images.form(UploadForm)
@images.answers(201, "The image.", ImageSchema)
@images.refuses(400, 401, 413, 415, 422, 503)
@images.describes(summary="Upload an image, to be used by its id")
def upload_image(form: dict[str, Any]) -> Response:
    farm = services()
    data: bytes = form["image"]
    try:
        with pictures.opened(data, farm.settings) as picture:
            picture.load()  # what is damaged is told now, not to the job that uses it
            kind = str(picture.format).lower()
            image = Image(
                id=(id_ := new_id("image")),
                account=account(),
                name=form["name"],
                key=f"uploads/{id_}.{kind}",
                width=picture.width,
                height=picture.height,
                format=kind,
                size=len(data),
                created_at=time.time(),
            )
    except pictures.BadPicture as error:
        raise RequestInvalid({"image": [str(error)]}, code="bad_image") from error
    farm.unclaimed.note(image.key)
    farm.storage.put(image.key, data, CONTENT_TYPES[kind])
    farm.images.add(image)
    return json_response(farm.views.image(image), 201)


@images.route("/<image_id>", methods=["GET"])
@images.answers(200, "The image.", ImageSchema)
@images.answers(304, "It is as it was when its `ETag` was given.")
@images.refuses(401, 404, 410)
@images.describes(summary="Look at an image")
def get_image(image_id: str) -> Response:
    farm = services()
    return tagged_json(farm.views.image(farm.images.get(image_id, account())))


@images.route("/<image_id>", methods=["DELETE"])
@images.answers(204, "The image is gone.")
@images.refuses(401, 404, 410)
@images.describes(summary="Delete an image")
def delete_image(image_id: str) -> Response:
    farm = services()
    image = farm.images.get(image_id, account())
    # The record first: should this be cut short, nothing leads to the picture any more.
    farm.images.remove(image)
    farm.storage.delete([image.key])
    return Response(status=204)


@images.route("/<image_id>/download", methods=["GET"])
@images.answers(200, "The file.", {"type": "string", "format": "binary"}, "image/*")
@images.answers(304, "The client has it already.")
@images.refuses(401, 404, 410, 503)
@images.describes(summary="Download an image")
def download_image(image_id: str) -> Response:
    return _file(services().images.get(image_id, account()), "private, max-age=3600")


@images.route("/<image_id>/publish", methods=["POST"])
@images.answers(201, "The image with its public `url`.", ImageSchema)
@images.refuses(401, 404, 410)
@images.describes(summary="Publish an image")
def publish_image(image_id: str) -> Response:
    farm = services()
    image = farm.images.get(image_id, account())
    farm.images.publish(image)
    return json_response(farm.views.image(image), 201)


@images.route("/<image_id>/unpublish", methods=["POST"])
@images.answers(201, "The image; its `url` is null.", ImageSchema)
@images.refuses(401, 404, 410)
@images.describes(summary="Take an image back")
def unpublish_image(image_id: str) -> Response:
    farm = services()
    image = farm.images.get(image_id, account())
    farm.images.unpublish(image)
    return json_response(farm.views.image(image), 201)


@public_images.route("/<image_id>.<format_>", methods=["GET"])
@public
@public_images.answers(200, "The file.", {"type": "string", "format": "binary"}, "image/*")
@public_images.refuses(404, 503)
@public_images.describes(
    summary="A published image, or any with the token of a one-hour link",
    security=[],
    parameters=[{"name": "token", "in": "query", "schema": {"type": "string"}}],
)
def show_image(image_id: str, format_: str) -> Response:
    farm = services()
    token = request.args.get("token")
    if token is not None and farm.links.allows(token, image_id):
        image, cached = farm.images.read([image_id]).get(image_id), "private, max-age=60"
    else:
        image, cached = farm.images.public(image_id), f"public, max-age={_PUBLIC_CACHE_S}"
    if image is None or image.format != format_:
        raise RendermillError("not_found", "There is no such picture, it is not published, or its link has expired.")
    return _file(image, cached)


def _file(image: Image, cache_control: str) -> Response:
    """The image's file, straight from the storage."""
    headers = {"Cache-Control": cache_control, "Content-Disposition": _disposition(image)}
    response = Response(content_type=CONTENT_TYPES[image.format], headers=headers)
    # The picture of an id never changes.
    response.set_etag(image.id)
    response.make_conditional(request)
    if response.status_code == 304:
        return response
    if request.method != "HEAD":
        response.response = _pieces(image)
    response.content_length = image.size
    return response


def _pieces(image: Image) -> Iterator[bytes]:
    try:
        return begun(services().storage.stream(image.key))
    except ObjectMissing as error:
        raise RendermillError("not_found", f"The file of {image.id} is gone.") from error


def _disposition(image: Image) -> str:
    """Shown in the browser, and saved under the image's name."""
    name = quote(f"{image.name}.{image.format}", safe="")
    return f"inline; filename=\"{image.id}.{image.format}\"; filename*=UTF-8''{name}"
