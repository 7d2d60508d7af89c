"""Lines that became no job: their entries for the error file, kept in S3 a chunk at a time until the batch ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from shared.batches import Batch
from shared.storage import Storage


def entry(id_: str, custom_id: str | None, line: int, code: str, message: str, param: str | None) -> dict[str, Any]:
    """A line of the error file."""
    error = {"code": code, "message": message, "param": param, "line": line}
    return {"id": id_, "custom_id": custom_id, "response": None, "error": error}


def store_refusals(storage: Storage, batch: Batch, refusals: Sequence[dict[str, Any]]) -> None:
    """Keep the entries of a chunk; done again, they replace themselves, for a chunk begins where the cursor stands."""
    text = "".join(json.dumps(refusal, ensure_ascii=False) + "\n" for refusal in refusals)
    storage.put(f"{batch.folder}refusals/{batch.line:08}.jsonl", text.encode("utf-8", "replace"), "application/jsonl")


def refusals_of(storage: Storage, batch: Batch) -> Iterator[dict[str, Any]]:
    """All entries by line. A worker that lost its claim may have written some twice; they come once."""
    last = 0
    for key in sorted(storage.keys(f"{batch.folder}refusals/")):
        for text in storage.get(key).splitlines():
            refusal: dict[str, Any] = json.loads(text)
            if refusal["error"]["line"] > last:
                last = refusal["error"]["line"]
                yield refusal
