"""Batches in a real upkeep worker."""

from __future__ import annotations

from pathlib import Path

from shared.accounts import Accounts
from shared.batches import Batches, job_id
from shared.catalog import load_catalog
from shared.limits import AccountLimits
from shared.requests import resolve
from shared.settings import Settings
from tests.worker_farm import MODEL, batch_line, worker_farm

LINES = 4
#: Lines that are accepted before a limit stands against the next.
ACCEPTED = 2


def test_a_batch_that_waits_for_room_or_credits_goes_on_by_itself(
    tmp_path: Path, valkey_url: str, s3: Settings
) -> None:
    catalog = tmp_path / "catalog.toml"
    listed = Settings().catalog_path.read_text()
    catalog.write_text(listed.replace(f'id = "{MODEL}"', f'id = "{MODEL}"\nprice = 1'))
    model = load_catalog(catalog).models[MODEL]
    price = resolve(load_catalog(catalog), {"model": MODEL, "prompt": "a fox", "width": 256, "height": 256})[0].price(
        model
    )
    with worker_farm(tmp_path, valkey_url, s3, tmp_path) as farm:
        farm.redis.flushall()
        batches, limits = Batches(farm.redis), AccountLimits(farm.redis)
        for account in ("full", "poor"):
            Accounts(farm.redis).create_key(account)
        limits.set_max_queued("full", ACCEPTED)
        limits.set_balance("poor", ACCEPTED * price)
        full, poor = (farm.hand_in(map(batch_line, range(LINES)), account) for account in ("full", "poor"))

        def accepted(batch_id: str) -> int:
            return batches.get(batch_id).open

        farm.start("upkeep", {"CATALOG": str(catalog)})
        farm.wait_until(lambda: farm.log("upkeep").count("waits:") >= 4, "the batches have been looked at again")
        assert (accepted(full), accepted(poor)) == (ACCEPTED, ACCEPTED)
        assert [(batches.get(id_).view()["held_up"] or {}).get("code") for id_ in (full, poor)] == [
            "queue_full_account",
            "insufficient_credits",
        ]

        for line in range(1, ACCEPTED + 1):
            farm.scheduler.cancel(job_id(full, line), "full")
        limits.top_up("poor", (LINES - ACCEPTED) * price)
        farm.wait_until(lambda: all(batches.get(id_).ingested for id_ in (full, poor)), "both batches are ingested")
        assert (accepted(full), accepted(poor)) == (LINES - ACCEPTED, LINES)
        assert limits.balance("poor").available == 0
        assert all(batches.get(id_).view()["held_up"] is None for id_ in (full, poor))
