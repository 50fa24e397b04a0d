"""Twins of tensors, and that what is written into them or set beside them is undone."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fmstats.models.copies.objects import Copier
from fmstats.models.copies.settings import _SETTINGS, settings_kept
from fmstats.models.copies.tensors import RealTensors, _same_device
from fmstats.models.copies.undo import Saving, undone


def address(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def test_parameters_are_read_where_they_are_and_all_else_is_copied() -> None:
    norm, tensors = nn.BatchNorm1d(3), RealTensors()
    tensors.own([*norm.parameters(), *norm.buffers()])
    shared = norm.weight.detach()[1:]
    for x, same in ((norm.weight, True), (shared, True), (norm.running_mean, False)):
        assert isinstance(x, Tensor)
        twin = tensors.twin(x)
        assert twin is not x
        assert type(twin) is type(x)
        assert (twin.shape, twin.stride(), twin.dtype) == (x.shape, x.stride(), x.dtype)
        assert (twin.requires_grad, twin.is_leaf) == (x.requires_grad, True)
        assert torch.equal(twin, x)
        assert (address(twin) == address(x)) == same
    assert set(tensors.aliased) == {norm.weight.untyped_storage()._cdata}


def test_views_of_one_memory_stay_so() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    tensors = RealTensors()
    twins = [tensors.twin(view) for view in (x, x.t(), x[1:, ::2])]
    assert [t.stride() for t in twins] == [(4, 1), (1, 4), (4, 2)]
    twins[0].fill_(7)
    assert all((t == 7).all() for t in twins)
    assert x[0, 1] == 1


@pytest.mark.parametrize("device", [None, torch.device("cpu"), torch.device("meta")])
def test_a_device_is_for_parameters_and_buffers_alone(device: torch.device | None) -> None:
    norm, beside, tensors = nn.BatchNorm1d(3), torch.ones(2), RealTensors(device)
    tensors.own([*norm.parameters(), *norm.buffers()])
    want = "cpu" if device is None else device.type
    assert tensors.twin(norm.weight).device.type == want
    assert tensors.twin(norm.running_var).device.type == want  # type: ignore[arg-type]
    assert tensors.twin(beside).device.type == "cpu"
    assert (address(tensors.twin(norm.weight)) == address(norm.weight)) == (want == "cpu")


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.to_sparse(),
        lambda x: torch.complex(x, x).conj(),
        lambda x: torch.complex(x, x).conj().imag,  # its sign is not in memory
        lambda x: torch.quantize_per_tensor(x, 0.5, 0, torch.qint8),
        lambda x: x.as_subclass(type("Named", (Tensor,), {})),
        lambda x: nn.Parameter(x, requires_grad=False),
    ],
)
def test_tensors_of_other_kinds(make: Callable[[Tensor], Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about quantized tensors
        x = make(torch.tensor([0.0, 1.0, -2.0]))
    twin = RealTensors().twin(x)
    assert twin is not x
    assert type(twin) is type(x)
    assert str(twin) == str(x)


def test_a_lazy_parameter_has_no_memory_yet() -> None:
    lazy = nn.LazyLinear(3).weight
    twin = RealTensors().twin(lazy)
    assert nn.parameter.is_lazy(twin)
    assert twin is not lazy


def test_a_device_without_a_number_is_any_of_its_kind() -> None:
    cpu, cuda, first, second = map(torch.device, ("cpu", "cuda", "cuda:0", "cuda:1"))
    assert [_same_device(first, to) for to in (cuda, first, second, cpu)] == [
        True,
        True,
        False,
        False,
    ]
    assert [_same_device(cpu, to) for to in (cpu, cuda)] == [True, False]


def test_modules_are_their_attributes_but_for_what_runs_the_user_s_own() -> None:
    for model in (nn.Linear(2, 2), nn.LSTM(2, 2)):
        model._compiled_call_impl = print  # type: ignore[assignment]
        before = dict(vars(model))
        copier = Copier(RealTensors())
        twin = copier.copy(model)
        assert twin._compiled_call_impl is None
        assert vars(model) == before
        assert vars(twin).keys() == before.keys() - {"_compiled_call_impl"}
        assert list(copier.classes) == [type(model)]


def test_modules_with_a_way_of_their_own_are_copied_by_it() -> None:
    class Own(nn.Module):
        told = 0

        def __getstate__(self) -> dict[str, Any]:
            return {**vars(self), "told": 1}

    assert Copier(RealTensors()).copy(nn.Sequential(Own()))[0].told == 1


WRITES: dict[str, Callable[[Tensor], object]] = {
    "in place": lambda x: x.add_(1).mul_(2),
    "twice": lambda x: (x.zero_(), x.fill_(3)),
    "by a view": lambda x: x[1:].copy_(torch.ones(3)),
    "out": lambda x: torch.add(torch.ones(4), 1, out=x),
    "a list": lambda x: torch._foreach_add_([x, torch.ones(2)], 1.0),
    "longer": lambda x: x.resize_(9).zero_(),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("ends", [True, False])
def test_bytes_that_are_written_are_put_back(name: str, ends: bool) -> None:
    x, beside = torch.arange(4.0), torch.zeros(3)
    storage = x.untyped_storage()
    try:
        with undone({storage._cdata: storage}):
            WRITES[name](x)
            beside.add_(1)
            if not ends:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert not ends
    assert storage.nbytes() == 16
    assert torch.empty(0).set_(storage).tolist() == [0, 1, 2, 3]
    assert beside.tolist() == [1, 1, 1]


def test_what_is_only_read_is_not_kept() -> None:
    x, index = torch.arange(4.0), torch.tensor([1])
    storages = {t.untyped_storage()._cdata: t.untyped_storage() for t in (x, index)}
    with Saving(storages) as saving:
        assert (x + 1).sum() == 10
        assert torch.add(x, 1, out=torch.empty(4)).shape == (4,)
    assert saving._saved == {}
    with saving:
        x.index_add_(0, index, torch.ones(1))  # which only reads the index
    assert set(saving._saved) == {x.untyped_storage()._cdata}


OTHERS: tuple[Any, ...] = (torch.float64, False, (True, True), 3, "medium", False)


@pytest.mark.parametrize("which", range(len(_SETTINGS)))
@pytest.mark.parametrize("ends", [True, False])
def test_settings_are_as_they_were(which: int, ends: bool) -> None:
    read, write = _SETTINGS[which]
    before = read()
    value = OTHERS[which] if which < len(OTHERS) else not before
    assert value != before
    try:
        with settings_kept():
            write(value)
            assert read() == value
            if not ends:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert not ends
    now = read()
    write(before)
    assert now == before


def test_random_numbers_and_warnings_go_on() -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    want = drawn()
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
    filters = list(warnings.filters)
    with settings_kept():
        assert drawn() == want  # a model draws what it would have drawn
        warnings.simplefilter("ignore")
    assert drawn() == want
    assert list(warnings.filters) == filters
