"""States know in which pass the first element came that is no finite number, with every backend."""

from __future__ import annotations

import math
from typing import SupportsIndex

import numpy as np
import pytest
import torch

from fmstats.backends.base import Backend
from fmstats.errors import FmstatsError
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import FIRSTS, NEVER
from fmstats.statistic.state import State, merge
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of
from fmstats.tracking.clocks import Clocks

LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: x.contiguous(memory_format=torch.channels_last),
    "strided": lambda x: x.repeat_interleave(2, 3)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_pass_of_each_channel(backend: Backend, layout: str, bad: float) -> None:
    """Channels of whole vectors and of the ragged end, each with its own first pass and step."""
    channels = 19
    state, clock = State.identity(channels), Clock()
    meter = backend.meter(state, Thresholds(), clock)
    born = {c: 2 + c % 4 for c in range(channels) if c % 3}
    for number in range(1, 8):
        clock.set("first_pass", number)
        clock.set("first_step", 10 * number)
        x = torch.randn(2, channels, 3, 5)
        for channel, first in born.items():
            if number >= first and number != 6:  # pass 6 is finite, and changes nothing
                x[1, channel, 2, 4] = bad
        x = LAYOUTS[layout](x)
        if not meter.try_update(x):
            meter.update(x, view_of(x, 1))
        assert clock.word("alarm") == (number in (2, 3, 4, 5, 7))
        clock.set("alarm", 0)
    assert state["first_pass"].tolist() == [born.get(c, NEVER) for c in range(channels)]
    steps = [10 * born[c] if c in born else NEVER for c in range(channels)]
    assert state["first_step"].tolist() == steps


def test_without_a_clock_nothing_is_known(backend: Backend) -> None:
    state, x = State.identity(2), torch.tensor([[1.0, math.nan]])
    backend.accumulate(state, x, view_of(x, 1), Thresholds())
    assert state["nan"].tolist() == [0, 1]
    assert [state[field].tolist() for field in FIRSTS] == [[NEVER] * 2] * 2


def test_a_channel_that_is_read_again_knows_its_pass(backend: Backend) -> None:
    """A tensor about a wrong pivot is read twice, and is told of all the same."""
    state, clock = State.identity(1), Clock()
    clock.set("first_pass", 3)
    for offset in (0.0, 1e6):
        x = offset + torch.randn(1, 1, 4096)
        x[0, 0, 7] = math.nan if offset else 0.0
        backend.accumulate(state, x, view_of(x, 1), Thresholds(), clock)
    assert state["first_pass"].tolist() == [3]


def test_a_merge_keeps_the_smaller() -> None:
    a, b = State.identity(3), State.identity(3)
    a["first_pass"][:2], b["first_pass"][1:] = torch.tensor([4, 9]), torch.tensor([2, 5])
    assert merge(a, b)["first_pass"].tolist() == [4, 2, 5]
    assert merge(b, a)["first_pass"].tolist() == [4, 2, 5]
    assert merge(a, State.identity(3))["first_pass"].tolist() == [4, 9, NEVER]


def test_a_device_advances_its_clock_by_itself() -> None:
    clock = Clock()
    clock.set("first_pass", 6)
    clock.advance("first_pass")
    assert (int(clock.word("first_pass")), int(clock.word("first_step"))) == (7, NEVER)


def test_all_clocks_show_one_time() -> None:
    clocks = Clocks()
    early = clocks.on(torch.device("cpu"))
    clocks.begin_pass()
    clocks.set_step(5)
    late = clocks.on(torch.device("meta"))
    assert late.words.is_meta
    assert early.words.tolist()[:3] == [1, 5, 0]
    assert clocks.on(torch.device("cpu")) is early
    assert clocks.step == 5
    clocks.set_step(None)
    assert clocks.step is None
    assert early.words.tolist()[:3] == [1, NEVER, 0]


@pytest.mark.parametrize("step", [4, np.int64(4), torch.tensor(4)])
def test_any_integer_is_a_step(step: SupportsIndex) -> None:
    clocks = Clocks()
    clocks.set_step(step)
    assert type(clocks.step) is int
    assert clocks.step == 4


@pytest.mark.parametrize("step", [-1, 2.0, "3", NEVER])
def test_a_step_is_a_count(step: object) -> None:
    with pytest.raises(FmstatsError, match="a tracker's step is an integer from 0 on"):
        Clocks().set_step(step)  # type: ignore[arg-type]
