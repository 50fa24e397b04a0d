"""What is measured on request has columns: of layers, of channels, in tables and commands."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from profile_files import layer_of, profile_of, some_profile

from fmstats.errors import FmstatsError
from fmstats.profiles.measured import MEASURED
from fmstats.profiles.octaves import count_octaves
from fmstats.profiles.profile import Profile
from fmstats.profiles.scalars import DEFAULT
from fmstats.profiles.strips import BLOCKS, PLAIN_BLOCKS, draw_strips
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures

EVERYTHING = ("abs", "kurtosis", "histogram")
Run = Callable[..., tuple[object, str, str]]


def measured(scope: str = "layer", names: Any = EVERYTHING, resolution: int = 4) -> Profile:
    torch.manual_seed(0)
    measures = Measures.of(names, Bins(scope, resolution))
    return profile_of({"a": layer_of(torch.randn(200, 4) + 0.5, measures=measures)})


@pytest.mark.parametrize("scope", ["layer", "channel"])
def test_rows_of_layers_are_of_all_channels_together(scope: str) -> None:
    torch.manual_seed(0)
    x = (torch.randn(200, 4) + 0.5).double().numpy().ravel()
    row = measured(scope).layers()[0]
    assert tuple(row)[-6:] == tuple(MEASURED) == (
        "mean_abs", "skewness", "kurtosis", "p1", "p50", "p99",
    )  # fmt: skip
    d = x - x.mean()
    assert row["mean_abs"] == pytest.approx(np.abs(x).mean())
    assert row["skewness"] == pytest.approx((d**3).mean() / (d**2).mean() ** 1.5)
    assert row["kurtosis"] == pytest.approx((d**4).mean() / (d**2).mean() ** 2)
    for name, share in (("p1", 0.01), ("p50", 0.5), ("p99", 0.99)):
        assert row[name] == pytest.approx(np.quantile(x, share), rel=2**-4)


def test_nothing_more_is_known_without_measures() -> None:
    profile = some_profile()
    assert not MEASURED.keys() & profile.layers()[0].keys()
    assert not MEASURED.keys() & profile.to_dict()["layers"]["head"].keys()
    assert not MEASURED.keys() & set(profile.to_pandas().columns)
    assert str(profile).splitlines()[0].split()[-1] == "nan+inf"
    assert str(measured()).splitlines()[0].split()[-1] == "p99"
    assert {key.rsplit(".", 1)[1] for key in profile.scalars()} <= set(DEFAULT)


@pytest.mark.parametrize("name", ["abs", "kurtosis", "histogram"])
def test_columns_are_there_where_a_layer_has_them(name: str) -> None:
    """The others have None, so that all rows have the same columns."""
    one, other = measured(names=name).info["a"], some_profile().info["head"]
    first, second = profile_of({"a": one, "b": other}).layers()
    assert list(first) == list(second)
    columns = [column for column in MEASURED if column in first]
    assert columns
    assert all(first[column] is not None and second[column] is None for column in columns)


def test_a_layer_that_saw_nothing_finite() -> None:
    x = torch.full((3, 2), torch.nan)
    layers = {
        "a": layer_of(x, measures=Measures.of(EVERYTHING)),
        "b": layer_of(torch.ones(0, 0), measures=Measures.of(EVERYTHING)),
    }
    profile = profile_of(layers)
    for row in profile.layers():
        assert all(math.isnan(row[column]) for column in MEASURED)
    assert not any(key.split(".")[1] in MEASURED for key in profile.scalars())
    json.dumps(profile.to_dict())


def test_scalars() -> None:
    profile = measured()
    flat, row = profile.scalars(), profile.layers()[0]
    assert {name: flat[f"a.{name}"] for name in MEASURED} == {n: row[n] for n in MEASURED}
    assert profile.scalars("p99") == {"a.p99": row["p99"]}
    with pytest.raises(FmstatsError, match=r"^kurtosis is not known: .*measure='kurtosis'"):
        measured(names="abs").scalars(["mean", "kurtosis"])
    with pytest.raises(FmstatsError, match=r"unknown statistic 'p98': choose .*kurtosis, p1, p50"):
        profile.scalars("p98")
    assert Profile({}, {}).scalars("p99") == {}


def test_channels_have_quantiles_where_they_have_histograms() -> None:
    frame, stats = measured("channel").to_pandas(), measured("channel")["a"]
    assert frame["p99"].tolist() == stats.quantile(0.99).tolist()
    assert frame["kurtosis"].tolist() == stats.kurtosis.tolist()
    assert "p99" not in measured("layer").to_pandas()


@pytest.mark.parametrize("scope", ["layer", "channel"])
def test_a_dict_has_the_bins_that_are_not_empty(scope: str) -> None:
    x = torch.tensor([[1.0, 0.0, 0.0, -3.0, 1e9, -1e-30, 1.06]])
    measures = Measures.of("histogram", Bins(scope, 3))
    row = profile_of({"a": layer_of(x, measures=measures)}).to_dict()["layers"]["a"]
    assert len(row["histograms"]) == len(row["p50"]) == (1 if scope == "layer" else 7)
    if scope == "layer":
        assert row["histograms"][0] == {
            "from": [-3.0, -(2.0**-24), 0.0, 1.0, 65504.0],
            "to": [-3.0, 0.0, 0.0, 1.125, float(np.float32(1e9))],
            "count": [1, 1, 2, 2, 1],
        }
        assert row["p50"] == [0.0]


@pytest.mark.parametrize("resolution", range(7))
def test_octaves(resolution: int) -> None:
    """Counted by logarithms, of numbers at and beside every edge."""
    edges = 2.0 ** torch.arange(-30, 20, dtype=torch.float64)
    x = torch.cat([edges, edges * (1 + 2**-40), edges * (1 - 2**-40), torch.zeros(5).double()])
    x = torch.cat([x, -x[::2]])[:, None]
    measures = Measures.of("histogram", Bins("layer", resolution))
    found = count_octaves({"a": layer_of(x, measures=measures).stats})["a"]
    places = np.zeros(len(x), int)
    for i, value in enumerate(x[:, 0].tolist()):
        if value:
            size = abs(value)
            place = min(max(math.floor(math.log2(size)) + 24, -1), 39) + 1
            place = 41 if size >= 65504 else place
            places[i] = (place + 1) * (1 if value > 0 else -1)
    want = np.bincount(places + 42, minlength=85)
    assert found.tolist() == want.tolist()


def test_strips_share_an_axis() -> None:
    x = torch.tensor([[-4.0], [-5.0], [0.0], [0.0], [0.0], [0.0], [1.0], [1.5], [0.3]])
    layers = {
        "wide": layer_of(x, measures=Measures.of("histogram")).stats,
        "plain": layer_of(x).stats,
        "zero": layer_of(torch.zeros(3, 2), measures=Measures.of("histogram")).stats,
    }
    table, note = draw_strips(layers)
    assert str(table).splitlines() == [
        "layer  -8   |0|    8",
        "wide   ▄    |█|▂ ▄",
        "zero        |█|",
    ]
    assert str(note).endswith("those beside |0| are of all below 0.5.")
    assert str(draw_strips(layers, PLAIN_BLOCKS)[0]).splitlines()[1] == "wide   =    |@|: ="


def test_a_strip_has_sixteen_octaves_of_a_sign_at_most() -> None:
    """What is smaller is with the smallest of them, what is beyond all octaves is told so."""
    x = 2.0 ** torch.arange(-24, 10, dtype=torch.float64)[:, None]
    table, note = draw_strips({"a": layer_of(x, measures=Measures.of("histogram")).stats})
    assert str(table).splitlines()[0] == f"layer  {'-1024':<16}|0|{'1024':>16}"
    assert str(table).splitlines()[1] == f"a      {' ' * 16}| |█{'▁' * 15}"
    assert str(note).endswith("are of all below 0.03125.")
    beyond = layer_of(torch.tensor([[1e9], [65000.0]]), measures=Measures.of("histogram")).stats
    assert str(draw_strips({"a": beyond})[0]).splitlines()[0] == "layer  -inf|0|inf"


def test_few_elements_are_drawn_as_some() -> None:
    x = torch.ones(10_000, 1)
    x[0] = 4
    table = draw_strips({"a": layer_of(x, measures=Measures.of("histogram")).stats})[0]
    assert str(table).splitlines()[1] == f"a      {' ' * 3}| |█ ▁"


def test_no_strips_without_histograms() -> None:
    with pytest.raises(FmstatsError, match=r"no layer has a histogram: measure='histogram' \(--me"):
        draw_strips(some_profile(measures=Measures.of("abs")))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    layers = {
        f"{block}.{name}": layer_of(torch.randn(50, 3) * size, measures=Measures.of(EVERYTHING))
        for block, name, size in (("a", "conv", 1), ("a", "norm", 9), ("b", "conv", 3))
    }
    profile_of(layers).save(tmp_path / "p.fmstats")
    return tmp_path / "p.fmstats"


def test_the_command_draws_the_rows_of_its_table(command_line: Run, file: Path) -> None:
    pytest.importorskip("typer", reason="needs typer")
    code, out, err = command_line("show", file, "--histograms", "--sort", "p99", "--top", "2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[3].split()[-5:] == ["skewness", "kurtosis", "p1", "p50", "p99"]
    strips = [line for line in lines if set(line) & set(BLOCKS[1:])]
    assert [line.split()[0] for line in strips] == ["a.norm", "b.conv"]
    code, out, err = command_line("show", file, "--histograms", "--layer", "a.*", "--depth", "1")
    strips = [line for line in out.splitlines() if set(line) & set(BLOCKS[1:])]
    assert [line.split()[0] for line in strips] == ["a"]
    assert not set(command_line("show", file)[1]) & set(BLOCKS[1:])


def test_the_command_has_the_columns_as_csv_and_json(command_line: Run, file: Path) -> None:
    pytest.importorskip("typer", reason="needs typer")
    head, *lines = command_line("show", file, "--csv")[1].splitlines()
    assert head.split(",")[-6:] == list(MEASURED)
    rows = json.loads(command_line("show", file, "--json")[1])["layers"]
    assert float(lines[0].split(",")[-1]) == rows[0]["p99"]
    code, _, err = command_line("show", file, "--histograms", "--json")
    assert (code, err) == (2, "error: --histograms draws beside the table: leave out --json and "
                              "--csv\n")  # fmt: skip


def test_a_file_without_histograms_says_so(command_line: Run, tmp_path: Path) -> None:
    pytest.importorskip("typer", reason="needs typer")
    some_profile().save(tmp_path / "p.fmstats")
    code, _, err = command_line("show", tmp_path / "p.fmstats", "--histograms")
    assert code == 2
    assert err.startswith("error: no layer has a histogram: measure='histogram' (--measure")
