"""docs/api.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from shared.errors import ERRORS, FAILURES

TEXT = Path(__file__).parents[3].joinpath("docs/api.md").read_text()


def rows(header: str) -> set[str]:
    """The rows of the table under this header."""
    table = TEXT.partition(f"\n{header}\n")[2].splitlines()[1:]
    return set(table[: next(at for at, line in enumerate(table) if not line.startswith("|"))])


def test_every_error_code_is_told() -> None:
    told = {f"| `{code}` | {kind.status} | {kind.title} |" for code, kind in ERRORS.items()}
    assert rows("| code | status | title |") == told


def test_every_reason_of_a_failed_job_is_told() -> None:
    told = {f"| `{code}` | {'yes' if kind.retriable else 'no'} | {kind.meaning} |" for code, kind in FAILURES.items()}
    assert rows("| code | tried again | meaning |") == told


def test_every_route_of_the_native_api_is_told(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/v1/"):
            continue
        resource, *steps = [step for step in rule.rule.removeprefix("/v1/").split("/") if not step.startswith("<")]
        assert resource in TEXT, rule.rule
        assert all(step in TEXT for step in steps), rule.rule
