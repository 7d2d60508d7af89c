"""How errors speak: of what may have been meant, of numbers, and of several wrong fields at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice

#: As many wrong fields are told in one sentence; the rest is in a member of its own.
_TOLD = 3


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, in whatever case, or None where none is like it."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = get_close_matches(name.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def plain(number: float) -> str:
    """A number as people write it: 2592000, not 2.592e+06."""
    return f"{number:.15g}"


def in_a_sentence(errors: Mapping[str, list[str]]) -> str:
    """What is wrong with the first few fields, and how many more there are."""
    told = [f"{name}: {', '.join(word.rstrip('.') for word in words)}" for name, words in errors.items()]
    more = [f"and {len(told) - _TOLD} more fields, see 'errors'"] if len(told) > _TOLD else []
    return "; ".join([*islice(told, _TOLD), *more]) + "."
