"""Profiles: mappings that merge, and what they show."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys

import numpy as np
import pytest
import torch
from tolerances import assert_equal_states
from torch import Tensor, nn

import fmstats
from fmstats.backends.native import load_native
from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.fields import FIELDS


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(80, 4)).eval()


def profile_of(*batches: Tensor, model: nn.Module | None = None, **options: object) -> Profile:
    model = model or net()
    with torch.no_grad(), fmstats.track(model, **options) as tracker:  # type: ignore[arg-type]
        for batch in batches:
            model(batch)
    return tracker.stats()


@pytest.fixture
def batches() -> list[Tensor]:
    return [torch.randn(n, 3, 6, 6) * 4 for n in (2, 3, 1)]


def assert_same(a: Profile, b: Profile) -> None:
    assert list(a) == list(b)
    for layer in a:
        assert_equal_states(a[layer].state, b[layer].state, (2e-6, 2e-6))
        assert a.info[layer].calls == b.info[layer].calls


def test_a_mapping(batches: list[Tensor]) -> None:
    profile = profile_of(*batches)
    assert list(profile) == ["0", "1", "2", "3"]
    assert len(profile) == 4
    assert "1" in profile
    assert isinstance(profile["1"], ChannelStats)
    assert "relu" not in profile
    with pytest.raises(KeyError):
        profile["relu"]


def test_merge_laws(batches: list[Tensor]) -> None:
    a, b, c = map(profile_of, batches)
    assert_same(a | b | c, profile_of(*batches))
    assert_same(a | b, b | a)
    assert_same((a | b) | c, a | (b | c))
    assert_same(a.merge(b, c), a | b | c)
    assert_same(a.merge(), a)


def test_merge_leaves_its_parts(batches: list[Tensor]) -> None:
    a, b = map(profile_of, batches[:2])
    before = copy.deepcopy(a)
    assert (a | b)["0"].count.tolist() == [80] * 5
    assert_same(a, before)
    assert a.metadata == before.metadata


def test_merged_metadata(batches: list[Tensor]) -> None:
    a, b = profile_of(*batches[:2]), profile_of(batches[2])
    a.metadata |= {"seconds": 1.5, "day": "Monday", "only": 1}
    b.metadata |= {"seconds": 2.0, "day": "Tuesday"}
    merged = (a | b).metadata
    assert (merged["passes"], merged["passes_measured"], merged["seconds"]) == (3, 3, 3.5)
    assert (merged["model"], merged["only"]) == ("Sequential", 1)
    assert "day" not in merged


def test_other_layers_do_not_merge(batches: list[Tensor]) -> None:
    with pytest.raises(
        FmstatsError,
        match=r"^cannot merge profiles of different layers: 2 of them are in one profile only, "
        r"such as '2', '3'; missing='drop' \(--missing drop\) merges the others, ",
    ):
        profile_of(*batches) | profile_of(*batches, include=["0", "1"])


def test_other_channels_do_not_merge() -> None:
    """But of one model, where a layer shows what it is called with."""
    a, b = (profile_of(torch.ones(2, c), model=nn.ReLU()) for c in (3, 4))
    assert [*(a | b)] == ["(model)@3", "(model)@4"]
    del a.metadata["structure"]
    for one, other, said in ((a, b, "3 channels in one profile, 4"), (b, a, "4 channels")):
        with pytest.raises(
            FmstatsError,
            match=rf"^cannot merge layer '\(model\)': {said} .* not known to be of one",
        ):
            one | other


def test_other_channel_dims_do_not_merge() -> None:
    x = torch.ones(3, 3)
    a = profile_of(x, model=nn.ReLU())
    b = profile_of(x, model=nn.ReLU(), channel_dim=0)
    with pytest.raises(FmstatsError, match=r"dim 1 and channels in dim 0 of tensors of 2 dims$"):
        a | b


def test_other_thresholds_do_not_merge(batches: list[Tensor]) -> None:
    with pytest.raises(
        FmstatsError, match=r"^cannot merge layer '0': counted under different thresholds"
    ):
        profile_of(*batches) | profile_of(*batches, zero_tol=0.5)


def test_layers_are_the_whole_tensors(batches: list[Tensor]) -> None:
    model = net()
    profile = profile_of(*batches, model=model)
    # Batch by batch, as the model ran: the last bits of a product may depend on the batch's size.
    outputs = batches
    for row, module in zip(profile.layers(), model, strict=True):
        outputs = [module(output).detach() for output in outputs]
        y = torch.cat(outputs).double()
        means = y.mean([d for d in range(y.dim()) if d != 1])
        assert row["type"] == type(module).__name__
        assert (row["channels"], row["count"]) == (y.shape[1], y.numel())
        assert row["mean"] == pytest.approx(y.mean().item(), rel=1e-6)
        assert row["std"] == pytest.approx(y.std().item(), rel=1e-6)
        assert row["mean_spread"] == pytest.approx(means.std(correction=0).item(), rel=1e-6)
        assert row["sparsity"] == (y == 0).double().mean().item()
        assert (row["min"], row["max"]) == (y.min().item(), y.max().item())
        assert (row["nan"], row["inf"]) == (0, 0)
    saturated = [row["saturated"] for row in profile.layers()]
    relu6 = torch.cat([model[:2](batch) for batch in batches])
    assert saturated == [None, (relu6 >= 6).double().mean().item(), None, None]
    assert saturated[1] > 0


def test_layers_count_channels() -> None:
    nan, inf = float("nan"), float("inf")
    x = torch.zeros(200, 5)
    x[0, 1] = 1.0  # dead, once active
    x[:, 2] = 3.0
    x[:, 3] = nan
    x[0, 4], x[1, 4], x[2:, 4] = inf, -inf, 5.0
    (row,) = profile_of(x, model=nn.Identity()).layers()
    assert (row["dead"], row["never_active"]) == (2, 1)
    assert (row["nan"], row["inf"]) == (200, 2)
    assert row["mean_spread"] == pytest.approx(np.std([0.0, 0.005, 3.0, 5.0]))
    assert (row["min"], row["max"]) == (0.0, 5.0)


def test_a_layer_of_nan_has_a_row() -> None:
    profile = profile_of(torch.full((2, 3), float("nan")), model=nn.Identity())
    (row,) = profile.layers()
    assert math.isnan(row["mean"])
    assert math.isnan(row["mean_spread"])
    assert math.isnan(row["max"])
    assert str(profile).splitlines()[1].split()[-1] == "6"


def test_to_dict(batches: list[Tensor]) -> None:
    profile = profile_of(*batches)
    values = profile.to_dict()
    assert json.loads(json.dumps(values)) == values
    layer = values["layers"]["1"]
    assert (layer["type"], layer["channel_dim"], layer["shape"]) == ("ReLU6", 1, [1, 5, 4, 4])
    assert (layer["dtype"], layer["calls"]) == ("float32", 3)
    assert layer["saturation_bounds"] == [None, 6.0]
    assert layer["mean"] == profile["1"].mean.tolist()
    assert layer["sat_high"] == profile["1"].sat_high.tolist()
    assert values["metadata"]["passes"] == 3


def test_to_pandas(batches: list[Tensor]) -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    profile = profile_of(*batches)
    frame = profile.to_pandas()
    assert len(frame) == 5 + 5 + 80 + 4
    assert set(FIELDS) | set(ChannelStats.DERIVED) < set(frame.columns)
    for layer, stats in profile.items():
        rows = frame[frame["layer"] == layer]
        assert rows["channel"].tolist() == list(range(stats.channels))
        assert rows["mean"].tolist() == stats.mean.tolist()
        assert rows["zeros"].tolist() == stats.zeros.tolist()
        assert set(rows["type"]) == {profile.info[layer].type}
    assert frame.groupby("layer")["saturated"].count().tolist() == [0, 5, 0, 0]


def test_to_pandas_without_pandas(batches: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FmstatsError, match=r"needs pandas: pip install 'fmstats\[pandas\]'"):
        profile_of(*batches).to_pandas()


def test_printing_shows_every_layer() -> None:
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(80)])
    profile = profile_of(torch.randn(4, 3), model=model)
    lines = str(profile).splitlines()
    assert lines[0].split() == [
        *("layer", "type", "channels", "mean", "mean", "spread", "std", "sparsity"),
        *("dead", "saturated", "min", "max", "nan+inf"),
    ]
    assert [line.split()[:3] for line in lines[1:]] == [[str(i), "Linear", "3"] for i in range(80)]
    assert repr(profile) == f"Profile(80 layers)\n{profile}"


def test_a_printed_row() -> None:
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[0.0, 6.0], [0.0, 2.0], [0.0, nan], [0.0, 8.0], [0.0, -inf]])
    profile = profile_of(x, model=nn.Identity(), saturation={"*": (None, 6.0)})
    assert str(profile).splitlines()[1].split() == [
        *("(model)", "Identity", "2", "2", "2.667", "3.207", "50.0%", "1", "20.0%", "0", "8", "2"),
    ]


def test_an_empty_profile() -> None:
    profile = profile_of()
    assert (len(profile), profile.layers(), profile.to_dict()["layers"]) == (0, [], {})
    assert str(profile) == "no layer was measured: see coverage()"


def test_profiles_travel_between_processes(batches: list[Tensor]) -> None:
    profile = profile_of(*batches)
    twin = pickle.loads(pickle.dumps(profile))
    assert_same(profile, twin)
    assert twin.metadata == profile.metadata
    assert str(twin) == str(profile)


@pytest.mark.skipif(load_native() is None, reason="the native module is not built")
def test_backends_merge_with_each_other(batches: list[Tensor]) -> None:
    both = profile_of(batches[0], backend="cpu") | profile_of(*batches[1:], backend="torch")
    assert_same(both, profile_of(*batches))
