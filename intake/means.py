"""What it takes to judge a request: the catalog, the pictures we have, and the way to those we have not."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from marshmallow.experimental.context import Context
from redis import Redis

from shared import egress
from shared.catalog import Catalog, load_catalog
from shared.images import Images
from shared.settings import Settings
from shared.storage import Storage
from shared.unclaimed import Unclaimed

#: How long the server of an input image may take to answer.
_FETCH_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    settings: Settings
    catalog: Catalog
    images: Images
    storage: Storage
    unclaimed: Unclaimed
    #: Networks beside the public ones that users may name addresses in, and the client for these addresses.
    egress_allow: egress.Networks
    egress: httpx.Client


def build_means(settings: Settings, redis: Redis, storage: Storage) -> Means:
    """The means of a process that is no front door."""
    allow = egress.allowed_networks(settings)
    return Means(
        settings=settings,
        catalog=load_catalog(settings.catalog_path),
        images=Images(redis),
        storage=storage,
        unclaimed=Unclaimed(redis),
        egress_allow=allow,
        egress=egress.client(allow, _FETCH_TIMEOUT_S),
    )


class Judging(Context[Means]):
    """While `with Judging(means):` lasts, schemas judge by these means."""
