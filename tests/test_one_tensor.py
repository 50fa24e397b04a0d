"""`channel_stats` of one tensor."""

from __future__ import annotations

import pytest
import torch

import fmstats
from fmstats.backends import BACKENDS
from fmstats.errors import FmstatsError

NAMES = [b.name for b in BACKENDS if b.why_not() is None]


@pytest.mark.parametrize("name", [*NAMES, "auto"])
@pytest.mark.parametrize("dim", [0, 1, 2, 3, -1])
def test_any_dim(name: str, dim: int) -> None:
    x = torch.randn(2, 3, 4, 5)
    stats = fmstats.channel_stats(x, dim, backend=name)
    rows = x.double().movedim(dim, 0).flatten(1)
    assert stats.channels == x.shape[dim]
    assert stats.mean == pytest.approx(rows.mean(1).numpy(), rel=1e-6, abs=1e-7)
    assert stats.max.tolist() == rows.amax(1).tolist()


def test_the_tensor_is_not_changed() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    before = x.detach().clone()
    stats = fmstats.channel_stats(x)
    assert torch.equal(x, before)
    assert not stats.state.words.requires_grad
    x.sum().backward()


def test_zero_tol() -> None:
    x = torch.tensor([[0.0, 0.2], [0.1, -0.1]], dtype=torch.float64)
    assert fmstats.channel_stats(x).zeros.tolist() == [1, 0]
    assert fmstats.channel_stats(x, zero_tol=0.1).zeros.tolist() == [2, 1]


@pytest.mark.parametrize("name", NAMES)
def test_a_view_that_is_negated_when_read(name: str) -> None:
    """The imaginary part of a conjugate has the memory of the opposite numbers."""
    x = torch.randn(5, 3, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    stats = fmstats.channel_stats(x, backend=name)
    assert stats.max.tolist() == x.amax(0).tolist()
    assert stats.mean == pytest.approx(x.double().mean(0).numpy(), rel=1e-6)


@pytest.mark.parametrize(
    ("x", "dim", "message"),
    [
        (torch.ones(2, 3), 2, r"^channel_dim=2 is not a dim of a tensor of shape \(2, 3\): choose"),
        (torch.ones(3), 1, r"^channel_dim=1 is not a dim of .* \(3,\): choose from -1 to 0$"),
        (torch.tensor(1.0), 0, r"^channel_dim=0 is not a dim of a tensor of shape \(\): it has no"),
        (torch.ones(2, 3).long(), 1, r"^cannot measure a tensor that is int64: the "),
        (torch.ones(2, 3).to_sparse(), 1, r"^cannot measure .* is sparse_coo, not"),
        (torch.ones(2, 3, device="meta"), 1, r"that is on the meta device, without"),
        (torch.ones(2, 3), "auto", r"^channel_dim='auto': give the number of a dim$"),
        (torch.ones(2, 3), 1.0, r"^channel_dim=1.0: give the number of a dim$"),
        ([[1.0, 2.0]], 1, r"takes a torch\.Tensor, got list"),
    ],
)
def test_what_cannot_be_measured(x: torch.Tensor, dim: int, message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        fmstats.channel_stats(x, dim)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
def test_layouts_that_have_no_strides() -> None:
    with pytest.raises(FmstatsError, match=r"^cannot measure .* is sparse_csr, not strided"):
        fmstats.channel_stats(torch.ones(2, 3).to_sparse_csr())
    with pytest.raises(FmstatsError, match=r"^cannot measure a tensor that is a nested tensor"):
        fmstats.channel_stats(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]))


def test_options() -> None:
    with pytest.raises(FmstatsError, match=r"^no backend is called 'numpy'; usable here: auto, "):
        fmstats.channel_stats(torch.ones(2, 3), backend="numpy")
    with pytest.raises(FmstatsError, match=r"^zero_tol must be finite and not negative, got -1"):
        fmstats.channel_stats(torch.ones(2, 3), zero_tol=-1)
