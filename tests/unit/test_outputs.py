"""Keys of pictures: none is another's, and those of a job are found together."""

from __future__ import annotations

from collections import Counter
from itertools import product

from shared.batches import job_id
from shared.ids import new_id
from shared.outputs import output_key, output_prefix


def test_each_picture_of_each_attempt_has_a_key_of_its_own() -> None:
    jobs = [new_id("job") for _ in range(20)]
    keys = [output_key(job, attempt, number, "png") for job, attempt, number in product(jobs, range(1, 13), range(10))]
    assert len(set(keys)) == len(keys)


def test_a_job_prefix_finds_all_its_pictures_and_nobody_elses() -> None:
    mine, other = "job_aBcDeFgHiJkLmNoPqRsTuVwX", "job_aBcDeFgHiJkLmNoPqRsTuVwY"
    keys = [output_key(mine, attempt, number, "jpeg") for attempt in (1, 11) for number in (0, 9)]
    assert all(key.startswith(output_prefix(mine)) for key in keys)
    assert not any(key.startswith(output_prefix(other)) for key in keys)


def test_the_jobs_of_a_batch_are_spread_over_the_folders() -> None:
    folders = Counter(output_prefix(job_id("batch_x", line)).split("/")[1] for line in range(1, 50_001))
    assert len(folders) == 62**2
    assert max(folders.values()) < 50
