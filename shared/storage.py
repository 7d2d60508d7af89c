"""Pictures and files in S3: MinIO, or any other.

Keys: `outputs/…` for finished pictures (`shared.outputs`), `inputs/<job>/…` for the images a job starts from,
`uploads/<image id>.<format>` for images uploaded to be used by id, `files/<file id>` for files, `batches/<batch>/…` for
what a batch writes on its way.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import BinaryIO, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from shared.settings import Settings

CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}

#: One object is at most a few megabytes; a server that takes longer than this for it is away.
_TIMEOUT = urllib3.Timeout(connect=5, read=30)
#: Tries within one call; a caller that can wait longer tries again itself.
_RETRIES = urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504])
#: Connections kept open: more than the threads of a process that store pictures at the same time.
_POOL_SIZE = 64
_CHUNK_BYTES = 64 * 1024
#: A part of an upload of unknown length, and what it takes in memory: 10,000 of them, the most there may be, are 80 GB.
_PART_BYTES = 8 * 2**20


class StorageError(Exception):
    """S3 did not answer, or refused."""


class ObjectMissing(StorageError):
    """There is no such object."""


@contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    try:
        yield
    except MinioException as error:
        code = _code(error)
        if code in {"NoSuchKey", "NoSuchObject"}:
            raise ObjectMissing(f"{what}: no such object") from error
        raise StorageError(f"{what}: {code or error}") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise StorageError(f"{what}: {error}") from error


def _code(error: MinioException) -> str:
    """S3's code of an error, or nothing. minio-py leaves answers unread that are text/xml, as those of rclone are."""
    if isinstance(error, S3Error):
        return error.code or ""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found[1] if found else ""


class Storage:
    """One bucket. Safe to share between threads. Every method may raise StorageError."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.s3_bucket
        self._client = _client(settings, settings.s3_endpoint)
        public = settings.s3_public_endpoint
        self._public_client = _client(settings, public) if public else None

    def ensure_bucket(self) -> None:
        """Raise StorageError unless the bucket can be reached; it is made where it does not exist."""
        with _storage_errors("bucket"):
            if not self._client.bucket_exists(self._bucket):
                try:
                    self._client.make_bucket(self._bucket)
                except MinioException as error:
                    # Several processes start at once, and one of them is first.
                    if _code(error) not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                        raise

    def put(self, key: str, data: bytes, content_type: str) -> None:
        with _storage_errors(key):
            try:
                self._put(key, data, content_type)
            except MinioException as error:
                if _code(error) != "NoSuchBucket":
                    raise
                # Nobody asked for readiness since the storage was made, or it was emptied under us.
                self.ensure_bucket()
                self._put(key, data, content_type)

    def _put(self, key: str, data: bytes, content_type: str) -> None:
        self._client.put_object(self._bucket, key, io.BytesIO(data), len(data), content_type=content_type)

    def put_stream(self, key: str, pieces: Iterable[bytes], content_type: str) -> int:
        """Store what `pieces` gives, without ever holding more than a part of it; its size in bytes.

        What `pieces` raises is raised, and nothing is stored.
        """
        reader = _Reader(pieces)
        with _storage_errors(key):
            self._client.put_object(
                self._bucket,
                key,
                cast(BinaryIO, reader),
                -1,
                content_type=content_type,
                part_size=_PART_BYTES,
                num_parallel_uploads=1,
            )
        return reader.size

    def get(self, key: str) -> bytes:
        """The whole object. Raises ObjectMissing where there is none."""
        return b"".join(self.stream(key))

    def stream(self, key: str) -> Iterator[bytes]:
        """The object in pieces. Raises ObjectMissing, at the first piece, where there is none."""
        with _storage_errors(key):
            response = self._client.get_object(self._bucket, key)
            try:
                yield from response.stream(_CHUNK_BYTES)
            finally:
                response.close()
                response.release_conn()

    def range(self, key: str, start: int, length: int) -> bytes:
        """Up to `length` bytes of the object from `start`, which must be within it. Raises ObjectMissing."""
        with _storage_errors(key):
            response = self._client.get_object(self._bucket, key, offset=start, length=length)
            try:
                return response.read()
            finally:
                response.close()
                response.release_conn()

    def keys(self, prefix: str) -> list[str]:
        """The keys of all objects whose key begins with `prefix`."""
        with _storage_errors(prefix):
            found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
            return [item.object_name for item in found if item.object_name]

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that do not exist are no error."""
        with _storage_errors("delete"):
            for error in self._client.remove_objects(self._bucket, (DeleteObject(key) for key in keys)):
                raise StorageError(f"{error.name}: {error.code}")

    @property
    def presigns(self) -> bool:
        """Whether clients can reach S3, so that there are presigned links."""
        return self._public_client is not None

    def presigned_url(self, key: str, lifetime_s: int) -> str | None:
        """A link to the object that needs no key and works for `lifetime_s`; None where clients cannot reach S3."""
        if self._public_client is None:
            return None
        return str(self._public_client.presigned_get_object(self._bucket, key, timedelta(seconds=lifetime_s)))


class _Reader:
    """Pieces of bytes as a file to be read once."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = bytearray()
        self.size = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes; fewer only at the end."""
        while len(self._rest) < size and (piece := next(self._pieces, None)) is not None:
            self._rest += piece
        data = bytes(self._rest[:size])
        del self._rest[:size]
        self.size += len(data)
        return data


def _client(settings: Settings, endpoint: str) -> Minio:
    address = urlsplit(endpoint)
    if address.scheme not in {"http", "https"} or not address.netloc:
        raise ValueError(f"{endpoint!r} is no S3 endpoint: write it as http://host:port")
    return Minio(
        address.netloc,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        secure=address.scheme == "https",
        region=settings.s3_region,
        http_client=urllib3.PoolManager(timeout=_TIMEOUT, retries=_RETRIES, maxsize=_POOL_SIZE),
    )
