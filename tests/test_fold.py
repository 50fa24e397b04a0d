"""`fmstats::fold` merges the partials of graphs into states, by PyTorch's operations."""

from __future__ import annotations

import math
from typing import Any

import partials
import pytest
import torch
from partials import Layer, arguments, fold, open_clock
from samples import make
from tolerances import ROUNDING, assert_equal_states
from torch import Tensor

from fmstats.backends.pytorch import TorchBackend
from fmstats.errors import FmstatsError
from fmstats.graph_ops import fold as operation
from fmstats.statistic.fields import COMPARISONS, MODES, NEVER, NON_FINITE
from fmstats.statistic.float_order import at_order_keys, order_keys
from fmstats.statistic.packing import Packing, count_names
from fmstats.statistic.partials import add_planes, split, to_state
from fmstats.statistic.state import State

# But for "neighbours", whose mean is 10^7 deviations: sums about 0 are for up to 10^4.
KINDS = (
    *("normal", "relu", "constant", "zero", "negative zero", "two values"),
    *("large mean", "subnormal", "tiny", "huge", "masked", "nan and inf"),
    *("constant among nan", "all nan", "all inf"),
)
# Of float64 lanes about 0: a mean of 1,000 deviations costs six digits of sixteen.
LANES = (1e-12, 1e-9)
TORCH = TorchBackend()


def folded(*layers: Layer) -> None:
    clock = open_clock()
    fold(TORCH, layers, clock)
    bad = any(not layer.x.isfinite().all() for layer in layers)
    assert clock.words.tolist()[:3] == [7, 40, int(bad)]
    for layer in layers:
        assert int(layer.state.memory[-1]) >= 1  # type: ignore[index]
        assert_equal_states(layer.state, layer.want, LANES, layer)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data(kind: str, mode: str) -> None:
    """Twice into one state, with the batch kept and not."""
    for planes in (True, False):
        layer = Layer(make(kind, (5, 6, 50), torch.float32), mode, planes)
        folded(layer)
        layer.x = make(kind, (3, 6, 20), torch.float32)
        folded(layer)
        assert int(layer.state.memory[-1]) == 2  # type: ignore[index]


def test_rounding_makes_no_m2_below_zero() -> None:
    """Of float64 sums, where the mean is more deviations than they have digits for."""
    x = (1 + torch.rand(64)).view(1, 64, 1).repeat(8, 1, 61)
    x[0, :, 0] = x[0, :, 0].nextafter(torch.tensor(2.0))
    layer = Layer(x)
    parts = split(layer.partials(), "plain", layer.packing)
    sums, squares = (parts[name].sum(0) for name in ("sum", "sum_sq"))
    below = squares - sums * (sums / layer.positions) < 0
    assert below.any()
    fold(TORCH, [layer])
    assert (layer.state["m2"][below] == 0).all()
    assert (layer.state["m2"] >= 0).all()


def test_nothing_finite_has_no_mean() -> None:
    layer = Layer(torch.full((2, 3, 5), math.nan))
    part = add_planes(split(layer.partials(), "plain", layer.packing), layer.packing)
    state = to_state(part, layer.positions)
    assert state["nan"].tolist() == state["count"].tolist() == [10] * 3
    assert state["mean"].tolist() == state["m2"].tolist() == [0.0] * 3
    assert state["min"].tolist() == [math.inf] * 3


@pytest.mark.parametrize("words", [{"enabled": 0}, {"phase": 1}, {"phase": -1}])
def test_a_closed_gate_lets_nothing_through(words: dict[str, int]) -> None:
    x = make("nan and inf", (3, 4, 30), torch.float32)
    layer, clock = Layer(x), open_clock()
    fold(TORCH, [layer], clock)
    clock.set("alarm", 0)
    for name, value in words.items():
        clock.set(name, value)
    before, shown = layer.state.memory.clone(), clock.words.clone()  # type: ignore[union-attr]
    layer.x = x * 2
    TORCH.fold(*arguments([layer], clock))  # type: ignore[arg-type]
    assert torch.equal(layer.state.memory, before)  # type: ignore[arg-type]
    assert torch.equal(clock.words, shown)


def test_one_state_of_several_layers() -> None:
    """A module that is called twice has one state: its tensors are merged one after the other."""
    first = Layer(torch.randn(4, 5, 20))
    other = Layer(torch.randn(4, 3, 20), "all")
    again = Layer(torch.randn(2, 5, 9) + 4, planes=False, state=first.state, want=first.want)
    folded(first, other, again)
    assert int(first.state.memory[-1]) == 2  # type: ignore[index]
    assert first.state["count"].tolist() == [80 + 18] * 5


def test_the_first_pass_of_each_channel() -> None:
    layer, clock = Layer(torch.randn(2, 3, 20)), open_clock()
    for number, channel in ((1, None), (2, 2), (3, 0), (4, 2)):
        clock.set("first_pass", number)
        layer.x = torch.randn(2, 3, 20)
        if channel is not None:
            layer.x[1, channel, 5] = -math.inf
        clock.set("alarm", 0)
        fold(TORCH, [layer], clock)
        assert int(clock.word("alarm")) == (channel is not None)
    assert layer.state["first_pass"].tolist() == [3, NEVER, 2]
    assert layer.state["first_step"].tolist() == [40, NEVER, 40]


def test_any_split_into_planes_gives_the_same() -> None:
    x = make("nan and inf", (12, 4, 20), torch.float32)
    states = []
    for shape in ((12, 20), (6, 40), (2, 120), (1, 240)):
        rows = x.transpose(0, 1).reshape(4, *shape).transpose(0, 1)
        layer = Layer(rows.contiguous(), "all")
        folded(layer)
        states.append(layer.state)
    for state in states[1:]:
        assert_equal_states(state, states[0], ROUNDING)


def test_folding_is_merging() -> None:
    """The parts of a batch, folded one after the other, are the batch."""
    x = make("nan and inf", (8, 5, 40), torch.float32)
    whole, pieces = Layer(x), Layer(x[:3])
    folded(whole)
    for piece in (x[:3], x[3:4], x[4:]):
        pieces.x = piece
        fold(TORCH, [pieces])
    assert_equal_states(pieces.state, whole.state, ROUNDING)


def test_a_processor_that_flushes_subnormal_numbers_changes_nothing() -> None:
    layer = Layer(make("subnormal", (3, 2, 20), torch.float32))
    args: Any = arguments([layer], open_clock())
    fold(TORCH, [same := Layer(layer.x)])
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        TORCH.fold(*args)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(layer.state.words, same.state.words)


def test_keys_are_in_the_order_of_numbers() -> None:
    numbers = torch.tensor([-math.inf, -2.0, -1e-45, -0.0, 0.0, 1e-45, 1.5, math.inf])
    keys = order_keys(numbers)
    assert keys.tolist() == sorted(set(keys.tolist()))
    assert at_order_keys(keys).tolist() == numbers.double().tolist()
    assert str(at_order_keys(keys)[3].item()) == "0.0"


@pytest.mark.parametrize(
    "positions", [1, 7, 8, 15, 16, 49, 63, 64, 255, 256, 4095, 4096, 2**24 - 1]
)
def test_counts_are_packed_without_loss(positions: int) -> None:
    """All that a count can be, in every place: the others neither lose nor get a bit."""
    packing = Packing.of(positions)
    assert packing.bits * packing.together <= 24 < packing.bits * (packing.together + 1)
    names = [str(place) for place in range(packing.together)]
    counts = torch.tensor([0, 1, positions // 2, positions - 1, positions])
    for place in range(packing.together):
        given = [torch.full_like(counts, positions)] * packing.together
        given[place] = counts
        packed = packing.pack(given)
        assert packed.dtype == torch.float32
        unpacked = packing.unpack(packed, names)
        assert all(
            torch.equal(unpacked[name], count) for name, count in zip(names, given, strict=True)
        )


@pytest.mark.parametrize("positions", [-1, 0, 2**24])
def test_positions_that_float32_does_not_count(positions: int) -> None:
    with pytest.raises(FmstatsError, match=f"1 to 16777215 positions, got {positions}"):
        Packing.of(positions)


def test_the_counts_of_each_mode() -> None:
    assert count_names("plain") == (*NON_FINITE, "zeros")
    assert count_names("upper") == (*NON_FINITE, "zeros", "sat_high")
    assert count_names("all") == NON_FINITE + COMPARISONS


def test_the_operation_is_what_it_declares() -> None:
    x = make("nan and inf", (3, 4, 30), torch.float32)
    layers = [Layer(x, "all"), Layer(x[:, :2].contiguous(), planes=False)]
    torch.library.opcheck(torch.ops.fmstats.fold.default, arguments(layers, open_clock()))


def test_the_operation_folds_by_the_backend_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chosen(TorchBackend):
        prepared = folded = 0

        def prepare_fold(self, device: torch.device) -> None:
            self.prepared += 1

        def fold(self, *args: Any) -> None:
            self.folded += 1
            super().fold(*args)

    layer, chosen = Layer(torch.randn(3, 4, 30)), Chosen()
    monkeypatch.setattr(operation, "_backends", {})
    monkeypatch.setattr("fmstats.backends.BACKENDS", (chosen,))
    args: Any = arguments([layer], open_clock())
    torch.ops.fmstats.fold(*args)
    operation.prepare(torch.device("cpu"))
    operation.fold(*args)
    assert (chosen.prepared, chosen.folded) == (2, 2)
    same = Layer(layer.x)
    for _ in range(2):
        fold(TORCH, [same])
    assert torch.equal(layer.state.memory, same.state.memory)  # type: ignore[arg-type]


def test_a_compiled_graph_folds_as_it_does_itself() -> None:
    """Also one state of two layers, which the operation declares to change twice."""

    def forward(x: Tensor, states: list[Tensor], clock: Tensor) -> Tensor:
        y = x * 2
        torch.ops.fmstats.fold(
            *([part * 1 for part in parts], [states[0], states[1], states[0]], clock),
            *([x.shape[0] * x.shape[2]] * 3, [0] * 3),
        )
        return y

    layer = Layer(torch.randn(3, 4, 30))
    parts, results = [layer.partials()] * 3, []
    for run in (forward, torch.compile(forward)):
        states, clock = [State.identity(4), State.identity(4)], open_clock()
        for _ in range(2):
            run(layer.x, [state.memory for state in states], clock.words)  # type: ignore[misc]
        results.append(torch.cat([state.memory for state in states]))  # type: ignore[misc]
        assert states[0]["count"].tolist() == [4 * 90] * 4
        assert states[1]["count"].tolist() == [2 * 90] * 4
    assert torch.equal(*results)


@pytest.mark.parametrize(("change", "text"), partials.MISFITS)
def test_arguments_that_do_not_fit(change: Any, text: str) -> None:
    args: Any = [*arguments([Layer(torch.randn(3, 4, 30))], open_clock())]
    change(args)
    with pytest.raises(FmstatsError, match=text):
        TORCH.fold(*args)
