"""Layers that a model calls with several widths: a row for each, nothing raised, nothing lost."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compat_models import (
    Bottleneck,
    SharedActivation,
    SharedDropout,
    SqueezeExcitation,
    assert_row,
    captured,
)
from torch import Tensor, nn

import fmstats
from fmstats.integrations.readings import Readings
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.profiles.summary import choose_layers
from fmstats.tracking.row_set import MOST_WIDTHS


def segformer() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 12],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
        decoder_hidden_size=8, num_labels=3,
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config)


def pvt() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.PvtV2Config(
        image_size=32, num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
    )  # fmt: skip
    return transformers.PvtV2Model(config)


def efficientnet() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.EfficientNetConfig(
        image_size=32, kernel_sizes=[3, 5], in_channels=[32, 16], out_channels=[16, 16],
        depthwise_padding=[], strides=[1, 2], num_block_repeats=[1, 1], expand_ratios=[1, 2],
        hidden_dim=1280, width_coefficient=1.0, depth_coefficient=1.0,
    )  # fmt: skip
    return transformers.EfficientNetModel(config)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "ResNet-50": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3), Bottleneck(6, 4), Bottleneck(16, 4), Bottleneck(16, 8, stride=2)
    ),
    "YOLO": lambda: SharedActivation(nn.SiLU()),
    "U-Net in place": lambda: SharedActivation(nn.ReLU(inplace=True)),
    "squeeze and excitation": SqueezeExcitation,
    "Segformer": segformer,
    "PVTv2": pvt,
    "EfficientNet": efficientnet,
}


def as_channels(y: Tensor, row: LayerProfile) -> Tensor:
    dim = row.dims[y.dim()]
    return y[None] if dim is None else y.movedim(dim, 0)


def assert_all_rows(profile: Profile, seen: dict[str, list[Tensor]]) -> None:
    """Every output of every layer is in the row of its width, and every field is right."""
    assert {row.layer for row in profile.info.values()} == set(seen)
    told = 0
    for row in profile.info.values():
        ys = [y for y in seen[row.layer or ""] if len(as_channels(y, row)) == row.stats.channels]
        told += row.calls
        assert len(ys) == row.calls
        flat = [as_channels(y, row).flatten(1) for y in ys]
        assert_row(row.stats, flat, 0)
    assert told == sum(map(len, seen.values()))


@pytest.mark.parametrize("name", MODELS)
def test_models_that_share_layers(name: str) -> None:
    torch.manual_seed(0)
    model, x = MODELS[name]().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        seen, plain = captured(model, lambda: model(x))
        with fmstats.track(model, functional=False) as tracker:
            _, tracked = captured(model, lambda: model(x), {})
            model(x[:1])
            first = tracker.stats()
        again, _ = captured(model, lambda: model(x[:1]))
    assert all(map(torch.equal, plain, tracked))
    assert_all_rows(first, {layer: [*ys, *again[layer]] for layer, ys in seen.items()})
    assert {row.status for row in tracker.coverage()} <= {"tracked", "never fired"}
    names = [row.key for row in first.info.values()]
    for key, name in zip(names, first, strict=True):
        several = sum(other.layer == key.layer for other in names) > 1
        assert name == (key.full if several else key.layer)


def test_a_width_for_each_length_is_bounded() -> None:
    model, lengths = SharedDropout().eval(), range(3, 3 + 2 * MOST_WIDTHS)
    with fmstats.track(model, channel_dim={"drop": -1}) as tracker, torch.no_grad():
        for length in lengths:
            model(torch.randn(1, length, 8))
    rows = [row for row in tracker.stats().info.values() if row.layer == "drop"]
    assert len(rows) == MOST_WIDTHS
    assert sum(row.calls for row in rows if row.stats.channels == 8) == len(lengths) + 1
    (row,) = (row for row in tracker.coverage() if row.name == "drop")
    left_out = len(lengths) - MOST_WIDTHS
    assert row.status == "in part"
    assert (row.reason or "").startswith(f"{left_out} tensors without a row: each came with ano")


def test_profile_tells_of_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    batches = [torch.randn(1, length, 8) for length in range(3, 4 + MOST_WIDTHS)]
    dims = {"drop": -1}  # the length of a text, in attention maps
    result = fmstats.profile(SharedDropout(), batches, channel_dim=dims, progress=False)
    told = "1 selected layer\n  drop (Dropout): in part, 1 tensor without a row: "
    assert told in capsys.readouterr().err
    assert told in str(result)


def two_days() -> list[Profile]:
    """One model, whose second day brings another width."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    model.add_module("l@4", nn.Identity())
    days = []
    for widths in ((4, 4), (4, 6)):
        data = [torch.randn(20, width) for width in widths]
        days.append(fmstats.profile(model, data, batch_dim=0, progress=False))
    return days


def test_exports_and_reports_are_unambiguous(tmp_path: Path) -> None:
    first, second = two_days()
    assert list(first) == ["0", "1", "l@4@4"]
    assert list(second) == ["0@4", "1@4", "l@4@4", "0@6", "1@6", "l@4@6"]
    both = first | second
    assert {name: int(s.count[0]) for name, s in both.items()} == {
        **dict.fromkeys(["0@4", "1@4", "l@4@4"], 60),
        **dict.fromkeys(["0@6", "1@6", "l@4@6"], 20),
    }
    both.save(tmp_path / "both.fmstats")
    loaded = fmstats.load(tmp_path / "both.fmstats")
    assert loaded.to_dict() == both.to_dict()
    assert [row.key for row in loaded.info.values()] == [row.key for row in both.info.values()]
    assert len(both.scalars("mean")) == 6
    assert list(both.pooled(1)) == list(both)
    both.diagnose()
    both.report(tmp_path / "both.html")
    if pytest.importorskip("pandas", reason="needs pandas"):
        assert both.to_pandas()["layer"].nunique() == 6


def test_a_layer_s_name_chooses_all_of_its_rows() -> None:
    """Where rows are chosen by name, the layer's name stands for each, and a row's for itself."""
    _, profile = two_days()
    for chosen, want in (
        ("0", ["0@4", "0@6"]),
        ("0@6", ["0@6"]),
        ("l@4", ["l@4@4", "l@4@6"]),
        ("l@4@6", ["l@4@6"]),
    ):
        rows = choose_layers(profile, layers=[chosen]).rows
        assert [row["layer"] for row in rows] == want
        read = Readings(profile, layers=chosen, stats="mean").read().rows
        assert [labels["layer"] for series in read.values() for labels, _ in series] == want


def test_comparing_days_of_other_widths() -> None:
    """A row that one day alone has is left out, and told; the others are compared by width."""
    first, second = two_days()
    for now, baseline in ((first, second), (second, first)):
        found = now.compare(baseline)
        assert [layer.layer for layer in found.layers] == [
            name for name, row in now.info.items() if row.stats.channels == 4
        ]
        assert set(found.left_out) == {"0@6", "1@6", "l@4@6"}
        assert math.isfinite(found.score)
    whole = first | second
    found = first.compare(whole, calibration=[first, second, first, first])
    assert [layer.layer for layer in found.layers] == list(first)


def test_analysis_joins_each_row_with_its_layer() -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    model, x = Bottleneck(6, 4).eval(), torch.randn(2, 6, 9, 9)
    joined = fmstats.analyze(model, x).join(fmstats.profile(model, [x], progress=False))
    relu = joined[joined["name"] == "relu"]
    assert relu["row"].tolist() == ["relu@4", "relu@16"]
    assert relu["channels"].tolist() == [4, 16]
    assert relu["output_shape"].nunique() == 1


def test_a_run_that_goes_on_with_other_widths() -> None:
    """Bit for bit as one that was never broken off."""
    torch.manual_seed(2)
    model = SharedDropout().eval()
    data = [torch.randn(2, length, 8) for length in (3, 5, 3, 8, 5, 9)]
    for per_call in (False, True):
        whole = fmstats.track(model, per_call=per_call)
        with whole, torch.no_grad():
            for x in data:
                model(x)
        for cut in range(len(data)):
            with fmstats.track(model, per_call=per_call) as before, torch.no_grad():
                for x in data[:cut]:
                    model(x)
            with fmstats.track(model, per_call=per_call) as after, torch.no_grad():
                after.restore(before.stats())
                for x in data[cut:]:
                    model(x)
            got, want = after.stats(), whole.stats()
            assert list(got) == list(want)
            for name in want:
                assert torch.equal(got[name].state.words, want[name].state.words)


def test_batched_and_unbatched_use_merge_in_any_order() -> None:
    """The channels are in dim 1 of a batch and in dim 0 of a sample."""
    torch.manual_seed(3)
    model, batch = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.randn(5, 3, 6, 6)
    parts = []
    for data in ([batch], [batch[0]], [batch, batch[1]], [batch[1], batch]):
        with fmstats.track(model) as tracker, torch.no_grad():
            for x in data:
                model(x)
        parts.append(tracker.stats())
    assert [parts[i].info["0"].dims for i in range(4)] == [
        {4: 1},
        {3: 0},
        {3: 0, 4: 1},
        {3: 0, 4: 1},
    ]
    for order in itertools.permutations(parts):
        merged = order[0].merge(*order[1:])
        row = merged.info["0"]
        assert (row.shape, row.channel_dim, row.dims) == ((5, 4, 4, 4), 1, {3: 0, 4: 1})
        assert merged["0"].count.tolist() == [(5 + 1 + 6 + 6) * 16] * 4
    fresh = fmstats.track(model)
    fresh.restore(merged)
    fresh.close()
    assert fresh.stats().info["0"].dims == {3: 0, 4: 1}


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 6:
            raise ValueError("six")
        return x


def test_a_batch_that_is_taken_back_leaves_no_row() -> None:
    """Not even a width in the names of others."""
    model, data = nn.Sequential(nn.ReLU(), Fails()), [torch.randn(3, c) for c in (4, 6, 4)]
    want = fmstats.profile(model, data[::2], progress=False)
    got = fmstats.profile(model, data, on_bad_sample="skip", progress=False)
    assert list(got) == list(want) == ["0", "1"]
    for name in want:
        assert torch.equal(got[name].state.words, want[name].state.words)
