"""What else differs: sizes and lengths of what layers saw, and how images were prepared."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diagnosis_profiles import unseen

from fmstats.drift.inputs import describe_other_preparation, describe_other_sizes
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State

HEAD = "sizes or lengths differ, and padding counts as data: "


def layer(*counts: int, shape: tuple[int, ...] = (4, 2, 5), channel_dim: int = 1) -> LayerProfile:
    """One whose channels saw so many elements."""
    state = State.identity(len(counts))
    state["count"].copy_(torch.tensor(counts))
    made = unseen(len(counts))
    return replace(made, shape=shape, channel_dim=channel_dim, stats=ChannelStats(state))


def told(now: LayerProfile, before: LayerProfile, n: int = 10, m: int = 10, layers: int = 1) -> str:
    names = [f"l{i}" for i in range(layers)]
    one, other = (Profile(dict.fromkeys(names, each), {}) for each in (now, before))
    texts = describe_other_sizes(one, other, names, (n, m))
    assert len(texts) <= 1
    assert all(text.startswith(HEAD) for text in texts)
    return texts[0].removeprefix(HEAD) if texts else ""


def test_the_batch_is_no_size() -> None:
    assert told(layer(50), layer(50, shape=(9, 2, 5))) == ""
    assert told(layer(50), layer(50, shape=(4, 2, 6))) == (
        "'l0' gave (N, 2, 5), (N, 2, 6) in the baseline"
    )


def test_without_a_batch_dim_0_is_a_size() -> None:
    """Channels in dim 0 are those of one sample."""
    now, before = (layer(50, shape=(n, 5), channel_dim=0) for n in (4, 9))
    assert told(now, before) == "'l0' gave (N, 4, 5), (N, 9, 5) in the baseline"
    assert told(now, now) == ""


@pytest.mark.parametrize(("more", "words"), [(109, ""), (110, ""), (111, "11.1"), (200, "20")])
def test_lengths_differ_by_more_than_a_tenth(more: int, words: str) -> None:
    text = "'l0' gave {} elements a channel and sample, {} in the baseline"
    assert told(layer(more), layer(100)) == (text.format(words, 10) if words else "")
    assert told(layer(100), layer(more)) == (text.format(10, words) if words else "")


def test_where_padding_does_not_count_its_size_is_nothing() -> None:
    def told_of_masked(now: LayerProfile, before: LayerProfile) -> list[str]:
        one, other = (Profile({"l": each}, {"masked": True}) for each in (now, before))
        return describe_other_sizes(one, other, ["l"], (10, 10))

    longer = layer(50, shape=(4, 2, 9))
    assert told(layer(50), longer)
    assert told_of_masked(layer(50), longer) == []
    (line,) = told_of_masked(layer(100), longer)
    assert line == "lengths differ: 'l' gave 10 elements a channel and sample, 5 in the baseline"


def test_lengths_are_those_of_a_sample_in_the_channel_that_saw_most() -> None:
    assert told(layer(300), layer(100), n=30) == ""
    assert told(layer(100), layer(300), m=30) == ""
    assert told(layer(7, 100), layer(100, 50)) == ""
    assert "gave 10 elements a channel and sample, 30 in" in told(layer(7, 100), layer(300, 50))


def test_a_layer_that_saw_nothing_tells_of_no_length() -> None:
    for nothing in (layer(0), layer()):
        assert told(layer(100), nothing) == told(nothing, layer(100)) == ""


@pytest.mark.parametrize(
    ("layers", "rest"), [(1, ""), (2, ", so did 1 layer more"), (3, ", so did 2 layers more")]
)
def test_the_first_layer_is_named_and_the_rest_counted(layers: int, rest: str) -> None:
    text = told(layer(200), layer(100), layers=layers)
    assert text == f"'l0' gave 20 elements a channel and sample, 10 in the baseline{rest}"


def test_preparation_is_told_where_both_tell() -> None:
    def prepared(now: object, before: object) -> list[str]:
        return describe_other_preparation(
            Profile({}, {"inputs": now}), Profile({}, {"inputs": before})
        )

    assert prepared({"size": 1}, {"size": 2}) == [
        "the images were prepared otherwise: size 1 and 2"
    ]
    assert prepared({"size": 1}, {"crop": 2, "size": 1}) == [
        "the images were prepared otherwise: crop None and 2"
    ]
    assert prepared({"size": 1, "crop": 3}, {"crop": 2, "size": 0}) == [
        "the images were prepared otherwise: size 1 and 0; crop 3 and 2"
    ]
    for one, other in (({"size": 1}, {"size": 1}), ({"size": 1}, None), ("x", {}), ({}, "x")):
        assert prepared(one, other) == []
