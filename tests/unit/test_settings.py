from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from shared.settings import PREFIX, Settings, read_settings, split_list

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def rows() -> list[str]:
    """A row of the page for each setting."""
    return [
        f"| `{PREFIX}{setting.name.upper()}` | {_default(setting.default)} | {setting.metadata['doc']} |"
        for setting in fields(Settings)
    ]


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{int(value)}`"
    return f"`{value}`" if value != "" else ""


def test_the_page_has_a_row_for_every_setting_and_no_other() -> None:
    table = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{PREFIX}")]
    assert table == rows(), "docs/settings.md should hold these rows:\n" + "\n".join(rows())


def test_values_are_read_by_the_type_of_their_default() -> None:
    settings = read_settings(
        {"RENDERMILL_LEASE_S": "12.5", "RENDERMILL_MAX_ATTEMPTS": "5", "RENDERMILL_MODELS_OFFLINE": "yes", "HOME": "/"}
    )
    assert (settings.lease_s, settings.max_attempts, settings.models_offline) == (12.5, 5, True)


def test_what_is_not_set_has_its_default() -> None:
    assert read_settings({}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("RENDERMILL_MAX_ATTEMPTS", "many"),
        ("RENDERMILL_MODELS_OFFLINE", "perhaps"),
        ("RENDERMILL_LEESE_S", "30"),
        ("RENDERMILL_LEASE_S", "0"),
        ("RENDERMILL_WATCHDOG_S", "1"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(variable: str, text: str) -> None:
    with pytest.raises(ValueError, match=variable):
        read_settings({variable: text})


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("RENDERMILL_MAX_ATTEMPTS", "a whole number"),
        ("RENDERMILL_LEASE_S", "a number"),
        ("RENDERMILL_MODELS_OFFLINE", "1 or 0"),
    ],
)
def test_a_setting_that_cannot_be_read_is_told_what_is_expected(variable: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{variable}='many': expected {expected}$"):
        read_settings({variable: "many"})


def test_lists_are_split_at_commas_without_blanks() -> None:
    assert split_list(" a, b,,c ") == ("a", "b", "c")


def test_webhook_retries_follow_the_standard_schedule() -> None:
    retries = Settings().webhook_retries
    assert retries[0] == 5
    assert 75 * 3600 < sum(retries) < 76 * 3600
