"""Files, as in the OpenAI API: what goes into batches and what comes out of them."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

from flask import Response, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from api.auth import account
from api.dialects.openai_errors import ERROR_SCHEMA
from api.http import begun, json_response
from api.idempotency import IDEMPOTENCY_KEY, Once
from api.schemas.file import DeletedFileSchema, FileFields, FileForm, FilePageSchema, FileSchema, FilesQuery, list_of
from api.services import services
from api.spec import Blueprint
from api.uploads import Form, read_upload
from intake.field_errors import field_errors
from shared.errors import RendermillError, RequestInvalid
from shared.files import File, file_key
from shared.ids import new_id
from shared.storage import ObjectMissing, StorageError

files = Blueprint("files", __name__, url_prefix="/v1/files", description="Input and output of batches.")

_PATHS = re.compile(r"/v1/(files|batches)(/.*)?", re.DOTALL)
#: The OpenAI API's limit on the input of a batch.
MAX_FILE_BYTES = 200 * 2**20
_MAX_FILENAME = 255
CONTENT_TYPE = "application/jsonl"


@files.route("", methods=["POST"])
@files.answers(200, "The file.", FileSchema)
@files.fails_with(ERROR_SCHEMA)
@files.describes(
    summary="Upload a file",
    parameters=[IDEMPOTENCY_KEY],
    requestBody={"required": True, "content": {"multipart/form-data": {"schema": FileForm}}},
)
def upload_file() -> Response:
    farm = services()
    file_id, size, digest = new_id("file"), 0, hashlib.sha256()

    def hashed(pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            digest.update(piece)
            yield piece

    def store(pieces: Iterator[bytes]) -> None:
        nonlocal size
        size = farm.storage.put_stream(file_key(file_id), hashed(pieces), CONTENT_TYPE)

    farm.unclaimed.note(file_key(file_id))
    with _removed_if_refused(file_key(file_id)):
        form = read_upload(request, store, MAX_FILE_BYTES)
        asked = _checked(form)
        once = Once.of_request({**asked, "filename": form.filename, "sha256": digest.hexdigest()}, farm.settings)
        file = _new_file(file_id, form, asked, size)
        recorded = farm.files.add(
            file, key=once.key, fingerprint=once.fingerprint, remember_s=once.remember_s, anew=once.anew
        )
    if recorded == file_id:
        return json_response(file.view())
    with suppress(StorageError):  # then upkeep removes it
        farm.storage.delete([file.key])
    return json_response(farm.files.get(recorded, account()).view(), headers={"Idempotent-Replayed": "true"})


@contextmanager
def _removed_if_refused(key: str) -> Iterator[None]:
    """What is wrong with an upload may stand behind its file, whose bytes are stored by then."""
    try:
        yield
    except (RendermillError, HTTPException):  # such as a client that went away
        with suppress(StorageError):
            services().storage.delete([key])
        raise


def _new_file(file_id: str, form: Form, asked: dict[str, Any], size: int) -> File:
    now = time.time()
    lifetime_s = asked.get("expires_after_seconds") or services().settings.file_retention_s
    return File(
        id=file_id,
        account=account(),
        filename=form.filename or "file.jsonl",
        purpose=asked["purpose"],
        bytes=size,
        created_at=now,
        expires_at=now + lifetime_s if lifetime_s else None,
    )


def _checked(form: Form) -> dict[str, Any]:
    errors: dict[str, list[str]] = {}
    asked: dict[str, Any] = {}
    try:
        asked = FileFields().load(form.texts)
    except ValidationError as error:
        errors = field_errors(error.messages)
    if form.filename is None:
        errors["file"] = ["is missing: send the lines as a file of the form"]
    elif len(form.filename) > _MAX_FILENAME or "\0" in form.filename:
        errors["file"] = [f"must have a name of at most {_MAX_FILENAME} characters"]
    if errors:
        raise RequestInvalid(errors)
    return asked


@files.route("", methods=["GET"])
@files.query(FilesQuery)
@files.answers(200, "A page of files.", FilePageSchema)
@files.fails_with(ERROR_SCHEMA)
@files.describes(summary="List files")
def list_files(query: dict[str, Any]) -> Response:
    found, has_more = services().files.page(
        account(),
        limit=query["limit"],
        after=query.get("after"),
        purpose=query.get("purpose"),
        newest_first=query["order"] == "desc",
    )
    return json_response(list_of([file.view() for file in found], has_more))


@files.route("/<file_id>", methods=["GET"])
@files.answers(200, "The file.", FileSchema)
@files.fails_with(ERROR_SCHEMA)
@files.describes(summary="Look at a file")
def get_file(file_id: str) -> Response:
    return json_response(services().files.get(file_id, account()).view())


@files.route("/<file_id>", methods=["DELETE"])
@files.answers(200, "It is gone.", DeletedFileSchema)
@files.fails_with(ERROR_SCHEMA)
@files.describes(summary="Delete a file")
def delete_file(file_id: str) -> Response:
    farm = services()
    file = farm.files.get(file_id, account())
    # The record first: should this be cut short, nothing leads to the bytes any more.
    if not farm.files.delete(file.id):
        raise RendermillError(
            "conflict", f"A batch that is not finished needs {file.id}. Wait for it, or cancel it first."
        )
    farm.storage.delete([file.key])
    return json_response({"id": file.id, "object": "file", "deleted": True})


@files.route("/<file_id>/content", methods=["GET"])
@files.answers(200, "The bytes.", {"type": "string", "format": "binary"}, CONTENT_TYPE)
@files.fails_with(ERROR_SCHEMA)
@files.describes(summary="Download a file")
def get_content(file_id: str) -> Response:
    farm = services()
    file = farm.files.get(file_id, account())
    name = quote(file.filename, safe="")
    response = Response(
        content_type=CONTENT_TYPE, headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    )
    if request.method != "HEAD":
        try:
            response.response = begun(farm.storage.stream(file.key))
        except ObjectMissing as error:
            raise RendermillError("not_found", f"The content of {file.id} is gone.") from error
    response.content_length = file.bytes
    return response


def is_ours(path: str) -> bool:
    """Whether errors of the path have the OpenAI API's shape."""
    return _PATHS.fullmatch(path) is not None
