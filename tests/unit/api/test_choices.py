"""What a job chooses of what its model offers: schedulers and adapters."""

from __future__ import annotations

from tests.unit.api.conftest import Post
from tests.unit.api.test_bad_input import problem


def test_a_job_tells_the_scheduler_and_the_adapters_in_force(submit: Post) -> None:
    chosen = submit(model="sdxl-base", scheduler="lcm", loras=[{"id": "lcm-lora-sdxl"}]).json
    assert chosen["input"]["scheduler"] == "lcm"
    assert chosen["input"]["loras"] == [{"id": "lcm-lora-sdxl", "scale": 1.0}]
    assert chosen["provenance"] is None
    default = submit(model="sdxl-base").json["input"]
    assert default["scheduler"] == "euler"
    assert "loras" not in default


def test_a_wrong_adapter_is_named_by_its_place(submit: Post) -> None:
    loras = [{"id": "lcm-lora-sdxl", "scale": 9}, {"scale": 1}, {"id": "lcm-lora-sdxl", "scael": 1}, "lcm-lora-sdxl"]
    answer = problem(submit(model="sdxl-base", loras=loras), 422, "invalid")
    assert set(answer["errors"]) == {"loras.0.scale", "loras.1.id", "loras.2.scael", "loras.3"}
    assert "did you mean scale?" in answer["errors"]["loras.2.scael"][0]


def test_an_unknown_adapter_is_told_which_there_are(submit: Post) -> None:
    answer = problem(submit(model="sdxl-base", loras=[{"id": "lcm"}]), 422, "invalid")
    assert "there are lcm-lora-sdxl" in answer["errors"]["loras"][0]
