"""What is read of a profile of parameters: the table, blocks, the head of a run, exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats import FmstatsError, Profile
from fmstats.profiles.summary import describe_metadata


def train(frozen: int = 0, **options: object) -> Profile:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), nn.Linear(3, 2, bias=False)
    )
    model[0][frozen].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with fmstats.track_parameters(model, optimizer, every=2, **options) as tracker:
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
    return tracker.stats()


def test_the_table_has_a_line_for_each_parameter() -> None:
    profile = train()
    table = profile.parameter_table()
    assert [row["parameter"] for row in table.rows] == [
        *("0.0.weight", "0.0.bias", "0.2.weight", "0.2.bias", "1.weight"),
    ]
    ratios = profile.update_ratios()
    for row in table.rows:
        name = row["parameter"]
        assert row["channels"] == profile[name].channels
        assert row["update_ratio"] == ratios[name]
        assert row["weight_std"] == profile[name].pooled().std[0]
        assert row["update_rms"] == profile[f"{name}/update"].pooled().rms[0]
        assert row["nonfinite"] == 0
    frozen, *_, last = table.rows
    assert (frozen["gradient_rms"], frozen["update_ratio"]) == (None, 0)
    assert last["gradient_rms"] == profile["1.weight/gradient"].pooled().rms[0]
    assert str(table).splitlines()[0].split("  ")[0] == "parameter"
    assert len(str(table).splitlines()) == 6


def test_the_table_of_what_was_measured() -> None:
    for row in train(of="gradient").parameter_table().rows:
        assert row["gradient_rms"] > 0
        assert row["weight_std"] is row["update_rms"] is row["update_ratio"] is None
    with pytest.raises(FmstatsError, match=r"this one is of layers: see layers\(\)"):
        fmstats.profile(nn.Linear(2, 2), torch.randn(4, 2), progress=False).parameter_table()


def test_a_table_counts_what_is_not_finite() -> None:
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    model.weight.grad = torch.tensor([[torch.inf, 0.0], [-torch.inf, torch.nan]])
    tracker = fmstats.track_parameters(model)
    tracker.measure()
    assert tracker.stats().parameter_table().rows[0]["nonfinite"] == 4


def test_blocks_keep_weights_gradients_and_updates_apart() -> None:
    profile = train()
    pooled = profile.pooled(1)
    assert list(pooled) == ["0", "0/update", "0/gradient", "1", "1/gradient", "1/update"]
    assert {name: row.type for name, row in pooled.info.items()} == {
        **{"0": "parameter", "0/update": "update", "0/gradient": "gradient"},
        **{"1": "parameter", "1/gradient": "gradient", "1/update": "update"},
    }
    assert pooled["0"].channels == 6 + 6 + 3 + 3
    assert pooled["0/gradient"].channels == 3 + 3
    np.testing.assert_array_equal(pooled["1/update"].mean, profile["1.weight/update"].mean)
    assert set(pooled.update_ratios()) == {"0", "1"}
    assert profile.pooled(2).info["0.0"].type == "frozen parameter"
    assert train(frozen=2).pooled(1).info["0/update"].type == "update"


def test_the_head_tells_the_steps() -> None:
    assert describe_metadata(train()).splitlines()[0] == "steps: 5, steps measured: 3"


def test_it_goes_where_other_profiles_go(tmp_path: Path) -> None:
    profile = train()
    profile.save(tmp_path / "run.fmstats")
    loaded = fmstats.load(tmp_path / "run.fmstats")
    assert loaded.update_ratios() == profile.update_ratios()
    assert loaded.parameter_table().rows == profile.parameter_table().rows
    profile.report(tmp_path / "run.html")
    assert "0.2.weight/gradient" in (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "1.weight/update.std" in profile.scalars()
    both = profile | loaded
    assert both.update_ratios() == pytest.approx(profile.update_ratios(), rel=1e-12)
