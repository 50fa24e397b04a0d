"""Twins without values: of a model's state and of what is large; small tensors keep theirs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from fmstats.models.copies.fakes import FakeTensors


def make_fakes(*state: Tensor) -> FakeTensors:
    fakes = FakeTensors(FakeTensorMode(), torch.device("cpu"))
    fakes.own(state)
    return fakes


@pytest.mark.parametrize(("elements", "values"), [(1 << 14, True), ((1 << 14) + 1, False)])
def test_what_has_at_most_64_kib_keeps_its_values(elements: int, values: bool) -> None:
    x = torch.rand(elements)
    for seen in (x, x[:1], x.view(1, -1)):  # of a large one a part, too
        twin = make_fakes().twin(seen)
        assert isinstance(twin, FakeTensor) != values
        assert (twin.shape, twin.stride(), twin.dtype) == (seen.shape, seen.stride(), seen.dtype)
        assert twin.device == seen.device
        assert not values or torch.equal(twin, seen)


def test_the_state_has_no_values_however_small() -> None:
    norm = nn.BatchNorm1d(3)
    fakes = make_fakes(*norm.parameters(), *norm.buffers())
    for x in (*norm.parameters(), *norm.buffers(), norm.weight.detach()[1:]):
        twin = fakes.twin(x)
        assert isinstance(twin, FakeTensor)
        assert isinstance(twin, nn.Parameter) == isinstance(x, nn.Parameter)
        assert (twin.requires_grad, twin.is_leaf) == (x.requires_grad, True)
        assert (twin.shape, twin.device) == (x.shape, x.device)


def test_views_of_one_memory_stay_so() -> None:
    x, other = torch.rand(200, 100), torch.rand(200, 100)
    fakes = make_fakes()
    twins = [fakes.twin(view) for view in (x, x.t(), x[1:, ::2])]
    assert [t.stride() for t in twins] == [(100, 1), (1, 100), (100, 2)]
    assert twins[2].storage_offset() == 100
    memories = {t.untyped_storage()._cdata for t in twins}
    assert len(memories) == 1
    assert fakes.twin(other).untyped_storage()._cdata not in memories


def test_what_has_no_values_has_none_afterwards() -> None:
    with FakeTensorMode():
        fake = torch.ones(2)
    for x in (torch.ones(2, device="meta"), fake):
        assert isinstance(make_fakes().twin(x), FakeTensor)


def test_sparse_tensors_keep_theirs_unless_they_have_none() -> None:
    """What products of them cost depends on what they hold."""
    x = torch.eye(3).to_sparse()
    twin = make_fakes().twin(x)
    assert not isinstance(twin, FakeTensor)
    assert torch.equal(twin.to_dense(), torch.eye(3))
    assert isinstance(make_fakes().twin(x.to("meta")), FakeTensor)
