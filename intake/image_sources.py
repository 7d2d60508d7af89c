"""Where an input image comes from: its bytes in the request, an address to fetch, or an image we have."""

from __future__ import annotations

import base64
import binascii
import re

import httpx

from intake.means import Means
from intake.pictures import BadPicture
from shared import egress
from shared.errors import RendermillError
from shared.storage import ObjectMissing

_IMAGE_ID = re.compile(r"image_[A-Za-z0-9]{24}")
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
#: What people leave in base64 that they copied or wrapped.
_BLANKS = str.maketrans("", "", " \t\r\n")


def image_bytes(source: str | bytes, means: Means, account: str) -> bytes:
    """The bytes of an image that a request names: an upload, base64, a data URL, an https URL, or an image's id.

    Raises BadPicture where there are none or too many, StorageError where the storage is away.
    """
    if isinstance(source, bytes):
        return source
    if _IMAGE_ID.fullmatch(source):
        return _own_image(source, means, account)
    if _ADDRESS.match(source):
        return _fetched(source, means)
    if match := _DATA_URL.match(source):
        return _decoded(source[match.end() :], means)
    if source[:5].lower() == "data:":
        raise BadPicture("is a data URL that is not base64")
    return _decoded(source, means)


def _own_image(image_id: str, means: Means, account: str) -> bytes:
    try:
        image = means.images.get(image_id, account)
    except RendermillError as error:
        raise BadPicture(f"names an image that cannot be used: {error.detail}") from error
    try:
        return means.storage.get(image.key)
    except ObjectMissing as error:
        raise BadPicture("names an image whose file is gone") from error


def _fetched(url: str, means: Means) -> bytes:
    try:
        egress.check_url(url, means.egress_allow)
        return egress.fetch(means.egress, url, means.settings.max_input_bytes)
    except egress.EgressBlocked as error:
        raise BadPicture(f"is an address that may not be fetched: {error}") from error
    except egress.TooLarge as error:
        raise BadPicture(f"cannot be taken: {error}") from error
    except httpx.HTTPError as error:
        raise BadPicture(f"could not be fetched: {error}") from error


def _decoded(text: str, means: Means) -> bytes:
    # Four characters carry three bytes, so this is known before they are decoded.
    limit = means.settings.max_input_bytes
    if len(text) // 4 * 3 - 2 > limit:
        raise BadPicture(f"is more than {limit} bytes")
    packed = text.translate(_BLANKS).rstrip("=")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadPicture("is neither base64, a data URL, an https URL nor the id of an image") from error
