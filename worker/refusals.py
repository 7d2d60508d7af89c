"""Lines that became no job: their entries for the error file, kept in S3 a chunk at a time until the batch ends.

The name of a chunk has the fence of the claim under which it was read. The batch's record names those that count: a
worker that was presumed dead may store its own beside them, and nobody reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from shared.batch_claims import BatchClaim
from shared.batches import REFUSALS, Batch
from shared.storage import Storage


def entry(id_: str, custom_id: str | None, line: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    """A line of the error file."""
    error = {"code": code, "message": message, "param": param, "line": line}
    return {"id": id_, "custom_id": custom_id, "response": None, "error": error}


def store_refusals(
    storage: Storage, batch: Batch, claim: BatchClaim, refusals: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Keep the entries of the chunk that begins at the cursor; the fields of the record that make them count."""
    if not refusals:
        return {}
    text = "".join(json.dumps(refusal, ensure_ascii=False) + "\n" for refusal in refusals)
    storage.put(_key(batch, batch.line, claim.fence), text.encode("utf-8", "replace"), "application/jsonl")
    return {f"{REFUSALS}{batch.line}": claim.fence}


def refusals_of(storage: Storage, batch: Batch) -> Iterator[dict[str, Any]]:
    """All entries by line."""
    for line, fence in sorted(batch.refusals.items()):
        yield from map(json.loads, storage.get(_key(batch, line, fence)).splitlines())


def _key(batch: Batch, line: int, fence: int) -> str:
    return f"{batch.folder}refusals/{line:08}-{fence}.jsonl"
