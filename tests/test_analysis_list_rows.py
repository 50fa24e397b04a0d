"""Rows from parts and what was seen of them, without a pass: sums, shares, and who has none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from torch import nn

from fmstats.analysis.fields import Field
from fmstats.analysis.records import Call, Trace, Work
from fmstats.analysis.roofline import find_gpu
from fmstats.analysis.rows import COLUMNS, LayerRow, Part, extent_of, list_parts, list_rows


def call(name: str, elements: int = 6, shape: tuple[int, ...] = (2, 3), leaf: bool = True) -> Call:
    return Call(name, leaf, shape, elements, 4 * elements, 0, None)


def rows_of(*parts: Part, calls: tuple[Call, ...] = (), **work: Work) -> dict[str, LayerRow]:
    found = Trace(list(calls), defaultdict(Work, work))
    named = {part.name: part for part in parts}
    return {row.name: row for row in list_rows(named, found, None, torch.float32)}


def part(name: str, params: int = 0, leaf: bool = True, first: Call | None = None) -> Part:
    return Part(name, "Linear", leaf, params, first)


def test_a_leaf_adds_up_its_calls() -> None:
    first, later = call("a", 6), call("a", 10, (5, 2))
    work = Work(flops=31, traffic=62, made=1, made_bytes=2)
    row = rows_of(part("a", 7, first=first), calls=(first, later), a=work)["a"]
    assert dict(row) == {
        **{"name": "a", "type": "Linear", "output_shape": (2, 3), "params": 7, "flops": 31},
        **{"macs": 15, "activation_elements": 16, "activation_bytes": 64, "calls": 2},
        **{"receptive_field": None, "stride": None, "traffic_bytes": 62, "intensity": 0.5},
        **{"bound": None, "params_share": 1.0, "flops_share": 1.0, "activations_share": 1.0},
    }


def test_a_block_has_what_its_own_operations_made() -> None:
    whole = call("b", 6, leaf=False)
    block = part("b", leaf=False, first=whole)
    work = Work(made=3, made_bytes=12)
    row = rows_of(block, calls=(whole,), b=work)["b"]
    assert (row.activation_elements, row.activation_bytes, row.calls) == (3, 12, 1)
    assert rows_of(block, calls=(whole,), b=Work(traffic=9, made_bytes=8)) == {}


@pytest.mark.parametrize("leaf", [True, False])
def test_who_has_a_row(leaf: bool) -> None:
    """Who holds or does something itself, and each leaf that ran."""
    assert rows_of(part("a", leaf=leaf)) == {}
    assert list(rows_of(part("a", 1, leaf=leaf))) == ["a"]
    assert list(rows_of(part("a", leaf=leaf), a=Work(flops=1))) == ["a"]
    ran = call("a", 0, leaf=leaf)
    assert list(rows_of(part("a", leaf=leaf, first=ran), calls=(ran,))) == (["a"] if leaf else [])


def test_shares_are_of_all_rows() -> None:
    calls = call("a", 30), call("b", 10)
    work = {"a": Work(flops=10, traffic=4), "b": Work(flops=30)}
    rows = rows_of(part("a", 1, first=calls[0]), part("b", 4, first=calls[1]), calls=calls, **work)
    shares = [(r.params_share, r.flops_share, r.activations_share) for r in rows.values()]
    assert shares == [(0.2, 0.25, 0.75), (0.8, 0.75, 0.25)]
    assert [r.intensity for r in rows.values()] == [2.5, 0]
    nothing = call("c", 0)
    row = rows_of(part("c", first=nothing), calls=(nothing,))["c"]
    assert (row.params_share, row.flops_share, row.activations_share) == (0, 0, 0)
    one = rows_of(part("d", 1), d=Work(flops=1, made=1))["d"]
    assert (one.params_share, one.flops_share) == (1, 1)


@pytest.mark.parametrize(
    ("size", "stride", "shown"),
    [
        ((3.0, 3.0), (2.0, 2.0), (3, 2)),
        ((3.0, 5.0), (2.0, 1.0), ((3, 5), (2, 1))),
        ((3.5,), (0.5,), (4, 0.5)),
        ((3.0000001, 2.999), (0.5, 2.0), (3, (0.5, 2))),
    ],
)
def test_fields_are_one_number_where_all_dims_agree(
    size: tuple[float, ...], stride: tuple[float, ...], shown: tuple[object, object]
) -> None:
    seen = replace(call("a"), field=Field(size, stride, 1))
    assert (extent_of(seen, "size"), extent_of(seen, "stride")) == shown
    row = rows_of(part("a", first=seen), calls=(seen,))["a"]
    assert (row.receptive_field, row.stride) == shown
    assert extent_of(None, "size") is extent_of(call("a"), "size") is None


@pytest.mark.parametrize(("flops", "bound"), [(1, "memory"), (10**9, "compute")])
def test_what_bounds_a_layer_is_told_of_a_gpu(flops: int, bound: str) -> None:
    found = Trace([], defaultdict(Work, a=Work(flops=flops, traffic=100)))
    (row,) = list_rows({"a": part("a")}, found, find_gpu("T4"), torch.float32)
    assert row.bound == bound


def test_a_row_is_a_mapping_of_its_columns() -> None:
    row = rows_of(part("a", 1))["a"]
    assert (list(row), len(row)) == (list(COLUMNS), len(COLUMNS))
    assert (row["params"], row.output_shape, row.calls) == (1, None, 0)
    with pytest.raises(KeyError, match="a layer has no 'items'; it has name, type, "):
        row["items"]


def test_parts_in_the_order_in_which_they_first_ended() -> None:
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared, nn.Linear(2, 3, bias=False)))
    model[2][1].weight = nn.Parameter(torch.ones(3, 2))
    calls = [call("1", 1), call("0", 2), call("1", 3), call("(model)", leaf=False)]
    parts = list_parts(model, Trace(calls, {}))
    assert list(parts) == ["1", "0", "(model)", "2", "2.1"]
    assert [each.own_params for each in parts.values()] == [0, 6, 0, 0, 6]
    assert [each.leaf for each in parts.values()] == [True, True, False, False, True]
    assert parts["1"].first is calls[0]
    assert parts["2.1"].first is None
    assert (parts["1"].type, parts["(model)"].type) == ("ReLU", "Sequential")


def test_parameters_count_where_they_are_first() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    parts = list_parts(nn.Sequential(a, b), Trace([call("1"), call("0")], {}))
    assert {name: each.own_params for name, each in parts.items()} == {
        **{"0": 6, "1": 2, "(model)": 0},
    }
