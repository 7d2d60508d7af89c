"""docs/redis.md names every key, and jobs take no more memory than it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from redis import Redis

from shared.answers import Progress
from shared.jobs import Stage
from tests.scheduling import claim_one, complete, enqueue, new_job, new_scheduler

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "redis.md"
#: `key('job', …)` and what takes the name of a sorted set alone.
IN_LUA = re.compile(r"\b(?:key|repair_due)\('([a-z_]+)'")
#: `f"{self._prefix}job:…"`, `self._prefix + "due"`, and the same with PREFIX.
IN_PYTHON = re.compile(r"(?:prefix|PREFIX)(?:\}| \+ f?\")([a-z_]+)")
#: A key in a table's first column, or the first words of a sentence that tells of one outside the tables.
ON_PAGE = re.compile(r"^(?:\| )?`([a-z_]+)(?::<[^`]+>)?` (?:\||\(sorted set|is no key)", re.MULTILINE)


def kinds_in_code() -> dict[str, str]:
    """Kinds of key by name, with a file that uses each."""
    found = {}
    for path in sorted((ROOT / "shared" / "lua").glob("*.lua")):
        found.update(dict.fromkeys(IN_LUA.findall(path.read_text()), path.name))
    for package in ("shared", "intake", "api", "worker", "farm"):
        for path in sorted((ROOT / package).rglob("*.py")):
            found.update(dict.fromkeys(IN_PYTHON.findall(path.read_text()), str(path.relative_to(ROOT))))
    return found


def test_the_page_names_every_kind_of_key_and_no_other() -> None:
    used, named = kinds_in_code(), ON_PAGE.findall(PAGE.read_text())
    assert len(used) > 30, "the patterns find what they look for"
    assert {kind: where for kind, where in used.items() if kind not in named} == {}, "docs/redis.md does not name them"
    assert set(named) - used.keys() == set(), "docs/redis.md names what is used no more"
    assert len(named) == len(set(named))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ('redis.hget(f"{self._prefix}job:{job_id}")', "job"),
        ('redis.llen(self._prefix + "due")', "due"),
        ('redis.hget(f"{PREFIX}model:{model}")', "model"),
        ('redis.smembers(PREFIX + f"keys:{account}")', "keys"),
    ],
)
def test_a_key_is_noticed_however_it_is_written(code: str, kind: str) -> None:
    assert IN_PYTHON.findall(code) == [kind]


def used(valkey: Redis) -> int:
    """The bytes that its data takes."""
    return int(valkey.info("memory")["used_memory"])


def test_a_queued_job_takes_less_than_a_kilobyte(valkey: Redis) -> None:
    scheduler = new_scheduler(valkey)
    enqueue(scheduler)  # what all jobs share, scripts included
    before, count = used(valkey), 5000
    scheduler.enqueue("alice", [new_job(prompt="p" * 100) for _ in range(count)])
    assert (used(valkey) - before) / count < 1000


def test_a_finished_job_takes_hardly_more_than_a_queued_one(valkey: Redis) -> None:
    scheduler = new_scheduler(valkey)
    enqueue(scheduler)
    complete(scheduler, claim_one(scheduler))
    before, count = used(valkey), 500
    scheduler.enqueue("alice", [new_job(prompt="p" * 100) for _ in range(count)])
    for _ in range(count):
        lease = claim_one(scheduler)
        scheduler.renew({lease: Progress(Stage.RENDERING, 0.5)})
        complete(scheduler, lease)
    assert (used(valkey) - before) / count < 2000
