"""An S3 bucket that is a dictionary, for unit tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shared.storage import ObjectMissing, Storage, StorageError


class MemoryStorage(Storage):
    """Set `away` and every call fails, as if S3 were gone."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False

    def _answers(self) -> None:
        if self.away:
            raise StorageError("nobody answers")

    def ensure_bucket(self) -> None:
        self._answers()

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self._answers()
        assert content_type.startswith(("image/", "text/", "application/"))
        self.objects[key] = data

    def put_stream(self, key: str, pieces: Iterable[bytes], content_type: str) -> int:
        data = b"".join(pieces)
        self.put(key, data, content_type)
        return len(data)

    def range(self, key: str, start: int, length: int) -> bytes:
        self._answers()
        if key not in self.objects:
            raise ObjectMissing(key)
        return self.objects[key][start : start + length]

    def keys(self, prefix: str) -> list[str]:
        self._answers()
        return sorted(key for key in self.objects if key.startswith(prefix))

    def stream(self, key: str) -> Iterator[bytes]:
        self._answers()
        if key not in self.objects:
            raise ObjectMissing(key)
        yield self.objects[key]

    def delete(self, keys: Iterable[str]) -> None:
        self._answers()
        for key in keys:
            self.objects.pop(key, None)

    @property
    def presigns(self) -> bool:
        return False

    def presigned_url(self, key: str, lifetime_s: int) -> str | None:  # noqa: ARG002 - the interface
        return None
