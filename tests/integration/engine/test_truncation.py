"""Who writes a prompt that is longer than its model reads is told so, and where it ends."""

from __future__ import annotations

import ast
import random
import re
from dataclasses import replace

import pytest

from shared.models import Mode
from tests.integration.engine.rendering import BASE, CATALOG, EVERYTHING, NAMES, distance, picture, render, request
from tests.integration.engine.rendering import item as item_of
from worker.engine import Engine
from worker.engine.tiny_tokenizers import CORPUS

#: Longer than any model reads, in words that all tokenizers know.
LONG = " ".join(random.Random(1).choices(re.findall("[a-z]+", CORPUS), k=600))


def last_words(warning: str) -> str:
    """What of the prompt was read last, as the warning has it."""
    quoted = warning.partition("what follows ")[2].removesuffix(" has no effect")
    words: str = ast.literal_eval(quoted)
    return words


@pytest.mark.parametrize(("model", "mode"), EVERYTHING, ids=NAMES)
def test_what_follows_the_words_of_the_warning_has_no_effect_and_they_have(
    engine: Engine, model: str, mode: Mode
) -> None:
    asked = request(model, mode, prompt=LONG)
    rendered, (whole,) = render(engine, [item_of(asked)])
    (warning,) = rendered.warnings[asked]
    assert warning.startswith("prompt has ")
    assert f"of which {model} reads" in warning
    words = last_words(warning)
    assert LONG.count(words) == 1
    end = LONG.index(words) + len(words)
    with_them = distance(picture(engine, request(model, mode, prompt=LONG[:end])), whole)
    without = distance(picture(engine, request(model, mode, prompt=LONG[: end - 1].rpartition(" ")[0])), whole)
    assert with_them < 1e-3 < without


def test_sdxl_reads_as_much_as_its_encoders_do_whatever_the_catalog_says_of_t5(engine: Engine) -> None:
    model, asked = replace(CATALOG.models[BASE], max_prompt_tokens=5), request(BASE)
    assert engine.render(model, [item_of(asked)], lambda *_: False).warnings == {asked: []}


def test_a_job_of_a_batch_is_told_of_its_own_prompts_alone(engine: Engine) -> None:
    short, long = request(BASE), request(BASE, negative_prompt=LONG)
    rendered, _ = render(engine, [item_of(short), item_of(long, 5), item_of(long, 6)])
    assert rendered.warnings[short] == []
    (warning,) = rendered.warnings[long]
    assert warning.startswith("negative_prompt has ")


@pytest.mark.parametrize("model", [model.id for model in CATALOG.models.values() if Mode.TEXT_TO_IMAGE in model.modes])
def test_no_prompt_and_one_that_just_fits_are_not_spoken_of(engine: Engine, model: str) -> None:
    asked = request(model, prompt=LONG)
    (warning,) = render(engine, [item_of(asked)])[0].warnings[asked]
    words = last_words(warning)
    fits = request(model, prompt=LONG[: LONG.index(words) + len(words)])
    assert render(engine, [item_of(fits)])[0].warnings == {fits: []}
    empty = request(model, prompt=" ")
    assert render(engine, [item_of(empty)])[0].warnings == {empty: []}
