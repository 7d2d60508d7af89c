"""What S3 refuses is told apart, also where the server words it in a way that the client library does not read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm import parts
from shared.settings import Settings
from shared.storage import ObjectMissing, Storage, StorageError


def test_a_missing_object_is_told_apart_from_a_server_that_refuses(s3: Settings) -> None:
    storage = Storage(replace(s3, s3_bucket="errors"))
    storage.ensure_bucket()
    with pytest.raises(ObjectMissing):
        storage.get("nothing-here")
    with pytest.raises(StorageError, match="AccessDenied"):
        Storage(replace(s3, s3_secret_key="wrong")).ensure_bucket()


def test_a_server_that_is_away_is_no_missing_object() -> None:
    nowhere = Settings(s3_endpoint=f"http://127.0.0.1:{parts.free_port()}", s3_access_key="key", s3_secret_key="secret")
    with pytest.raises(StorageError) as caught:
        Storage(nowhere).get("anything")
    assert not isinstance(caught.value, ObjectMissing)


def test_a_bucket_that_another_process_made_first_is_no_error(s3: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(replace(s3, s3_bucket="twice"))
    storage.ensure_bucket()
    monkeypatch.setattr(storage._client, "bucket_exists", lambda _: False)
    storage.ensure_bucket()
