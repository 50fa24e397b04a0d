"""A batch counts whole or not at all, and passes are numbered over all lives of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.runs.batch_runner import BatchRunner, Placement
from fmstats.runs.cost import Cost
from fmstats.runs.stopping import Interrupts
from fmstats.sources.batches import ModelInput

NOWHERE = Placement(None, None, False)


class Called(nn.Module):
    """Calls what a test gives it, after its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Identity(), nn.Identity()
        self.then: Callable[[], object] = lambda: None
        self.modes: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.modes.append(torch.is_grad_enabled())
        x = self.first(x)
        self.then()
        return self.last(x)


_trackers: list[fmstats.Tracker] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    while _trackers:
        _trackers.pop().close()


class Clockwork:
    """A runner over a model, with what a run has."""

    def __init__(
        self, passes: int = 0, every: int = 1, placement: Placement = NOWHERE, **options: Any
    ) -> None:
        self.model = Called()
        self.tracker = fmstats.track(self.model, every=every, **options)
        _trackers.append(self.tracker)
        self.runner = BatchRunner(
            *(self.model, self.model, self.tracker, placement),
            *(Cost([], every, passes), Interrupts()),
            passes=passes,
            every=every,
        )

    def run(self, value: float = 1.0, number: int = 0, dtype: torch.dtype = torch.float32) -> None:
        self.runner.run_batch(number, ModelInput((torch.full((1, 1), value).to(dtype),)))

    def fail(self, error: BaseException) -> None:
        def then() -> None:
            raise error

        self.model.then = then

    @property
    def seen(self) -> dict[str, list[int]]:
        found = self.tracker.stats()
        return {name: [found[name].count[0], found[name].max[0]] for name in found}


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("passes", range(5))
def test_measured_are_passes_of_the_same_numbers_however_often_a_run_went_on(
    every: int, passes: int
) -> None:
    made, measured = Clockwork(passes, every), []
    assert made.runner.passes == passes
    for number in range(passes, passes + 7):
        before = made.seen.get("last", [0])[0]
        made.run(number)
        if made.seen.get("last", [0])[0] > before:
            assert made.seen["last"] == [before + 1, number]
            measured.append(number)
    assert measured == [n for n in range(passes, passes + 7) if n % every == 0]
    assert made.runner.passes == passes + 7
    assert made.runner.idle == -passes % every
    assert made.runner.idle + made.tracker.stats().metadata["passes"] == 7


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), FmstatsError("no")])
def test_a_batch_that_fails_leaves_no_trace(device: torch.device | None, error: Exception) -> None:
    made = Clockwork(placement=Placement(device, None, False))
    made.run(1)
    made.fail(error)
    with pytest.raises(FmstatsError, match=r"batch 2\b.*no") as caught:
        made.run(2, number=1)
    assert caught.value.__cause__ is error
    assert (made.seen, made.runner.passes) == ({"first": [1, 1], "last": [1, 1]}, 1)
    assert not made.runner.lost
    made.model.then = lambda: None
    made.run(3)
    assert (made.seen, made.runner.passes) == ({"first": [2, 3], "last": [2, 3]}, 2)


def test_a_signal_goes_on_as_it_is_and_leaves_no_trace() -> None:
    made, error = Clockwork(), KeyboardInterrupt()
    made.fail(error)
    with pytest.raises(KeyboardInterrupt) as caught:
        made.run()
    assert caught.value is error
    assert (made.seen, made.runner.passes) == ({}, 0)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("no")])
@pytest.mark.parametrize("broken", [False, True])
def test_a_device_that_has_failed_is_told(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, broken: bool
) -> None:
    class Device:
        waited = 0

        def synchronize(self) -> None:
            self.waited += 1
            if broken:
                raise RuntimeError("device-side assert")

    device = Device()
    monkeypatch.setattr(torch, "get_device_module", lambda of: device)
    monkeypatch.setattr(ModelInput, "to", lambda self, *_: self)
    made = Clockwork(placement=Placement(torch.device("cuda"), None, False))
    made.fail(error)
    told = "the device .* after .*no.*: RuntimeError: device-side assert"
    if broken:
        with pytest.raises(FmstatsError, match=told):
            made.run()
    else:
        with pytest.raises((FmstatsError, KeyboardInterrupt), match=r"no"):
            made.run()
    assert made.runner.lost == broken
    assert device.waited == 1


def needing_grad(made: Clockwork, then: Callable[[], object] = lambda: None) -> None:
    def differentiate() -> None:
        if not torch.is_grad_enabled():
            raise RuntimeError("element 0 of tensors does not require grad and has no grad_fn")
        then()

    made.model.then = differentiate


def test_a_model_that_needs_gradients_gets_them_from_then_on() -> None:
    made = Clockwork()
    needing_grad(made)
    for _ in range(3):
        made.run()
    assert made.model.modes == [False, True, True, True]
    assert made.seen == {"first": [3, 1], "last": [3, 1]}
    made.fail(RuntimeError("it does not require grad"))  # with them
    with pytest.raises(FmstatsError, match="does not require grad"):
        made.run()
    assert made.model.modes == [False, True, True, True, True]


def test_gradients_that_do_not_help_are_not_kept() -> None:
    made = Clockwork()

    def fail() -> None:
        raise ValueError("something else")

    needing_grad(made, fail)
    for _ in range(2):
        with pytest.raises(FmstatsError, match="something else"):
            made.run()
    assert made.model.modes == [False, True] * 2
    made.model.then = lambda: None
    made.run()
    assert made.model.modes[4:] == [False]


def test_no_other_error_is_tried_again() -> None:
    made = Clockwork()
    for error in (RuntimeError("shapes"), ValueError("does not require grad")):
        made.fail(error)
        with pytest.raises(FmstatsError):
            made.run()
    assert made.model.modes == [False, False]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
@pytest.mark.parametrize("key", [None, "x"])
def test_whole_numbers_of_pictures_are_advised_on(dtype: torch.dtype, key: str | None) -> None:
    made, x = Clockwork(), torch.zeros(1, 1, dtype=dtype)
    made.fail(ValueError("no"))
    given = ModelInput((), {"x": x}) if key else ModelInput((x, 1))
    with pytest.raises(FmstatsError, match=r"^the model refused batch 5, ") as caught:
        made.runner.run_batch(4, given)
    advised = str(caught.value).endswith(
        "; uint8 numbers are not scaled: give floats, such as images / 255"
    )
    assert advised == (dtype is torch.uint8)


def test_inputs_go_where_they_belong() -> None:
    made = Clockwork(placement=Placement(torch.device("cpu"), torch.float64, True))
    seen = []
    made.model.first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    made.runner.run_batch(0, ModelInput((torch.zeros(2, 3, 4, 5),)))
    assert seen[0].dtype == torch.float64
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
