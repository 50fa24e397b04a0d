"""Our scales lose no more than those of torch.ao's observers, on a real network."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from fmstats.demo.packages import require
from fmstats.errors import FmstatsError

bench = importlib.import_module("bench_calibration")
networks = importlib.import_module("calibration_networks")
observers = importlib.import_module("calibration_observers")


# torch.ao says that it moves elsewhere, and that it reduces ranges.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@torch.no_grad()
def test_no_method_is_worse_than_its_observer(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        require()
    except FmstatsError as error:
        pytest.skip(str(error))
    case = networks.mobilenet_v2(18)
    few = networks.Case(case.model, [case.calibration[0][:9]], [case.held_out[0][:9]])
    rows = bench.compare("MobileNetV2", few, list(observers.OBSERVERS))
    shown = capsys.readouterr().out
    assert len(rows) == len(observers.OBSERVERS)
    assert not [row for row in rows if bench.verdict(row)], shown
    assert all(row["layers"] > 20 for row in rows), shown


def test_a_loss_beyond_the_hair_is_told() -> None:
    row = {"layers": 20.0, "ao_layers": 20.0 + 2 * bench.HAIR}
    assert bench.verdict(row) == "WORSE"
    assert bench.verdict({**row, "ao_layers": 20.0 + bench.HAIR / 2}) == ""
    assert bench.verdict({**row, "ao_layers": None}) == ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@torch.no_grad()
def test_costs_are_measured_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    data = [torch.randn(8, 3, 4, 4) for _ in range(2)]
    rows = bench.cost("small", networks.Case(model, data, data), rounds=1)
    ways = [row["way"] for row in rows]
    assert ways[:4] == ["bare", "fmstats, layer", "fmstats, channel", "fmstats, no bins"]
    assert [way.split()[0] for way in ways[4:]] == ["ao"] * 3
    assert all(row["kilobytes"] > 0 for row in rows[1:])
    found = bench.try_resolutions("small", networks.Case(model, data, data))
    assert [row["resolution"] for row in found] == list(bench.RESOLUTIONS)
    assert not any(m._forward_pre_hooks for m in model.modules())
