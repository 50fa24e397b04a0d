"""The parts of one run, and what they give together, without processes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from fmstats.runs import profile
from fmstats.runs.reading import Share
from fmstats.runs.shards import join_launched, join_parts, merge_shards, path_of, share_of

ROWS = torch.randn(23, 6, generator=torch.Generator().manual_seed(1))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU())


def run(rows, **changes):
    made = profile(net(), [(batch, torch.zeros(len(batch))) for batch in rows.split(4)])
    made.metadata.update(changes)
    return made


def test_parts_are_joined():
    parts = [run(ROWS[:12], seconds=2.0), run(ROWS[12:20], seconds=3.0), run(ROWS[20:])]
    for part, backends in zip(parts, ({"x": "1"}, {"x": "2", "y": "3"}, {"z": "4"}), strict=True):
        part.metadata["backends"] = backends
    whole, alone = join_parts(parts), run(ROWS)
    assert whole.metadata["processes"] == 3
    assert [whole.metadata[key] for key in ("samples", "batches")] == [23, 6]
    assert (whole.metadata["passes"], whole.metadata["passes_measured"]) == (6, 6)
    assert whole.metadata["seconds"] == 3.0
    assert whole.metadata["backends"] == {"x": "2", "y": "3", "z": "4"}
    assert list(whole) == list(alone)
    for layer in whole:
        assert whole[layer].count.tolist() == alone[layer].count.tolist()
        assert whole[layer].max.tolist() == alone[layer].max.tolist()


@pytest.mark.parametrize("place", [0, 1])
def test_a_part_without_a_layer_takes_nothing_away(place):
    """A process may have had no batch."""
    some = run(ROWS)
    empty = type(some)({}, {**some.metadata, "samples": 0, "batches": 0})
    whole = join_parts([empty, some] if place == 0 else [some, empty])
    assert list(whole) == list(some)
    assert [whole.metadata[key] for key in ("samples", "batches", "processes")] == [23, 6, 2]
    assert list(join_parts([empty, empty])) == []


def test_names_of_checkpoints():
    path = Path("folder/run.fmstats")
    assert path_of(path, Share()) == path
    assert path_of(path, Share(1, 4)) == Path("folder/run.rank1of4.fmstats")


def test_alone():
    some = run(ROWS)
    assert share_of(None) == Share(0, 1, 0)
    assert merge_shards(some, None) is some


@pytest.mark.parametrize("size", [None, "1"])
@pytest.mark.parametrize("device", [None, "cuda"])
def test_one_process_joins_nobody(monkeypatch, size, device):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    with join_launched(device) as found:
        assert found == (Share(), device)


@pytest.mark.parametrize("device", [None, "cpu", "cuda"])
@pytest.mark.parametrize("local", [None, "3"])
def test_a_launched_process_has_a_gpu_of_its_own(monkeypatch, device, local):
    import torch.distributed as dist

    told = []
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.setattr(dist, "init_process_group", lambda kind, timeout: told.append(kind))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: told.append("destroyed"))
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda among=None: 2)
    monkeypatch.setattr(dist, "get_world_size", lambda among=None: 4)
    with join_launched(device) as found:
        assert told == ["gloo"]
        own = f"cuda:{local or 0}" if device == "cuda" else device
        assert found == (Share(2, 4), own)
    assert told == ["gloo", "destroyed"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("first", [0, 1, 4, 7])
def test_shares_are_all_that_is_left_once(ranks, first):
    shares = [Share(rank, ranks, first) for rank in range(ranks)]
    for stop in (0, 5, 17):
        numbers = [list(share.numbers(stop)) for share in shares]
        assert sorted(itertools.chain(*numbers)) == list(range(first, stop))
        for share, own in zip(shares, numbers, strict=True):
            assert own == [n for n in range(stop) if share.has(n)]
