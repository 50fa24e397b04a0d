"""What is printed of a run."""

from __future__ import annotations

import pytest
import torch
from profile_files import profile_of
from torch import nn

from fmstats.errors import FmstatsError
from fmstats.output.tables import join_blocks
from fmstats.profiles.summary import choose_layers, describe_metadata, describe_run
from fmstats.runs import profile


@pytest.fixture
def result():
    torch.manual_seed(0)
    images = torch.randn(6, 3, 8, 8)
    images[0, 0, 0, 0] = float("nan")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Identity()))
    model.add_module("spare", nn.Identity())
    model.forward = lambda x: model[1](model[0](x))
    return profile(model, images)


def test_text_of_a_run(result):
    result.metadata["skipped"] = [f"{i}.png" for i in range(20)]
    text = join_blocks(describe_run(result))
    assert text.startswith("samples: 6, batches: 1, seconds: 0.")
    assert str(choose_layers(result)) in text
    assert f"Findings\n{result.diagnose()}" in text
    assert "non-finite" in text
    assert "Not measured\n  2.0 (Identity): never fired\n  spare (Identity): never fired\n" in text
    assert "\n\nLeft out: 20 samples or batches\n  0.png\n" in text
    assert text.endswith("  10.png\n  11.png\n  and 8 more")


@pytest.mark.parametrize(
    ("entries", "count", "title", "end"),
    [
        (["a.png"], 1, "Left out: 1 sample or batch", "\n  a.png"),
        (["a.png", "batch 7"], 12_345, "Left out: 12,345 samples or batches", "and 12,343 more"),
        (["a.png", "b.png"], "many", "Left out: 2 samples or batches", "\n  b.png"),
        (["a.png", "b.png"], None, "Left out: 2 samples or batches", "\n  b.png"),
    ],
)
def test_what_was_left_out_is_counted_beyond_the_list(result, entries, count, title, end):
    result.metadata |= {"skipped": entries, "skipped_count": count}
    text = join_blocks(describe_run(result))
    assert f"\n\n{title}\n  a.png" in text
    assert text.endswith(end)


def test_what_was_left_out_need_not_be_listed(result):
    result.metadata |= {"skipped": [], "skipped_count": 3}
    text = join_blocks(describe_run(result))
    assert text.endswith("\n\nLeft out: 3 samples or batches\n  and 3 more")
    result.metadata |= {"skipped": "none", "skipped_count": 0}
    assert "Left out" not in join_blocks(describe_run(result))


def test_merged_profiles(result):
    assert "merged" not in describe_metadata(result)
    assert "merged from 2 profiles\n" in describe_metadata(result | result) + "\n"
    result.metadata["data"] = "a.npy"
    assert "merged from 2 profiles: a.npy" in describe_metadata(result | result)


def test_chosen_layers(result):
    rows = result.layers()
    assert choose_layers(result).rows == rows
    assert choose_layers(result, layers=["1"]).rows == rows[1:]
    assert choose_layers(result, layers=["[01]"], sort="sparsity", top=1).rows == rows[1:]
    assert choose_layers(result, sort="-sparsity").rows == rows
    assert choose_layers(result, depth=1).rows == rows
    assert choose_layers(result, top=0).rows == []
    assert str(result) not in join_blocks(describe_run(result, choose_layers(result, top=0)))
    with pytest.raises(FmstatsError, match=r"--layer: 'x\.\*' matches none of the tracked layers"):
        choose_layers(result, layers=["1", "x.*"])
    with pytest.raises(FmstatsError, match="there is no column 'colour'; choose from layer, type"):
        choose_layers(result, sort="colour")


def test_reasons_are_given():
    class Count(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    blocks = describe_run(profile(nn.Sequential(nn.ReLU(), Count()), torch.randn(2, 3)))
    text = join_blocks(blocks)
    assert "Not measured\n  1 (Count): skipped, its output is int64" in text
    assert "Left out" not in text


def test_a_run_that_was_stopped_says_so() -> None:
    whole, part = profile_of({}, samples=3), profile_of({}, samples=2, interrupted=True)
    assert "stopped" not in describe_metadata(whole)
    assert "stopped before its end: not all of the data is in it" in describe_metadata(part)
    assert "stopped before its end" in describe_metadata(whole | part)


def test_when_it_was_is_told_where_both_ends_are_known() -> None:
    times = {"started": "2026-11-01T10:00:00", "ended": "2026-11-01T11:30:00"}
    told = describe_metadata(profile_of({}, **times))
    assert told == "from 2026-11-01T10:00:00 to 2026-11-01T11:30:00"
    for known in times:
        assert describe_metadata(profile_of({}, **{known: times[known]})) == ""


def test_what_differs_is_named() -> None:
    both = profile_of({}, a=1, b=2, c=3).merge(profile_of({}, a=2, b=3, c=3))
    lines = describe_metadata(both).split("\n")
    assert lines == ["merged from 2 profiles", "not the same in all of them: a, b"]
