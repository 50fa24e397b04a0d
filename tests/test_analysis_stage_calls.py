"""The stages that calls form, without a model: which layer ends one, and which breaks the rule."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import fmstats
from fmstats.analysis.records import Call
from fmstats.analysis.stages import Stages, find_stages


def call(name: str, channels: int, *size: int, flops: int = 0, leaf: bool = True) -> Call:
    shape = (2, channels, *size)
    return Call(name, leaf, shape, math.prod(shape), 4 * math.prod(shape), flops, None)


def ends(stages: Stages) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(stage.last, stage.channels, stage.resolution) for stage in stages]


def test_a_stage_is_a_run_of_one_resolution() -> None:
    stages = find_stages(
        [
            *(call("a", 8, 9, 9, flops=5), call("b", 16, 9, 9, flops=7), call("c", 4, 9, 9)),
            *(call("d", 8, 5, 5, flops=2), call("e", 8, 5, 4), call("f", 8, 9, 9, flops=1)),
        ]
    )
    assert ends(stages) == [("c", 4, (9, 9)), ("d", 8, (5, 5)), ("e", 8, (5, 4)), ("f", 8, (9, 9))]
    assert [stage.layers for stage in stages] == [3, 1, 1, 1]
    assert [stage.flops for stage in stages] == [7, 2, 0, 1]
    assert [stage.elements for stage in stages] == [324, 200, 160, 648]
    assert [stage.relative for stage in stages] == [1, 200 / 324, 160 / 324, 2]


def test_modules_with_parts_end_a_stage_and_are_no_layers_of_it() -> None:
    block = call("block", 16, 8, 8, flops=99, leaf=False)
    (stage,) = find_stages([call("block.0", 8, 8, 8, flops=3), call("block.1", 16, 8, 8), block])
    assert (stage.last, stage.layers, stage.flops) == ("block", 2, 3)
    (alone,) = find_stages([block])
    assert (alone.last, alone.layers, alone.flops) == ("block", 0, 0)


def test_what_holds_earlier_stages_as_well_ends_none() -> None:
    calls = [
        *(call("net.a", 8, 8, 8), call("net.b", 16, 4, 4), call("net.c", 16, 4, 4)),
        *(call("net", 16, 4, 4, leaf=False), call("", 16, 4, 4, leaf=False)),
    ]
    assert ends(find_stages(calls))[:2] == [("net.a", 8, (8, 8)), ("", 16, (4, 4))]
    assert ends(find_stages(calls[:4])) == [("net.a", 8, (8, 8)), ("net.c", 16, (4, 4))]
    inner = call("net.c", 16, 4, 4, leaf=False)
    assert ends(find_stages([calls[0], calls[1], inner]))[1][0] == "net.c"
    # Where all of a stage was met before, its last call stands.
    again = [call("a", 8, 8, 8), call("b", 16, 4, 4), call("a", 8, 8, 8)]
    assert ends(find_stages(again))[2] == ("a", 8, (8, 8))


def test_the_block_that_ends_a_resolution_belongs_to_the_next_stage() -> None:
    """A bottleneck: its first convolution reduces channels at the old resolution."""
    calls = [
        *(call("0", 64, 8, 8), call("1.a", 16, 8, 8), call("1.b", 16, 8, 8)),
        *(call("1.c", 128, 4, 4), call("1", 128, 4, 4, leaf=False)),
    ]
    stages = find_stages(calls)
    assert ends(stages) == [("0", 64, (8, 8)), ("1", 128, (4, 4))]
    assert [stage.layers for stage in stages] == [1, 1]
    assert stages.follow_the_rule
    # A block that is all there is of a stage stays.
    assert ends(find_stages(calls[1:4]))[0] == ("1.b", 16, (8, 8))
    # Names that begin alike are no block.
    apart = [call("10", 64, 8, 8), call("1a", 16, 8, 8), call("1b", 32, 4, 4)]
    assert ends(find_stages(apart))[0] == ("1a", 16, (8, 8))


def test_a_break_names_the_layer_that_first_has_the_channels() -> None:
    stages = find_stages(
        [call("a", 8, 8, 8), call("b", 8, 4, 4), call("c", 24, 4, 4), call("d", 24, 4, 4)]
    )
    (found,) = stages.breaks
    assert (found.layer, found.before, found.after) == ("c", (8, 8, 8), (24, 4, 4))
    assert str(found) == "c: channels 8 to 24 (x 3), resolution x 0.5"
    assert not stages.follow_the_rule
    (other,) = find_stages([call("a", 8, 8, 8), call("b", 16, 4, 2)]).breaks
    assert str(other) == "b: channels 8 to 16 (x 2), resolution x 0.5 x x 0.25"


@given(st.integers(1, 40), st.integers(2, 99), st.integers(2, 99), st.booleans(), st.booleans())
def test_halving_may_be_rounded_either_way_and_turned_round(
    channels: int, height: int, width: int, up: bool, turned: bool
) -> None:
    large, small = call("a", channels, height, width), None
    halves = [-(-side // 2) if up else side // 2 for side in (height, width)]
    small = call("b", 2 * channels, *halves)
    both = [small, large] if turned else [large, small]
    steps = [stage for stage in find_stages(both)][1:]
    stages = find_stages(both)
    assert stages.breaks == ()
    assert stages.follow_the_rule == (math.prod(steps[0].resolution) > 1)
    one = call("b", 2 * channels, halves[0], width)
    if math.prod((halves[0], width)) > 1:
        assert len(find_stages([one, large] if turned else [large, one]).breaks) == 1
    other = call("b", 2 * channels + 1, *halves)
    if math.prod(halves) > 1:
        assert len(find_stages([other, large] if turned else [large, other]).breaks) == 1


def test_what_leaves_for_vectors_is_no_step() -> None:
    pooled = [call("a", 8, 8, 8), call("b", 16, 4, 4), call("c", 99, 1, 1)]
    stages = find_stages(pooled)
    assert (len(stages), stages.breaks, stages.follow_the_rule) == (3, (), True)
    only = find_stages([pooled[0], pooled[2]])
    assert (only.breaks, only.follow_the_rule) == ((), False)
    assert len(find_stages([pooled[0], call("c", 99, 2, 1)]).breaks) == 1


def test_what_leaves_for_other_dims_is_no_step() -> None:
    """As maps that are flattened to sequences, or videos taken frame by frame."""
    for size, then in (((8, 8), (16,)), ((16,), (4, 4)), ((2, 8, 8), (4, 4))):
        stages = find_stages([call("a", 8, *size), call("b", 16, *then)])
        assert (len(stages), stages.breaks, stages.follow_the_rule) == (2, (), False)
        half = [side // 2 for side in then]
        stages = find_stages([call("a", 8, *size), call("b", 16, *then), call("c", 32, *half)])
        assert (stages.breaks, stages.follow_the_rule) == ((), True)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(2), nn.Conv1d(8, 16, 4, 2, 1))
    found = fmstats.analyze(net, input_size=(1, 3, 8, 8)).stages
    assert [stage.resolution for stage in found][:2] == [(8, 8), (64,)]
    assert found.breaks == ()


def test_what_is_printed() -> None:
    stages = find_stages([call("a", 8, 8, 8, flops=1500), call("b", 24, 4, 4)])
    assert str(stages).splitlines() == [
        "resolution  channels  elements  relative  FLOPs at most  layers  last layer",
        "       8x8         8       512         1           1.5k       1           a",
        "       4x4        24       384      0.75              0       1           b",
        "not 'double the channels, halve the resolution': b: channels 8 to 24 (x 3), resolution "
        "x 0.5",
    ]
    (table, _) = stages.blocks()
    kept = [column.name for column in sorted(table.columns[1:], key=lambda column: column.keep)]
    assert kept == ["layers", "relative", "flops", "elements", "last", "channels"]
    assert find_stages([]).blocks() == ["no stages: no layer gives feature maps"]


@pytest.mark.parametrize("size", [(16,), (16, 16), (16, 16, 16)])
def test_any_number_of_dims(size: tuple[int, ...]) -> None:
    half = tuple(side // 2 for side in size)
    stages = find_stages([call("a", 4, *size), call("b", 8, *half)])
    assert [stage.resolution for stage in stages] == [size, half]
    assert stages.follow_the_rule
