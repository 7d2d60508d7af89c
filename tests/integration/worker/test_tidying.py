"""Retention on a real Valkey and S3."""

from __future__ import annotations

import pytest

from shared.deliveries import Deliveries
from shared.errors import RendermillError
from shared.outputs import output_key, output_prefix
from shared.records import Records
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage import Storage
from tests.scheduling import MODEL, new_job, new_scheduler
from worker.litter import Litter
from worker.tidying import Tidier


def test_litter_and_what_is_past_its_retention_leave_redis_and_s3(valkey_url: str, s3: Settings) -> None:
    storage = Storage(s3)
    storage.ensure_bucket()
    with connect(valkey_url) as redis:
        redis.flushall()
        scheduler = new_scheduler(redis)
        jobs = {name: new_job() for name in ("old", "littered", "young")}
        for job in jobs.values():
            scheduler.enqueue("alice", [job])
        for lease in scheduler.claim(MODEL, "worker-1", max_images=8).leases:
            record = {
                "account": "alice",
                "name": "fox",
                "key": output_key(lease.id, 1, 0, "jpeg"),
                "width": 8,
                "height": 8,
                "format": "jpeg",
                "size": 1,
                "created_at": 1.0,
            }
            id_ = "image_of_" + lease.id
            scheduler.complete(lease, images={id_: record}, result={"images": [id_]}, render_s=None)
            for attempt in (1, 2):
                storage.put(output_key(lease.id, attempt, 0, "jpeg"), b"x", "image/jpeg")
            storage.put(f"inputs/{lease.id}/image.png", b"x", "image/png")
        redis.zadd("rm:retained", {jobs["old"].id: 0}, xx=True)
        Litter(redis).note(jobs["littered"].id)
        Tidier(redis, deliveries=Deliveries(redis), storage=storage, retention_s=60).tidy()

        assert storage.keys(output_prefix(jobs["old"].id)) == storage.keys(f"inputs/{jobs['old'].id}/") == []
        assert storage.keys(output_prefix(jobs["littered"].id)) == [output_key(jobs["littered"].id, 1, 0, "jpeg")]
        assert len(storage.keys(output_prefix(jobs["young"].id))) == 2
        with pytest.raises(RendermillError, match="past its retention"):
            Records(redis).get(jobs["old"].id, "alice")
        assert Records(redis).get(jobs["young"].id, "alice").images
