"""What `coverage()` says of each selected layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.profiles.coverage import Coverage, CoverageRow, describe_not_measured, describe_row


class Apply(nn.Module):
    """A layer that gives whatever a function gives."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def row_of(layer: nn.Module, x: Tensor, **options: object) -> CoverageRow:
    with fmstats.track(layer, **options) as tracker:  # type: ignore[arg-type]
        layer(x)
    (row,) = tracker.coverage()
    assert (row.status == "tracked") == ("(model)" in tracker.stats())
    return row


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x.argmax(1), "its output is int64"),
        (lambda x: x > 0, "its output is bool"),
        (lambda x: torch.complex(x, x), "its output is complex64"),
        (lambda x: x.to_sparse(), "its output is sparse_coo, not strided"),
        (lambda x: x.sum(), "its output is a single number"),
        (lambda x: None, "its output holds no tensor (NoneType)"),
        (lambda x: 3, "its output holds no tensor (int)"),
        (lambda x: {"loss": 1.0}, "its output holds no tensor (dict)"),
        (lambda x: (x > 0, x.argmax(1)), "its output is bool"),
    ],
)
def test_skipped(function: Callable[[Tensor], object], reason: str) -> None:
    assert row_of(Apply(function), torch.randn(2, 3)) == CoverageRow(
        "(model)", "Apply", "skipped", reason, 0
    )


def test_nested_tensors_are_skipped() -> None:
    """What nn.TransformerEncoder makes of padded sequences in eval mode."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1).eval()
    padding = torch.tensor([[False, False, True], [False, False, False]])
    x = torch.randn(2, 3, 8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about nested tensors
        with fmstats.track(encoder) as tracker:
            encoder(x, src_key_padding_mask=padding)
    rows = {row.name: row for row in tracker.coverage()}
    assert rows["layers.0.dropout1"].status == "skipped"
    assert "nested" in (rows["layers.0.dropout1"].reason or "")


def test_an_input_is_called_an_input() -> None:
    row = row_of(nn.Embedding(4, 5), torch.zeros(2, 3, dtype=torch.int64), of="input")
    assert (row.status, row.reason) == ("skipped", "its input is int64")


def test_the_three_states() -> None:
    model = nn.Sequential(nn.Linear(3, 4), Apply(lambda x: x > 0))
    model.add_module("spare", nn.ReLU())
    model.forward = lambda x: model[1](model[0](x))  # type: ignore[method-assign]
    with fmstats.track(model) as tracker:
        assert {row.status for row in tracker.coverage()} == {"never fired"}
        model(torch.randn(2, 3))
        model(torch.randn(2, 3))
    coverage = tracker.coverage()
    assert list(coverage) == [
        CoverageRow("0", "Linear", "tracked", None, 2, "dim 1 by its type"),
        CoverageRow("1", "Apply", "skipped", "its output is bool", 0),
        CoverageRow("spare", "ReLU", "never fired", None, 0),
    ]
    assert list(tracker.stats()) == ["0"]
    assert str(coverage).split("\n") == [
        "layer  type    status       reason              channels           calls",
        "0      Linear  tracked                          dim 1 by its type      2",
        "1      Apply   skipped      its output is bool                         0",
        "spare  ReLU    never fired                                             0",
    ]
    assert repr(coverage).startswith("Coverage(3 layers)\nlayer ")


def test_calls_under_per_call() -> None:
    act = nn.ReLU()
    model = nn.Sequential(act, nn.Identity(), act)
    with fmstats.track(model, per_call=True) as tracker:
        model(torch.randn(2, 3))
    assert [(row.name, row.calls) for row in tracker.coverage()] == [("0", 2), ("1", 1)]


def test_a_paused_tracker_saw_nothing() -> None:
    model = nn.ReLU()
    with fmstats.track(model) as tracker:
        tracker.pause()
        model(torch.randn(2, 3))
    assert tracker.coverage()[0].status == "never fired"


def test_a_reset_forgets_reasons() -> None:
    model = nn.Identity()
    with fmstats.track(model) as tracker:
        model(torch.ones(2, 3, dtype=torch.int64))
        assert tracker.coverage()[0].status == "skipped"
        tracker.reset()
    assert tracker.coverage()[0] == CoverageRow("(model)", "Identity", "never fired", None, 0)


def test_a_sequence() -> None:
    rows = [CoverageRow(name, "ReLU", "tracked", None, 1) for name in "abc"]
    coverage = Coverage(rows)
    assert (len(coverage), coverage[1], coverage[1:]) == (3, rows[1], rows[1:])


def test_a_row_in_words() -> None:
    row = {"name": "a", "type": "ReLU", "status": "skipped", "reason": "its output is bool"}
    assert describe_row(row) == "a (ReLU): skipped, its output is bool"
    for none in ({}, {"reason": None}, {"reason": ""}):
        assert describe_row({"name": "a", "type": "ReLU", "status": "never fired", **none}) == (
            "a (ReLU): never fired"
        )


@pytest.mark.parametrize(
    ("number", "title", "end"),
    [
        (1, "1 selected layer", ["  0 (ReLU): never fired"]),
        (5, "5 selected layers", ["  4 (ReLU): never fired"]),
        (6, "6 selected layers", ["  4 (ReLU): never fired", "  and 1 more"]),
        (1205, "1,205 selected layers", ["  4 (ReLU): never fired", "  and 1,200 more"]),
    ],
)
def test_the_first_of_those_not_measured_are_named(number: int, title: str, end: list[str]) -> None:
    rows = [{"name": str(i), "type": "ReLU", "status": "never fired"} for i in range(number)]
    lines = describe_not_measured(rows).split("\n")
    assert lines[0] == f"not measured, or not all of it: {title}"
    assert lines[1] == "  0 (ReLU): never fired"
    assert lines[-len(end) :] == end
    assert len(lines) == min(number, 5) + 1 + (number > 5)
