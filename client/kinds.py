"""What an id is the id of: its beginning says so."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing: where the API has it, and the command that lists the ids."""

    noun: str
    path: str
    listed_by: str = ""

    def url(self, id_: str) -> str:
        """Where the thing is."""
        return f"{self.path}/{id_}"


JOB = Kind("job", "/v1/jobs", "rendermill jobs")
BATCH = Kind("batch", "/v1/batches", "rendermill batches")
IMAGE = Kind("image", "/v1/images")
FILE = Kind("file", "/v1/files", "rendermill files")
ENDPOINT = Kind("endpoint", "/v1/webhooks", "rendermill webhooks")
DELIVERY = Kind("delivery", "/v1/webhooks/deliveries", "rendermill webhooks deliveries")

KINDS = {"job": JOB, "batch": BATCH, "image": IMAGE, "file": FILE, "ep": ENDPOINT, "msg": DELIVERY}
_ID = re.compile(rf"({'|'.join(KINDS)})_\w+", re.ASCII)


def kind_of(id_: str) -> Kind | None:
    """The kind of thing that has this id; None for what is no id."""
    match = _ID.fullmatch(id_)
    return KINDS[match[1]] if match else None


def kind_named_in(text: str) -> Kind | None:
    """The kind of the first id in a text; None where there is none."""
    match = _ID.search(text)
    return KINDS[match[1]] if match else None
