"""Fake tensors that are still held after a look: caches are emptied, other holders are told."""

from __future__ import annotations

import functools
import gc
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fmstats.models.copies.leftovers import check_leftovers


def fake(mode: FakeTensorMode) -> Tensor:
    with mode:
        return torch.ones(3)


@pytest.fixture
def _uncollected() -> Iterator[None]:
    """Python does not collect of its own accord."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_uncollected")
def test_what_refers_only_to_itself_is_held_by_nobody() -> None:
    mode = FakeTensorMode()
    ring: list[object] = [fake(mode)]
    ring.append(ring)
    del ring
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_leftovers(mode)


def test_every_kind_of_holder_is_told_where_the_look_was() -> None:
    mode = FakeTensorMode()
    held = [fake(mode)], {"x": fake(mode)}, fake(FakeTensorMode())
    told = r"^fake tensors of analyze\(\), 2 of them, are held by what .* a dict, a list: whoever"
    with pytest.warns(UserWarning, match=told) as caught:
        check_leftovers(mode)
    assert [warning.filename for warning in caught] == [__file__]
    del held


def test_fake_tensors_of_others_are_left_to_them() -> None:
    others = [fake(FakeTensorMode())]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_leftovers(FakeTensorMode())
    assert len(others) == 1


def test_a_cache_is_emptied() -> None:
    mode, of_length = FakeTensorMode(), functools.lru_cache(torch.ones)
    with mode:
        of_length(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_leftovers(mode)
    assert of_length.cache_info().currsize == 0
