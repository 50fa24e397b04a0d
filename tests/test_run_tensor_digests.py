"""A digest covers every value of a tensor of any kind, and nothing of how it is stored."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from fmstats.runs import tensor_digests
from fmstats.runs.tensor_digests import NoValuesError, digest_tensor

ROW = 1 << 20  # float32 numbers of one block
SIZES = [0, 1, 7, 1000, ROW - 1, ROW, ROW + 1, 3 * ROW + 5]


def noise(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)).to(dtype)


@pytest.mark.parametrize("size", SIZES)
def test_any_one_value_counts(size):
    x = noise(size)
    assert digest_tensor(x) == digest_tensor(x.clone())
    found = {digest_tensor(x)}
    places = {0, 1, size // 2, size - 2, size - 1, ROW - 1, ROW, 2 * ROW} & set(range(size))
    for place in places:
        other = x.clone()
        other.view(torch.int32)[place] ^= 1  # the least bit
        found.add(digest_tensor(other))
    assert len(found) == 1 + len(places)


def flip_signs(x, a, b):
    x[[a, b]] = -x[[a, b]]


def exchange(x, a, b):
    x[[a, b]] = x[[b, a]]


def trade(x, a, b):
    """Add to one word what is taken from another: their sum stays."""
    words = x.view(torch.int64)
    words[a // 2] += 1
    words[b // 2] -= 1


def test_changes_do_not_cancel():
    x = noise(4 * ROW)
    found = [digest_tensor(x)]
    for a, b in ((0, 2), (9, 11), (5, ROW + 5), (7, 3 * ROW), (2 * ROW + 1, 2 * ROW + 3)):
        for change in (flip_signs, exchange, trade):
            other = x.clone()
            change(other, a, b)
            found.append(digest_tensor(other))
    for moved in (x.flip(0), x.roll(1), x.view(4, -1).flip(0).reshape(-1), -x, x * 0):
        found.append(digest_tensor(moved))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.float8_e4m3fn]
)
def test_every_dtype(dtype):
    x = noise(3000, dtype=dtype)
    other = x.clone()
    other[2999] = 3
    assert len({digest_tensor(t) for t in (x, other, noise(3000))}) == 3


def test_negative_zero_and_nan_count_by_their_bits():
    zeros, nans = torch.zeros(4), torch.full((4,), torch.nan)
    assert digest_tensor(zeros) != digest_tensor(-zeros)
    assert digest_tensor(nans) == digest_tensor(nans.clone())


def test_shape_and_dtype_count_but_not_storage():
    x = noise(2 * ROW).view(16, -1)
    assert digest_tensor(x) != digest_tensor(x.view(32, -1))
    assert digest_tensor(x) != digest_tensor(x.view(torch.int32))
    assert digest_tensor(x) == digest_tensor(x.t().contiguous().t())
    behind = torch.cat([torch.zeros(1), x.view(-1)])[1:].view(16, -1)
    assert behind.storage_offset() % 2
    assert digest_tensor(x) == digest_tensor(behind)
    assert digest_tensor(x) == digest_tensor(nn.Parameter(x))
    assert digest_tensor(noise(1).expand(4)) == digest_tensor(noise(1).repeat(4))
    conjugate = noise(8, dtype=torch.complex64).conj()
    assert digest_tensor(conjugate) == digest_tensor(conjugate.resolve_conj())


def test_threads_make_no_difference():
    x = noise(5 * ROW + 3)
    before = torch.get_num_threads()
    try:
        found = set()
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.add(digest_tensor(x))
        with torch.inference_mode():
            found.add(digest_tensor(x))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("blocks", "threads", "pools"),
    [(1, 4, []), (2, 2, [2]), (2, 4, [2]), (3, 2, [2]), (3, 1, [])],
)
def test_threads_are_as_many_as_asked_for_and_of_use(monkeypatch, blocks, threads, pools):
    made = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers):
            made.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(tensor_digests, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    digest_tensor(noise(blocks * ROW))
    assert made == pools


def quantized(scale=0.1, zero=3, by_channel=False):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        if by_channel:
            scales, zeros = torch.tensor([scale, 0.2]), torch.tensor([zero, 1])
            return torch.quantize_per_channel(noise(2, 50), scales, zeros, 0, torch.qint8)
        return torch.quantize_per_tensor(noise(2, 50), scale, zero, torch.qint8)


def sparse(layout, value=1.0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some layouts are in beta, which PyTorch says
        dense = torch.eye(4)
        dense[1, 2] = value
        if layout is torch.sparse_bsr or layout is torch.sparse_bsc:
            return dense.to_sparse(layout=layout, blocksize=(2, 2))
        return dense.to_sparse(layout=layout)


LAYOUTS = [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_sparse(layout):
    assert digest_tensor(sparse(layout)) == digest_tensor(sparse(layout))
    assert digest_tensor(sparse(layout)) != digest_tensor(sparse(layout, 2.0))
    assert digest_tensor(sparse(layout)) != digest_tensor(sparse(layout, 0.0))


def test_quantized_nested_meta_and_fake():
    found = [quantized(), quantized(0.2), quantized(0.1, 4), quantized(by_channel=True)]
    found += [quantized(0.3, by_channel=True), quantized(0.1, 4, by_channel=True)]
    found += [torch.empty(2, 50, device="meta"), torch.empty(2, 51, device="meta")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = [noise(3, 2), noise(4, 2)]
        found += [
            torch.nested.nested_tensor(p) for p in (parts, parts[::-1], [p + 1 for p in parts])
        ]
    assert len({digest_tensor(t) for t in found}) == len(found)
    assert digest_tensor(quantized()) == digest_tensor(quantized())


def test_a_parameter_without_values_yet_is_refused():
    with pytest.raises(NoValuesError, match="it gets its values in the first pass"):
        digest_tensor(nn.LazyLinear(3).weight)
