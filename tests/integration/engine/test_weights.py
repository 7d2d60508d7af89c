"""The weights of a network, moved to host memory and back, and read straight to their device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from worker.engine import memory, weights
from worker.engine.memory import budget, device_memory, host_memory
from worker.engine.safetensors_files import count_values, files_of, fill
from worker.engine.weights import Weights

CPU = torch.device("cpu")


class Network(nn.Module):
    """Two layers that share their weights, one whose values lie channels last, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(100, 100)
        self.second = nn.Linear(100, 100, bias=False)
        self.second.weight = self.first.weight
        self.conv = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        self.register_buffer("table", torch.arange(7))


def values(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in (*network.parameters(), *network.buffers())]


@pytest.mark.parametrize("chunk", [2**30, 2**15])
def test_a_network_is_what_it_was_wherever_its_weights_lie(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_CHUNK", chunk)
    network = Network()
    parameters, before = list(network.parameters()), values(network)
    places = {tensor.data_ptr() for tensor in parameters}
    held = Weights(network, CPU)
    for _ in range(2):
        held.to_host()
        assert not held.on_device
        assert not places & {tensor.data_ptr() for tensor in parameters}
        held.to_device()
        assert held.on_device
        assert all(one is other for one, other in zip(parameters, network.parameters(), strict=True))
        assert network.first.weight is network.second.weight
        assert network.conv.weight.is_contiguous(memory_format=torch.channels_last)
        assert all(torch.equal(one, other) for one, other in zip(before, values(network), strict=True))


def test_tensors_are_packed_so_that_the_powers_of_two_of_pinned_memory_cost_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "_CHUNK", 2**16)
    # Each would take 4096 bytes by itself; 27 of them fit into a chunk.
    network = nn.ParameterList([nn.Parameter(torch.zeros(600)) for _ in range(100)])
    held = Weights(network, CPU)
    assert held.nbytes == 240_000
    assert held.host_nbytes <= 3 * 2**16 + 2**16
    held.to_host()
    assert held.host_nbytes == sum(chunk.nbytes for chunk in held._chunks)


def test_where_memory_runs_out_on_the_way_the_weights_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    before = values(network)
    held = Weights(network, CPU)

    def full(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as host:
        host.setattr(torch, "empty", full)
        with pytest.raises(torch.OutOfMemoryError):
            held.to_host()
    assert held.on_device
    held.to_host()
    with monkeypatch.context() as device:
        device.setattr(torch, "empty_like", full)
        with pytest.raises(torch.OutOfMemoryError):
            held.to_device()
    assert not held.on_device
    held.to_device()
    assert all(torch.equal(one, other) for one, other in zip(before, values(network), strict=True))


def test_weights_are_read_from_a_file_in_the_dtype_that_is_wanted(tmp_path: Path) -> None:
    weights_of = nn.Linear(8, 4).state_dict()
    save_file(weights_of, tmp_path / "model.safetensors")
    save_file(weights_of, tmp_path / "model.fp16.safetensors")
    (file,) = files_of(tmp_path)
    assert count_values(file) == 8 * 4 + 4
    with torch.device("meta"):
        network = nn.Linear(8, 4)
    fill(network, file, CPU, torch.bfloat16)
    assert network.weight.dtype is torch.bfloat16
    assert torch.equal(network.weight, weights_of["weight"].bfloat16())
    assert files_of(tmp_path / "nowhere") == []


def test_a_budget_is_a_share_or_bytes() -> None:
    assert budget(0.5, 1000) == 500
    assert budget(1, 1000) == 1000
    assert budget(0, 1000) == 0
    assert budget(3e9, 1000) == 3_000_000_000


def test_the_memory_of_a_container_is_what_it_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_LIMITS", (limit, tmp_path / "of the older kind"))
    machine = host_memory()
    limit.write_text("max\n")
    assert host_memory() == machine
    limit.write_text("1000000\n")
    assert host_memory() == device_memory(CPU) == 1_000_000
