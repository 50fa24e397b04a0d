"""Choosing a backend, and what is refused before one is called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

import fmstats
from fmstats.backends import BACKENDS, choose_backend, list_backends, native
from fmstats.backends.cpu import CpuBackend
from fmstats.errors import FmstatsError

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.mark.skipif(os.environ.get("FMSTATS_NATIVE") == "0", reason="FMSTATS_NATIVE=0: no cpu")
def test_the_backend_that_most_tests_are_of_is_here() -> None:
    """Lists of the usable backends are shorter without it, and no test says so."""
    assert CpuBackend().why_not() is None, "build it, or run the tests with FMSTATS_NATIVE=0"
    assert CpuBackend().isas[-1] == "baseline"


def test_auto_takes_the_best_usable() -> None:
    best = "cpu" if CpuBackend().why_not() is None else "torch"
    assert choose_backend("auto", CPU).name == best
    assert choose_backend("auto", torch.device("cuda")).name == "torch"


def test_every_backend_is_listed() -> None:
    rows = list_backends()
    assert [row.name for row in rows] == [b.name for b in BACKENDS]
    assert all(row.detail for row in rows)


def test_unknown_backend() -> None:
    with pytest.raises(FmstatsError, match="no backend is called 'gpu'; usable here: auto, "):
        choose_backend("gpu", CPU)


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ImportError], None]]:
    """Has the native module not be there for a reason."""

    def hide(reason: ImportError) -> None:
        def fail(name: str) -> None:
            raise reason

        monkeypatch.setattr(native.importlib, "import_module", fail)
        native._load.cache_clear()

    yield hide
    monkeypatch.undo()
    native._load.cache_clear()


def test_a_named_backend_is_never_replaced(
    without_native: Callable[[ImportError], None],
) -> None:
    without_native(ModuleNotFoundError("No module named 'fmstats._native'"))
    with pytest.raises(FmstatsError, match=r"'cpu' cannot be used: .*FMSTATS_NATIVE=0.*torch"):
        choose_backend("cpu", CPU)
    assert choose_backend("auto", CPU).name == "torch"


def test_a_native_module_that_cannot_be_loaded(
    without_native: Callable[[ImportError], None],
) -> None:
    without_native(ImportError("libgomp.so.1: cannot open shared object file"))
    assert native.load_native() is None
    with pytest.raises(FmstatsError, match=r"cannot be loaded: libgomp.so.1: cannot open shared"):
        choose_backend("cpu", CPU)


def test_a_backend_for_another_device() -> None:
    if CpuBackend().why_not() is not None:
        pytest.skip("the native module is not built")
    with pytest.raises(FmstatsError, match="it serves cpu tensors, this one is on meta"):
        choose_backend("cpu", META)


def test_a_backend_for_a_model_without_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors' device is not known before they come."""
    cuda = next(b for b in BACKENDS if b.name == "cuda")
    with monkeypatch.context() as patched:
        patched.setattr(cuda, "why_not", lambda device=None: None)
        assert choose_backend("cuda", None) is cuda
        fmstats.track(nn.Sequential(nn.ReLU()), backend="cuda").close()
        with pytest.raises(FmstatsError, match="it serves cuda tensors, this one is on cpu"):
            fmstats.track(nn.Linear(2, 2), backend="cuda")
        patched.setattr(cuda, "why_not", lambda device=None: "no GPU")
        with pytest.raises(FmstatsError, match="'cuda' cannot be used: no GPU"):
            fmstats.track(nn.Sequential(nn.ReLU()), backend="cuda")
    assert choose_backend("auto", None).why_not() is None


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_dtypes_without_the_statistic(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(FmstatsError, match=f"that is {name}: the statistic is of .* of float32,"):
        fmstats.channel_stats(torch.zeros(2, 3, dtype=dtype))


def test_a_tensor_of_zeros_without_memory() -> None:
    with pytest.raises(FmstatsError, match="that is a tensor of zeros without memory"):
        fmstats.channel_stats(torch._efficientzerotensor((8, 16)))


def test_sparse_tensors() -> None:
    with pytest.raises(FmstatsError, match="is sparse_coo, not strided: the statistic is of"):
        fmstats.channel_stats(torch.eye(3).to_sparse())
