"""Blocks of layers that the page of a large model folds."""

from __future__ import annotations

from fmstats.report.blocks import cut_blocks


def test_blocks_are_runs_of_names_that_begin_alike() -> None:
    names = ["stem.conv", *(f"stage.{i}.conv.{j}" for i in range(5) for j in range(10)), "head"]
    assert cut_blocks(names) == [
        ("stem.conv", 1),
        *((f"stage.{i}.conv", 10) for i in range(5)),
        ("head", 1),
    ]


def test_as_deep_as_there_are_few_blocks() -> None:
    names = [f"a.{i}.{j}" for i in range(10) for j in range(10)]
    assert cut_blocks(names) == [(f"a.{i}", 10) for i in range(10)]


def test_operations_are_in_the_block_of_their_module() -> None:
    names = [f"b.{i}.conv" if j else f"b.{i}/add" for i in range(8) for j in range(5)]
    assert sum(count for _, count in cut_blocks(names)) == len(names)
    assert {name for name, _ in cut_blocks(names)} >= {"b.0"}


def test_few_layers_and_names_that_show_nothing_are_not_folded() -> None:
    assert cut_blocks([f"a.{i}.{j}" for i in range(3) for j in range(13)]) == []
    assert cut_blocks([f"layer{i}" for i in range(60)]) == []
    assert cut_blocks([f"only.{i}" for i in range(60)]) == []
