"""Which model gives way."""

from __future__ import annotations

from worker.engine.eviction import Candidate, first_to_go

GB = 2**30


def candidate(model_id: str, idle: int, frees: int = 5 * GB, *, kept: bool = True) -> Candidate:
    return Candidate(model_id, idle, frees, kept)


def test_of_equals_the_longest_unused_gives_way() -> None:
    assert first_to_go([candidate("a", 2), candidate("b", 3), candidate("c", 1)]).model_id == "b"


def test_size_alone_makes_no_difference_where_all_that_is_freed_is_needed() -> None:
    small, large = candidate("small", 3, 2 * GB), candidate("large", 2, 24 * GB)
    assert first_to_go([small, large], 30 * GB) is small
    assert first_to_go([small, large]) is small


def test_a_model_that_frees_far_more_than_is_needed_stays_unless_it_is_idle_for_far_longer() -> None:
    fitting = candidate("fitting", 2, 5 * GB)
    assert first_to_go([candidate("large", 4, 24 * GB), fitting], 4 * GB) is fitting
    assert first_to_go([candidate("large", 40, 24 * GB), fitting], 4 * GB).model_id == "large"


def test_what_would_have_to_be_read_from_disk_again_stays_before_what_the_host_keeps() -> None:
    kept = candidate("kept", 1)
    assert first_to_go([kept, candidate("dropped", 5, kept=False)]) is kept
    assert first_to_go([kept, candidate("dropped", 50, kept=False)]).model_id == "dropped"


def test_a_model_whose_leaving_frees_nothing_goes_last() -> None:
    assert first_to_go([candidate("all shared", 9, 0), candidate("own", 1)]).model_id == "own"
    # Two that share all with each other free it together.
    assert first_to_go([candidate("one", 2, 0), candidate("other", 1, 0)]).model_id == "one"
