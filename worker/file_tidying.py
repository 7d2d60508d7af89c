"""Clearing away files past their time, and finished batches past their retention."""

from __future__ import annotations

import logging
import time

from shared.batches import Batches
from shared.files import Files, file_key
from shared.storage import Storage, StorageError

_log = logging.getLogger(__name__)

#: Removed before the next are looked up.
_PAGE = 200
#: An expired file that a batch still needs, or that S3 does not give up, is looked at again after this long.
_LATER_S = 3600.0


class FileTidier:
    def __init__(self, *, files: Files, batches: Batches, storage: Storage, retention_s: float) -> None:
        """Finished batches are kept for `retention_s`, or for ever where that is 0."""
        self._files = files
        self._batches = batches
        self._storage = storage
        self._retention_s = retention_s

    def tidy(self) -> None:
        """One round of everything. Raises StorageError and RedisError; the next round goes on where this one ended."""
        # While it is away, each object below would cost its own wait.
        self._storage.ensure_bucket()
        while ids := self._files.expired(_PAGE):
            for file_id in ids:
                self._remove_file(file_id)
        if self._retention_s > 0:
            while ids := self._batches.finished_before(time.time() - self._retention_s, _PAGE):
                for batch_id in ids:
                    # Objects first: should this be cut short, the record remains and it is done again.
                    self._storage.delete(self._storage.keys(f"batches/{batch_id}/"))
                    self._batches.forget(batch_id)

    def _remove_file(self, file_id: str) -> None:
        try:
            # The record first, for only it tells whether a batch needs the file.
            if self._files.delete(file_id):
                self._storage.delete([file_key(file_id)])
                return
        except StorageError as error:
            _log.warning("%s is left without its record: %s", file_id, error)
        self._files.postpone(file_id, _LATER_S)
