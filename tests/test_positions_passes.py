"""Each pass has positions of its own: of a thread, of a call within another, of a graph."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.tracking.numbers_way import NumbersWay

N, T, C = 2, 5, 4
MASK = torch.arange(T) < torch.tensor([[5], [2]])
KEPT = int(MASK.sum())


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        out: Tensor = self.last(self.first(x).relu())
        return out


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def inputs() -> Tensor:
    return torch.linspace(-1, 1, N * T * C).reshape(N, T, C)


def counts(tracker: fmstats.Tracker) -> dict[str, int]:
    return {name: int(stats.count[0]) for name, stats in tracker.stats().items()}


def run_in_thread(function: Callable[[], object]) -> None:
    thread = Thread(target=function)
    thread.start()
    thread.join()


def test_positions_given_in_one_thread_are_not_those_of_another(model: Net) -> None:
    with fmstats.track(model) as tracker, tracker.positions(MASK):
        for _ in range(2):
            run_in_thread(lambda: model(inputs()))
            model(inputs())
    assert set(counts(tracker).values()) == {2 * N * T + 2 * KEPT}


def test_graphs_that_count_all_positions_are_given_none(model: Net, fresh_graphs: None) -> None:
    with torch.no_grad(), fmstats.track(model) as tracker:
        compiled = torch.compile(model, backend="aot_eager")
        compiled(inputs())
        with pytest.raises(FmstatsError, match="compiled"), tracker.positions(MASK):
            compiled(inputs())
        compiled(inputs())
    assert set(counts(tracker).values()) == {2 * N * T}
    assert tracker.stats().metadata["masked"] is False


@pytest.mark.parametrize("inside", [False, True])
def test_graphs_made_where_positions_are_given_ask_for_them(
    model: Net, fresh_graphs: None, inside: bool
) -> None:
    whole: Any = (lambda x: model(x)) if inside else model
    with torch.no_grad(), fmstats.track(model) as tracker:
        compiled = torch.compile(whole, backend="aot_eager")
        with tracker.positions(MASK):
            compiled(inputs())
        compiled(inputs())
        with tracker.positions(MASK):
            compiled(inputs())
    # A graph around the model is not handed its inputs: then masked passes are left out.
    assert set(counts(tracker).values()) == {N * T if inside else N * T + 2 * KEPT}


class CallsItself(nn.Module):
    """Its second call is within its first, whose mask is that of both."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.behind = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, x: Tensor, mask: Tensor, depth: int = 1) -> Tensor:
        x = self.before(x)
        if depth:
            x = self(x, ~mask, depth - 1)
        out: Tensor = self.behind(x)
        return out


def test_a_pass_goes_on_behind_one_within_it() -> None:
    model = CallsItself()
    with fmstats.track(model, mask="mask") as tracker:
        for _ in range(3):
            model(inputs(), MASK)
    assert counts(tracker) == {"before": 6 * KEPT, "behind": 6 * KEPT}


def test_a_pass_goes_on_behind_one_within_it_that_failed() -> None:
    class Tries(CallsItself):
        def forward(self, x: Tensor, mask: Tensor, depth: int = 1) -> Tensor:
            x = self.before(x)
            if not depth:
                raise ValueError("too deep")
            with pytest.raises(ValueError, match="too deep"):
                self(x, ~mask, 0)
            out: Tensor = self.behind(x)
            return out

    model = Tries()
    with fmstats.track(model, mask="mask") as tracker:
        for _ in range(3):
            model(inputs(), MASK)
    assert counts(tracker) == {"before": 6 * KEPT, "behind": 3 * KEPT}


@pytest.mark.parametrize("option", ["mask", "groups"])
def test_a_function_that_fails_does_not_fail_the_pass(model: Net, option: str) -> None:
    def ask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        found: Tensor = kwargs["valid"]
        return found

    options: dict[str, Any] = {option: ask}
    tracker = fmstats.track(model, **options)
    with pytest.warns(RuntimeWarning, match=rf"{option}.* raised KeyError: 'valid'"):
        model(inputs())
    assert counts(tracker) == {}
    tracker.close()
    with (
        fmstats.track(model, mask_mismatch="raise", **options),
        pytest.raises(FmstatsError, match="raised KeyError: 'valid'"),
    ):
        model(inputs())


@pytest.mark.parametrize("kind", ["sparse", "nested"])
def test_masks_of_other_layouts_do_not_fail_the_pass(model: Net, kind: str) -> None:
    nested = torch.nested.nested_tensor([MASK[0], MASK[1, :2]], layout=torch.jagged)
    tracker = fmstats.track(model, mask="mask")
    with pytest.warns(RuntimeWarning, match="the mask 'mask' is sparse or nested: give a dense"):
        model(inputs(), MASK.to_sparse() if kind == "sparse" else nested)
    tracker.close()


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int64])
def test_groups_are_whole_numbers_of_any_size(model: Net, dtype: torch.dtype) -> None:
    groups = torch.tensor([3, 127]).to(dtype)
    with fmstats.track(model, max_groups=200) as tracker, tracker.positions(groups=groups):
        model(inputs())
    assert list(tracker.stats().groups) == ["3", "127"]


def test_no_thread_comes_between_finding_positions_and_reading_them(
    model: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one may change how the numbers of positions are to be read."""
    tracker = fmstats.track(model, ["first"], functional=False)

    def run(mask: Tensor) -> None:
        with tracker.positions(mask):
            for _ in range(3):  # the first pass is followed, and the last goes the short way
                model(inputs())

    run(MASK[:, 0] & ~MASK[:, 4])
    find, other = NumbersWay.address, Thread(target=run, args=(MASK[:, 4],))

    def find_slowly(way: NumbersWay) -> int:
        found = find(way)
        if found and not other.ident:
            other.start()
            other.join(0.2)
        return found

    monkeypatch.setattr(NumbersWay, "address", find_slowly)
    run(MASK)
    other.join()
    assert counts(tracker) == {"first": 3 * T + 3 * KEPT + 3 * T}
    tracker.close()


class TakesAny(Net):
    def forward(self, x: Tensor, mask: Tensor | None = None, **_: Any) -> Tensor:
        return super().forward(x)


@pytest.mark.parametrize("option", ["mask", "groups"])
def test_a_name_that_nothing_has_is_told(option: str) -> None:
    model, options = TakesAny(), {option: "msk"}
    tracker = fmstats.track(model, **options)  # type: ignore[arg-type]
    with pytest.warns(RuntimeWarning, match="was given no argument 'msk'; closest: mask"):
        model(inputs())
    tracker.close()
    assert not tracker.stats()
    assert {row.status for row in tracker.coverage()} == {"unmasked"}


def test_a_name_that_is_given_may_be_left_out_later() -> None:
    model = TakesAny()
    with fmstats.track(model, mask="msk") as tracker:
        model(inputs(), msk=MASK)
        model(inputs())
    assert set(counts(tracker).values()) == {KEPT + N * T}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"mask": MASK.tolist()}, "the mask is a list: give a tensor"),
        ({"groups": "labels"}, "the tensor of groups is a str: give a tensor"),
        ({"mask": torch.ones(1, 1, 1, 1)}, r"the mask is of shape \(1, 1, 1, 1\)"),
    ],
)
def test_what_is_no_mask_is_refused_where_it_is_given(
    model: Net, given: dict[str, Any], text: str
) -> None:
    with fmstats.track(model) as tracker:
        with pytest.raises(FmstatsError, match=text), tracker.positions(**given):
            model(inputs())
        model(inputs())
    assert set(counts(tracker).values()) == {N * T}
