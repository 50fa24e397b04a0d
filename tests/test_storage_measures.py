"""Profile files with measures on request, and those without, which are as they were."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from profile_files import (
    assert_same_profiles,
    close_file,
    layer_of,
    open_file,
    profile_of,
    some_profile,
)
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures
from fmstats.statistic.thresholds import Thresholds
from fmstats.storage import from_bytes, load, save
from fmstats.storage.histograms import pack_bins, unpack_bins

SUMS = Measures.of(("abs", "kurtosis"))
EACH_LAYER = Measures.of(("abs", "kurtosis", "histogram"), Bins("layer", 3))
EACH_CHANNEL = Measures.of(("abs", "kurtosis", "histogram"), Bins("channel", 1))
ALL_MEASURES = (
    *(SUMS, EACH_LAYER, EACH_CHANNEL),
    *(Measures.of("abs"), Measures.of("kurtosis"), Measures.of("histogram", Bins("channel", 6))),
)


def grouped(measures: Measures) -> Profile:
    whole = some_profile(measures=measures)
    rows = some_profile(1, measures).info
    return Profile(whole.info, whole.metadata, {"cat": {"head": rows["head"]}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save(some_profile(measures=EACH_CHANNEL), tmp_path / "p.fmstats")
    return tmp_path / "p.fmstats"


@pytest.mark.parametrize(
    ("groups", "size", "digest"),
    [
        (False, 1824, "59528cedec462be0064445a45eabe93ca6d727fb54b597e5d65741a6448b04a0"),
        (True, 2344, "f754749c613bea55c409e678b9cda5de06efd28e6e46ae9af7c11d7902a5fa90"),
    ],
)
def test_files_without_measures_are_as_they_were_before_there_were_any(
    groups: bool, size: int, digest: str
) -> None:
    """Byte for byte: these are the digests of what was written then."""
    x = torch.tensor([[-2.0, 0.0, torch.nan], [1.0, 0.0, torch.inf], [4.0, 0.5, -1.0]])
    relu = layer_of(x.relu(), Thresholds(0.25, 0.0, 1.5), type="ReLU")
    profile = profile_of({"a": layer_of(x), "b": relu}, samples=3)
    if groups:
        rows = {"cat": {"a": profile.info["a"]}}
        profile = Profile(profile.info, profile.metadata, rows)
    content = profile.to_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)


@pytest.mark.parametrize("measures", ALL_MEASURES, ids=str)
def test_nothing_is_lost(tmp_path: Path, measures: Measures) -> None:
    profile = grouped(measures)
    profile.save(tmp_path / "p.fmstats")
    read = load(tmp_path / "p.fmstats")
    assert_same_profiles(read, profile)
    assert_same_profiles(read.groups["cat"], profile.groups["cat"])
    assert read.to_bytes() == (tmp_path / "p.fmstats").read_bytes()


def test_the_document_tells_the_measures(file: Path) -> None:
    tensors, document = open_file(file)
    known = {"measure": ["abs", "kurtosis", "histogram"], "histogram": "channel", "resolution": 1}
    assert (document["schema"], document["measures"]) == (5, known)
    assert str(tensors["m4"].dtype) == "float64"
    save(some_profile(measures=SUMS), file)
    tensors, document = open_file(file)
    assert (document["schema"], document["measures"]) == (5, {"measure": ["abs", "kurtosis"]})
    assert not any(name.startswith("histogram") for name in tensors)


@pytest.mark.parametrize("channels", [0, 1])
def test_nothing_seen(tmp_path: Path, channels: int) -> None:
    for measures in (EACH_LAYER, EACH_CHANNEL):
        profile = profile_of({"a": layer_of(torch.zeros(0, channels), measures=measures)})
        assert_same_profiles(from_bytes(profile.to_bytes()), profile)


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [
        *((0, "u1"), (255, "u1"), (256, "<u2"), (65535, "<u2")),
        *((65536, "<u4"), (2**32 - 1, "<u4"), (2**32, "<i8"), (2**63 - 1, "<i8")),
    ],
)
def test_counts_are_as_narrow_as_they_can_be(largest: int, dtype: str) -> None:
    bins = np.zeros((3, 7), np.int64)
    bins[0, 2], bins[2, 6] = largest, min(largest, 1)
    tensors = pack_bins(bins)
    assert tensors["histogram_counts"].dtype == np.dtype(dtype)
    assert (unpack_bins(tensors, 7) == bins).all()


def test_empty_bins_take_no_room(tmp_path: Path) -> None:
    x = torch.rand(500, 100) + 1  # within one octave
    sizes = []
    for resolution in (2, 6):
        measures = Measures.of("histogram", Bins("channel", resolution))
        sizes.append(len(profile_of({"a": layer_of(x, measures=measures)}).to_bytes()))
    bins = 100 * (2**6 - 2**2)  # more of them, of 2 bytes for the place and 1 for the count
    assert sizes[1] - sizes[0] <= 3 * bins + 20


def test_each_tensor_lies_at_a_multiple_of_its_numbers() -> None:
    """As the safetensors format asks for."""
    x = torch.ones(2**16 + 2, 1)
    x[0] = 2  # a second bin, so that 6 bytes tell the places
    profile = profile_of({"a": layer_of(x, measures=Measures.of("histogram"))})
    content = profile.to_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    del header["__metadata__"]
    assert header["histogram_counts"]["dtype"] == "U32"
    for entry in header.values():
        assert entry["data_offsets"][0] % (int(entry["dtype"][1:]) // 8) == 0


def change(file: Path, tensor: str, place: int, value: Any) -> None:
    tensors, document = open_file(file)
    tensors[tensor] = tensors[tensor].astype(np.result_type(tensors[tensor], type(value)))
    tensors[tensor][place] = value
    close_file(file, tensors, document)


def refused(path: Path, message: str) -> None:
    with pytest.raises(FmstatsError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"cannot read profile {str(path)!r}: ")


# The first five channels are those of b.conv: 0 has NaN and infinities, 1 has nothing finite.
@pytest.mark.parametrize(
    ("field", "channel", "value", "message"),
    [
        ("sum_abs", 9, -1.0, r"layer 'head': sum_abs of channel 1 is -1.0: is negative"),
        ("sum_abs", 9, 1e9, r"sum_abs of channel 1 is 1000000000.0: is more than the largest magn"),
        ("sum_abs", 9, math.nan, r"sum_abs of channel 1 is nan: is more than the largest magn"),
        ("sum_abs", 9, math.inf, r"sum_abs of channel 1 is inf: is more than"),
        ("sum_abs", 9, 0.0, r"sum_abs of channel 1 is 0.0: is less than the mean gives"),
        ("sum_abs", 1, 1.0, r"sum_abs of channel 1 is 1.0: is not 0.0 with nothing finite"),
        ("m3", 1, math.nan, r"m3 of channel 1 is nan: is not 0.0 with nothing finite"),
        ("m3", 9, math.nan, r"layer 'head': m3 of channel 1 is nan: is not finite"),
        ("m3", 9, -1e3, r"m3 of channel 1 is -1000.0: is more than the range gives"),
        ("m4", 9, -1e-9, r"m4 of channel 1 is -1e-09: is negative"),
        ("m4", 9, math.inf, r"m4 of channel 1 is inf: is not finite"),
        ("m4", 9, 1e3, r"m4 of channel 1 is 1000.0: is more than the range gives"),
        ("m4", 9, 0.0, r"m4 of channel 1 is 0.0: is less than the variance gives"),
        ("m4", 1, 1.0, r"layer 'b.conv': m4 of channel 1 is 1.0: is not 0.0 with nothing"),
    ],
)
def test_sums_that_no_data_gives(
    file: Path, field: str, channel: int, value: float, message: str
) -> None:
    change(file, field, channel, value)
    refused(file, message)


def rewrite(file: Path, channel: int, **bins: int) -> None:
    """Set counts of bins of a histogram: those of positive (p3) and negative (n3) numbers."""
    tensors, document = open_file(file)
    rule = Bins("channel", 1)
    found = unpack_bins(tensors, rule.words)
    for name, count in bins.items():
        found[channel, int(name[1:]) + rule.of_sign * (name[0] == "n")] += count
    close_file(file, {**tensors, **pack_bins(found)}, document)


@pytest.mark.parametrize(
    ("channel", "bins", "message"),
    [
        (9, {"p46": 1}, r"layer 'head': the histogram of channel 1 counts more elements than are"),
        (1, {"p46": 1}, r"layer 'b.conv': the histogram of channel 1 counts more elements"),
        (6, {"p46": 21}, r"layer 'a.relu': the histogram of channel 1 counts more elements"),
    ],
)
def test_histograms_that_no_data_gives(
    file: Path, channel: int, bins: dict[str, int], message: str
) -> None:
    rewrite(file, channel, **bins)
    refused(file, message)


@pytest.mark.parametrize("scope", ["layer", "channel"])
@pytest.mark.parametrize("moved", ["p70", "n70", "p81", "n0", "p0"])
def test_elements_outside_of_the_range(tmp_path: Path, scope: str, moved: str) -> None:
    """The numbers are from 2 to 3: one is told to be elsewhere."""
    bins = Bins(scope, 1)
    profile = profile_of(
        {
            "empty": layer_of(torch.zeros(0, 0), measures=Measures.of("histogram", bins)),
            "a": layer_of(torch.rand(9, 2) + 2, measures=Measures.of("histogram", bins)),
        }
    )
    found = profile["a"].state.bins
    assert found is not None
    place = int(moved[1:]) + bins.of_sign * (moved[0] == "n")
    found[-1, found[-1].argmax()] -= 1
    found[-1, place] += 1
    whose = "its histogram" if scope == "layer" else "the histogram of channel 1"
    with pytest.raises(FmstatsError, match=f"layer 'a': {whose} counts elements outside of"):
        save(profile, tmp_path / "p.fmstats")


@pytest.mark.parametrize(("tolerance", "fewer"), [(0.0, 0), (2.5, 4)])
def test_zeros_under_a_tolerance_may_be_in_a_histogram(
    tmp_path: Path, tolerance: float, fewer: int
) -> None:
    """They are counted as zeros as well, so that as many elements may be in none."""
    x = torch.tensor([[1.0], [2.0], [2.0], [1.0], [3.0]])
    measures = Measures.of("histogram", Bins("layer", 0))
    profile = profile_of({"a": layer_of(x, Thresholds(tolerance), measures)})
    found = profile["a"].state.bins
    assert found is not None
    for place in (25, 25, 26, 26):  # of 1 and of 2
        if fewer:
            found[0, place] -= 1
            fewer -= 1
            assert_same_profiles(from_bytes(profile.to_bytes()), profile)
    found[0, 26] -= 1
    with pytest.raises(FmstatsError, match="layer 'a': its histogram counts fewer elements than"):
        save(profile, tmp_path / "p.fmstats")


def test_a_negative_count_is_not_written(tmp_path: Path) -> None:
    profile = some_profile(measures=EACH_LAYER)
    found = profile["head"].state.bins
    assert found is not None
    found[0, 0] = -1
    with pytest.raises(FmstatsError, match=r"layer 'head': its histogram has a negative count"):
        save(profile, tmp_path / "p.fmstats")


@pytest.mark.parametrize(
    ("tensor", "place", "value", "message"),
    [
        ("histogram_counts", 0, 0, r"a bin of a histogram counts 0: it should be 1 or more"),
        ("histogram_counts", 0, -5, r"a bin of a histogram counts -5|not U8 or U16 or U32 or I64"),
        ("histogram_places", 0, 164, r"a histogram has a bin 164: there are 164"),
        ("histogram_places", 1, 0, r"the bins of a histogram are not in their order"),
        ("histogram_places", 1, 44, r"the bins of a histogram are not in their order"),
        ("histogram_sizes", 0, 9999, r"its histograms do not go together: \d+ bins, \d+ places"),
    ],
)
def test_sparse_histograms_that_are_none(
    file: Path, tensor: str, place: int, value: int, message: str
) -> None:
    change(file, tensor, place, value)
    tensors, document = open_file(file)
    if tensor != "histogram_counts":
        close_file(file, {**tensors, tensor: tensors[tensor].astype(np.uint16)}, document)
    refused(file, message)


def test_histograms_of_another_kind(file: Path) -> None:
    tensors, document = open_file(file)
    for name, wrong, message in (
        ("histogram_places", tensors["histogram_places"].astype(np.int64), "is not U16 of bins"),
        ("histogram_places", tensors["histogram_places"][None], "is not U16 of bins"),
        ("histogram_sizes", tensors["histogram_sizes"][:-1], "is not U16 of 10 histograms"),
        ("histogram_counts", tensors["mean"], "is not U8 or U16 or U32 or I64 of bins"),
    ):
        close_file(file, {**tensors, name: wrong}, document)
        refused(file, f"tensor '{name}' {message}")
    close_file(file, {**tensors, "histogram_places": tensors["histogram_places"][:-1]}, document)
    refused(file, "its histograms do not go together")
    for name in ("histogram_sizes", "histogram_places", "histogram_counts", "m3", "sum_abs"):
        close_file(file, {n: t for n, t in tensors.items() if n != name}, document)
        refused(file, "its tensors are not the fields count, .*, m4, histogram_counts")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("abs", "'measures' must name what was measured, not 'abs'"),
        ({"measure": "abs"}, "'measures' must name what was measured"),
        ({"measure": [1]}, "'measures' must name what was measured"),
        ({"measure": ["p99"]}, r"measure=\['p99'\]: choose among 'abs'"),
        ({"measure": ["histogram"]}, "histogram=None: choose 'layer' or 'channel'"),
        ({"measure": ["histogram"], "histogram": "layer"}, "resolution=None: give 0 to 6"),
        ({"measure": ["histogram"], "histogram": "layer", "resolution": 7}, "resolution=7"),
        ({"measure": ["histogram"], "histogram": "layer", "resolution": True}, "resolution=True"),
        ({"measure": ["histogram"], "histogram": "channel", "resolution": 1}, "not the fields"),
        ({"measure": []}, "its tensors are not the fields"),
        (None, "its tensors are not the fields"),
    ],
)
def test_measures_that_there_are_not(file: Path, found: Any, message: str) -> None:
    tensors, document = open_file(file)
    close_file(file, tensors, {**document, "measures": found})
    refused(file, message)


@pytest.mark.parametrize("large", [1.7e308, 1e300, 1e140, 1e76, 1e70, 1e-70, 2e-81, 1e-108, 1e-300])
def test_powers_that_overflow_are_no_damage(tmp_path: Path, large: float) -> None:
    x = torch.tensor([[1, 1, 0.5], [-1, 1, 1], [1, 0.25, -1]], dtype=torch.float64) * large
    profile = profile_of({"a": layer_of(x, measures=EACH_LAYER)})
    for each in (profile, profile.merge(profile, profile)):
        save(each, tmp_path / "p.fmstats")
        assert_same_profiles(load(tmp_path / "p.fmstats"), each)


@pytest.mark.parametrize("units", [1, 2, 3, 5, 36, 104])
def test_means_of_the_smallest_numbers_are_rounded(units: int) -> None:
    x = torch.tensor([[units], [units], [units], [0], [0]], dtype=torch.float64) * 5e-324
    profile = profile_of({"a": layer_of(x, measures=SUMS)})
    assert_same_profiles(from_bytes(profile.to_bytes()), profile)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6])
def test_no_data_are_refused(scale: float, offset: float) -> None:
    torch.manual_seed(0)
    for x in (torch.randn(300, 3), torch.rand(300, 3) ** 9, (torch.rand(300, 3) > 0.99).float()):
        parts = [layer_of(p, measures=EACH_LAYER) for p in (x * scale + offset).split(70)]
        merged = profile_of({"a": parts[0]}).merge(*(profile_of({"a": p}) for p in parts[1:]))
        assert_same_profiles(from_bytes(merged.to_bytes()), merged)


def test_what_a_tracker_has_seen(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(80, 4))
    for scope in ("layer", "channel"):
        with fmstats.track(
            model, backend="torch", measure=("abs", "kurtosis", "histogram"), histogram=scope
        ) as tracker:
            model(torch.randn(2, 3, 6, 6))
        tracker.stats().save(tmp_path / f"{scope}.fmstats")
        read = load(tmp_path / f"{scope}.fmstats")
        assert_same_profiles(read, tracker.stats())
        assert (read["0"].quantile(0.9) == tracker.stats()["0"].quantile(0.9)).all()
    with pytest.raises(
        FmstatsError, match=r"does not fit the files before it: .*different measures"
    ):
        fmstats.merge_files([tmp_path / "layer.fmstats", tmp_path / "channel.fmstats"])
