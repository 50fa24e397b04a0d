"""Networks show every step of their diagrams: its name, type, channels and numbers, in order."""

from __future__ import annotations

import copy

import pytest
import torch
import torch._dynamo as dynamo
from compat_models import assert_row, tensors_in
from diagram_recorder import recording
from diagram_table import NETWORKS, read
from torch import Tensor, nn

import fmstats

MODES = {"eval": (False,), "train": (True,), "both": (True, False)}


def run(model: nn.Module, data: list[dict[str, Tensor]], modes: tuple[bool, ...]) -> list[Tensor]:
    """Return what a model gives in these modes, with the same random numbers in each run."""
    torch.manual_seed(1)
    outputs: list[Tensor] = []
    with torch.no_grad():
        for training, inputs in zip(modes, data, strict=True):
            outputs += tensors_in(model.train(training)(**inputs))
    return outputs


@pytest.mark.parametrize("modes", MODES.values(), ids=MODES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_shows_every_step_of_its_diagram(name: str, modes: tuple[bool, ...]) -> None:
    torch.manual_seed(0)
    network, lines = NETWORKS[name], read(NETWORKS[name].diagram)
    model = network.build()
    other, data = copy.deepcopy(model), [network.inputs(3 + i) for i in range(len(modes))]
    with recording(other) as steps:
        plain = run(other, data, modes)
    with fmstats.track(model) as tracker:
        tracked = run(model, data, modes)
    assert all(map(torch.equal, plain, tracked))
    assert len(plain) == len(tracked) > 0

    # What was seen without fmstats is in the diagram: no step of the network is missing there.
    drawn = [(line.owner, line.kind) for line in lines]
    assert [(step.owner, step.kind) for step in steps] == drawn * len(modes)
    info = tracker.stats().info
    want = [(line.row, line.kind) for line in lines if line.row is not None]
    assert [(row, found.type) for row, found in info.items()] == want

    for place, line in enumerate(lines):
        if line.row is None:
            continue
        calls = steps[place :: len(lines)]
        outputs, found = [step.output for step in calls], info[line.row]
        assert {step.is_module for step in calls} == {"/" not in line.row}, line
        assert (found.calls, found.shape) == (len(modes), tuple(outputs[-1].shape)), line
        assert found.channel_dim == line.dim % outputs[-1].dim(), line
        assert_row(found.stats, outputs, found.channel_dim)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_functional_operations_a_network_shows_its_modules(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]
    model = network.build()
    with fmstats.track(model, functional=False) as tracker:
        run(model, [network.inputs(3)], (False,))
    found = [(row, info.type) for row, info in tracker.stats().info.items()]
    lines = [line for line in read(network.diagram) if line.row is not None]
    assert found == [(line.row, line.kind) for line in lines if line.owner == line.row]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_network_shows_the_same_rows(name: str) -> None:
    dynamo.reset()
    torch.manual_seed(0)
    network = NETWORKS[name]
    model = network.build().eval()
    with fmstats.track(model) as tracker, torch.no_grad():
        torch.compile(model, backend="eager")(**network.inputs(3))
    dynamo.reset()
    info = tracker.stats().info
    lines = [line for line in read(network.diagram) if line.row is not None]
    assert [(row, found.type) for row, found in info.items()] == [
        (line.row, line.kind) for line in lines
    ]
    for line, found in zip(lines, info.values(), strict=True):
        assert found.channel_dim == line.dim % len(found.shape), line
