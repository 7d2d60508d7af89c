"""Who is served when: the bound on unfairness, and what it means for those who wait.

The bound. Let W_f(t1, t2) be the predicted cost of the jobs of flow f claimed in an interval, and w_f its weight. For
any two flows f and g of one model that have jobs waiting all through the interval,

    |W_f / w_f - W_g / w_g|  ≤  (l_f + B) / w_f  +  (l_g + B) / w_g

where l is the largest cost of one job of the flow, and B that of a full batch: the most images a claim takes, times
the largest cost of an image. Where all the flows share one lane, and each next job fits into the batch, B drops out:
what is left is the bound of start-time fair queueing, l_f / w_f + l_g / w_g.

Why. While f waits, its tag T_f grows by exactly cost over weight with each of its jobs, so W_f/w_f - W_g/w_g is the
change of T_f - T_g over the interval, and it is enough that T_f - T_g ≤ (l_f + B) / w_f at all times, for any pair.

- f leads a batch: its tag was the least, so T_f ≤ T_g + l_f / w_f afterwards.
- f rides along while g could as well, for g has a job in this lane that fits: the least tag rides, as before.
- f rides along while g cannot, having nothing in this lane, nothing more, or a job that does not fit: then T_g is not
  below the horizon of this claim, and f rides only while T_f < horizon + B / w_f; so T_f < T_g + (B + l_f) / w_f.
- g begins to wait, at max(v, its own last finish) ≥ v, the virtual time. After each claim v is the least tag that
  waits, so by the above no tag, nor the finish of any flow that waits no more, is further beyond v than (B + l)/w.
  Where nobody waits any more, v moves on to the largest finish, and nothing is carried over.

What a cancelled job would have cost was never charged, a job that is claimed again is charged again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from shared.accounts import Accounts
from shared.jobs import PRIORITY_WEIGHTS, Lease, NewJob, Priority
from shared.scheduler import Scheduler
from tests.scheduling import EFFORT, MODEL, new_job, new_scheduler

Flow = tuple[str, Priority]

#: Seconds an image costs, by lane.
LANE_COSTS = {1: 1.0, 2: 0.3, 3: 7.7}
MOST_IMAGES = 3
WEIGHTS = {"fritz": 1.0, "gerda": 3.0, "hanna": 0.5}
#: Flows whose jobs never run out.
BACKLOGGED: list[Flow] = [
    ("fritz", Priority.NORMAL),
    ("fritz", Priority.LOW),
    ("gerda", Priority.NORMAL),
    ("hanna", Priority.HIGH),
]

property_based = settings(
    max_examples=40 * EFFORT,
    deadline=None,
    derandomize=EFFORT == 1,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def redis(valkey: Redis) -> Redis:
    """A real one alone: hundreds of claims in a row take fakeredis ten times as long."""
    return valkey


@pytest.fixture
def scheduler(redis: Redis) -> Scheduler:
    return new_scheduler(redis)


def claim(scheduler: Scheduler, limit: int = 8) -> list[Lease]:
    return scheduler.claim(MODEL, "w", max_images=limit).leases


def claimed_accounts(scheduler: Scheduler, *, claims: int, limit: int = 8) -> list[str]:
    return [lease.account for _ in range(claims) for lease in claim(scheduler, limit)]


def add(scheduler: Scheduler, account: str, count: int, **shape: Any) -> list[NewJob]:
    jobs = [new_job(account, **shape) for _ in range(count)]
    scheduler.enqueue(account, jobs)
    return jobs


def in_lane(lane: int, **shape: Any) -> dict[str, Any]:
    return {"lane": lane, "image_cost": LANE_COSTS[lane], **shape}


def weigh(redis: Redis, weights: dict[str, float]) -> None:
    accounts = Accounts(redis)
    for account, weight in weights.items():
        accounts.create_key(account)
        accounts.set_weight(account, weight)


# ── The bound ──


def serve(
    redis: Redis, limits: Sequence[int], shape: Callable[[], dict[str, Any]], passers_by: Callable[[], list[str]]
) -> list[dict[Flow, float]]:
    """Claim with these limits, BACKLOGGED never running dry; the cost claimed of each flow, after every claim."""
    redis.flushall()
    weigh(redis, WEIGHTS)
    scheduler = new_scheduler(redis)
    made: dict[str, NewJob] = {}
    waiting: Counter[Flow] = Counter()
    cost: dict[Flow, float] = defaultdict(float)
    history = [dict(cost)]
    for limit in limits:
        for account, priority in BACKLOGGED:
            # More jobs than one claim can take, so that they wait all the time.
            for _ in range(limit + 1 - waiting[account, priority]):
                (job,) = add(scheduler, account, 1, priority=priority, **shape())
                made[job.id] = job
                waiting[account, priority] += 1
        for account in passers_by():
            (job,) = add(scheduler, account, 1, **shape())
            made[job.id] = job
        for lease in claim(scheduler, limit):
            flow = (lease.account, made[lease.id].priority)
            waiting[flow] -= 1
            cost[flow] += lease.cost
        history.append(dict(cost))
    return history


def assert_bounded(history: Sequence[dict[Flow, float]], *, job: float, batch: float) -> None:
    for f, g in combinations(BACKLOGGED, 2):
        ahead = [cost.get(f, 0) / weight(f) - cost.get(g, 0) / weight(g) for cost in history]
        # The widest of all intervals is that between the extremes.
        assert max(ahead) - min(ahead) <= (job + batch) * (1 / weight(f) + 1 / weight(g)) + 1e-6, (f, g)


def weight(flow: Flow) -> float:
    account, priority = flow
    return WEIGHTS[account] * PRIORITY_WEIGHTS[priority]


@property_based
@given(claims=st.integers(10, 30), limit=st.integers(1, 8), random=st.randoms(use_true_random=False))
def test_no_flow_gets_ahead_of_another_by_more_than_the_bound(
    redis: Redis, claims: int, limit: int, random: Random
) -> None:
    lanes = random.sample(sorted(LANE_COSTS), random.randint(1, 3))
    history = serve(
        redis,
        [random.randint(1, limit) for _ in range(claims)],
        lambda: in_lane(random.choice(lanes), n=random.randint(1, MOST_IMAGES)),
        lambda: [random.choice(["ida", "jan", "kim"]) for _ in range(random.randint(0, 2))],
    )
    image = max(LANE_COSTS[lane] for lane in lanes)
    assert_bounded(history, job=MOST_IMAGES * image, batch=limit * image)


@property_based
@given(claims=st.integers(10, 30), limit=st.integers(1, 8), random=st.randoms(use_true_random=False))
def test_in_one_lane_the_bound_is_that_of_start_time_fair_queueing(
    redis: Redis, claims: int, limit: int, random: Random
) -> None:
    history = serve(redis, [limit] * claims, lambda: in_lane(2), lambda: random.choice([[], ["ida"]]))
    assert_bounded(history, job=LANE_COSTS[2], batch=0)


def lead_from_outside(scheduler: Scheduler, claims: int, **shape: Any) -> Iterator[int]:
    """Before each claim, another newcomer with one job, whose name comes first among equal tags: it leads."""
    for number in range(claims):
        add(scheduler, f"a-newcomer-{number:02}", 1, **shape)
        yield number


def test_riders_keep_nobody_in_another_lane_waiting(redis: Redis, scheduler: Scheduler) -> None:
    weigh(redis, {"rider": 2.0})
    add(scheduler, "rider", 300, lane=1)
    add(scheduler, "waiting", 300, lane=2)
    got = Counter[str]()
    for _ in lead_from_outside(scheduler, 12, lane=1):
        got.update(claimed_accounts(scheduler, claims=1))
    assert got["waiting"] == 0, "the newcomers lead, and they are of the rider's lane"
    assert got["rider"] <= 1 + 8


def test_riders_keep_nobody_waiting_who_has_no_more_in_their_lane(scheduler: Scheduler) -> None:
    add(scheduler, "rider", 300, lane=1)
    add(scheduler, "waiting", 1, lane=2)
    got = Counter[str]()
    for _ in lead_from_outside(scheduler, 12, lane=1):
        add(scheduler, "waiting", 1, lane=1)
        got.update(claimed_accounts(scheduler, claims=1))
    assert got["rider"] - got["waiting"] <= 1 + 8


def test_riders_keep_nobody_waiting_whose_job_is_too_large_for_the_batch(scheduler: Scheduler) -> None:
    add(scheduler, "rider", 300)
    add(scheduler, "waiting", 300, n=8)
    got = Counter[str]()
    for _ in lead_from_outside(scheduler, 12):
        got.update(claimed_accounts(scheduler, claims=1))
    assert got["waiting"] == 0
    assert got["rider"] <= 1 + 8


def test_the_least_tag_rides_although_the_lane_remembers_older_ones(scheduler: Scheduler) -> None:
    # More flows than are looked at have lower tags in the shared lane than they really have: they were served in lanes
    # of their own since.
    for number in range(20):
        add(scheduler, f"served-{number:02}", 8, lane=100 + number)
        add(scheduler, f"served-{number:02}", 8, lane=1)
    add(scheduler, "waiting", 8, lane=1)
    assert "waiting" not in claimed_accounts(scheduler, claims=20)
    for _ in lead_from_outside(scheduler, 1, lane=1):
        assert claimed_accounts(scheduler, claims=1)[1:] == ["waiting"] * 7


def test_coming_back_again_and_again_gives_no_more_than_staying(scheduler: Scheduler) -> None:
    add(scheduler, "staying", 300, lane=1)
    got = Counter[str]()
    for _ in range(20):
        add(scheduler, "coming", 8 - got["coming"] % 8, lane=2)
        got.update(claimed_accounts(scheduler, claims=1))
    assert abs(got["coming"] - got["staying"]) <= 2 * (1 + 8)


# ── What it means for those who wait ──


def test_a_single_job_does_not_wait_for_ten_thousand_of_another_account(scheduler: Scheduler) -> None:
    add(scheduler, "bulk", 10_000)
    assert set(claimed_accounts(scheduler, claims=3)) == {"bulk"}
    add(scheduler, "single", 1)
    assert "single" in claimed_accounts(scheduler, claims=2)


def test_a_single_job_of_another_lane_does_not_wait_for_ten_thousand(scheduler: Scheduler) -> None:
    add(scheduler, "bulk", 10_000)
    claimed_accounts(scheduler, claims=3)
    add(scheduler, "single", 1, lane=9)
    assert "single" in claimed_accounts(scheduler, claims=2)


@pytest.mark.parametrize("lane_of_second", [4, 9], ids=["same-lane", "other-lane"])
def test_two_accounts_alternate_although_one_came_first_in_bulk(scheduler: Scheduler, lane_of_second: int) -> None:
    add(scheduler, "first", 100, lane=4)
    add(scheduler, "second", 100, lane=lane_of_second)
    got = claimed_accounts(scheduler, claims=8)
    assert len(got) == 64
    for served in range(0, 64, 16):
        assert Counter(got[served : served + 16]) == {"first": 8, "second": 8}


def test_priorities_weigh_four_to_one_to_a_quarter(scheduler: Scheduler) -> None:
    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
        add(scheduler, priority, 200, priority=priority)
    assert Counter(claimed_accounts(scheduler, claims=21)) == {"high": 128, "normal": 32, "low": 8}


def test_accounts_share_by_their_weights(redis: Redis, scheduler: Scheduler) -> None:
    weigh(redis, {"thrice": 3.0, "once": 1.0})
    for account in ("once", "thrice"):
        add(scheduler, account, 200)
    assert Counter(claimed_accounts(scheduler, claims=10)) == {"thrice": 60, "once": 20}


def test_what_is_cancelled_is_not_held_against_its_account(scheduler: Scheduler) -> None:
    add(scheduler, "steady", 1000, lane=1)
    called_off = add(scheduler, "fickle", 1000, lane=2)
    claimed_accounts(scheduler, claims=4)
    for job in called_off:
        scheduler.cancel(job.id, "fickle")
    claimed_accounts(scheduler, claims=1)
    add(scheduler, "fickle", 1, lane=2)
    add(scheduler, "newcomer", 1, lane=3)
    got = claimed_accounts(scheduler, claims=4)
    # The newcomer is served at once. The other one had a batch more than its share, at most, and no more is asked.
    assert {"fickle", "newcomer"} < set(got)


def test_an_account_that_was_idle_has_saved_nothing_up(scheduler: Scheduler) -> None:
    add(scheduler, "busy", 1000)
    add(scheduler, "idle", 8)
    claimed_accounts(scheduler, claims=50)
    add(scheduler, "idle", 500)
    got = Counter(claimed_accounts(scheduler, claims=10))
    assert abs(got["idle"] - got["busy"]) <= 2


def test_filling_places_that_nobody_wants_is_not_held_against_an_account(scheduler: Scheduler) -> None:
    # One job at a time of another account leads each batch; the bulk rides along, for nobody else waits.
    add(scheduler, "bulk", 1000, lane=1)
    for _ in range(50):
        add(scheduler, "interactive", 1, lane=1)
        claim(scheduler)
    add(scheduler, "newcomer", 500, lane=2)
    got = Counter(claimed_accounts(scheduler, claims=10))
    assert abs(got["newcomer"] - got["bulk"]) <= 2 * (1 + 8)


def test_an_empty_queue_settles_all_scores(scheduler: Scheduler) -> None:
    add(scheduler, "early", 8)
    claim(scheduler)
    add(scheduler, "early", 80)
    add(scheduler, "late", 80)
    assert Counter(claimed_accounts(scheduler, claims=4)) == {"early": 16, "late": 16}


def test_riding_along_fills_the_batch_when_nobody_else_waits(scheduler: Scheduler) -> None:
    for account in ("a", "b", "c"):
        add(scheduler, account, 40)
    for _ in range(15):
        assert len(claim(scheduler)) == 8


def test_batches_are_full_although_every_account_has_its_own_lane(scheduler: Scheduler) -> None:
    for lane, account in enumerate(("a", "b", "c"), start=1):
        add(scheduler, account, 40, lane=lane)
    for _ in range(15):
        assert len(claim(scheduler)) == 8


def test_within_an_account_the_oldest_job_leads(scheduler: Scheduler) -> None:
    jobs = [job for lane in (1, 2, 3) for job in add(scheduler, "alice", 2, lane=lane)]
    order = [lease.id for _ in range(3) for lease in claim(scheduler)]
    assert order == [job.id for job in jobs]


def test_a_returned_job_is_the_first_again(scheduler: Scheduler) -> None:
    first, *_ = add(scheduler, "alice", 20)
    (lease, *_) = claim(scheduler, 4)
    assert lease.id == first.id
    scheduler.release(lease)
    assert claim(scheduler, 1)[0].id == first.id


def test_tags_advance_after_years_of_service(redis: Redis, scheduler: Scheduler) -> None:
    # Ten billion seconds of device time are three centuries; the least cost still counts then.
    redis.hset(f"rm:model:{MODEL}", "virtual_time", "1e10")
    for account in ("first", "second"):
        add(scheduler, account, 100, image_cost=1e-5)
    assert Counter(claimed_accounts(scheduler, claims=4)) == {"first": 16, "second": 16}
