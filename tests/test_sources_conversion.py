"""NumPy arrays become tensors of the same values, or are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.sources import open_data
from fmstats.sources.batches import read_batch
from fmstats.sources.conversion import to_tensor

KEPT = (
    *("bool", "int8", "int16", "int32", "int64", "uint8"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
WIDER = {"uint16": torch.int32, "uint32": torch.int64, "uint64": torch.int64}


@pytest.mark.parametrize("dtype", [*KEPT, *WIDER])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_number_keeps_its_value(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.arange(12).reshape(3, 4).astype(np.dtype(dtype).newbyteorder(order))
    expected = torch.arange(12).reshape(3, 4).to(WIDER.get(dtype) or getattr(torch, dtype))
    read_only, mapped = values.copy(), tmp_path / "x.npy"
    read_only.flags.writeable = False
    np.save(mapped, values)
    for given in (
        *(values, read_only, np.load(mapped, mmap_mode="r"), np.asfortranarray(values)),
        *(np.ma.array(values), np.ma.array(values, mask=False), values.view(np.ndarray)),
    ):
        got = to_tensor(given)
        assert (got.dtype, type(got)) == (expected.dtype, torch.Tensor)
        assert torch.equal(got, expected)
    for given, rows in ((values[::-1], [2, 1, 0]), (values[::2], [0, 2]), (values[:0], [])):
        assert torch.equal(to_tensor(given), expected[rows])
    assert torch.equal(to_tensor(values[1:2, 2].reshape(())), expected[1, 2])


def test_columns_of_records() -> None:
    records = np.zeros(3, [("flag", "u1"), ("x", "f4")])
    records["x"] = (1, 2, 3)
    assert to_tensor(records["x"]).tolist() == [1, 2, 3]


def test_the_largest_integers() -> None:
    assert to_tensor(np.array([2**16 - 1], np.uint16)).tolist() == [2**16 - 1]
    assert to_tensor(np.array([2**32 - 1], np.uint32)).tolist() == [2**32 - 1]
    assert to_tensor(np.array([2**63 - 1], np.uint64)).tolist() == [2**63 - 1]
    with pytest.raises(FmstatsError, match=r"dtype uint64 has 9223372036854775808: PyTorch comp"):
        to_tensor(np.array([0, 2**63], np.uint64))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(2, np.longdouble), r"of dtype float\d+ cannot .*array.astype\('float64'\)$"),
        (np.zeros(2, np.clongdouble), r"of dtype complex\d+ .*array.astype\('complex128'\)$"),
        (np.zeros(2, [("a", "f4"), ("b", "i4")]), r"has the fields a, b; give one, .*array\['a'\]"),
        (np.zeros(2, "V2"), r"of dtype \|V2 cannot be a tensor: NumPy saves types like bfloat16"),
        (np.array([{}]), r"of dtype object cannot be a tensor: give numbers or booleans"),
        (np.array(["2026"], "M8[s]"), r"dtype datetime64\[s\] cannot be a tensor: give numbers"),
        (np.array([b"a"]), r"of dtype \|S1 cannot be a tensor: give numbers or booleans"),
        (
            np.ma.array(np.ones((2, 3)), mask=[[0, 0, 1], [0, 0, 0]]),
            r"a masked array has 1 of 6 elements masked, .*array.filled\(0\)",
        ),
        (np.ma.masked_all((4,)), r"has 4 of 4 elements masked"),
    ],
)
def test_what_is_no_tensor(tmp_path: Path, array: np.ndarray, message: str) -> None:
    for given in (array, [array], {"x": array}, (array, torch.zeros(2))):
        with pytest.raises(FmstatsError, match=message):
            read_batch(given, 1) if given is not array else to_tensor(given)
    if not isinstance(array, np.ma.MaskedArray) and array.dtype != object:
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(FmstatsError, match=message):
            open_data(tmp_path / "x.npy")


def test_masks_count_where_they_are(tmp_path: Path) -> None:
    """A batch without masked elements is folded, the one that has some is refused."""
    data = np.ma.array(np.ones((4, 3), np.float32), mask=np.zeros((4, 3)))
    data[2, 1] = np.ma.masked
    model = nn.Sequential(nn.ReLU())
    assert fmstats.profile(model, [data[:2]], progress=False)["0"].count.tolist() == [2, 2, 2]
    with pytest.raises(FmstatsError, match=r"1 of 6 elements masked"):
        fmstats.profile(model, [data[:2], data[2:]], progress=False)


def test_tokens_of_16_bits_are_looked_up(tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", np.array([[0, 5], [65535, 1]], np.uint16))
    model = nn.Sequential(nn.Embedding(65536, 4))
    profile = fmstats.profile(model, open_data(tmp_path / "tokens.npy"), progress=False)
    assert profile["0"].count.tolist() == [4] * 4


def test_pixels_of_8_bits_are_refused_with_a_way_out(tmp_path: Path) -> None:
    np.save(tmp_path / "photos.npy", np.full((2, 3, 8, 8), 200, np.uint8))
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(FmstatsError, match=r"\(2, 3, 8, 8\) uint8: .*uint8 .* not scaled"):
        fmstats.profile(model, open_data(tmp_path / "photos.npy"), progress=False)


def test_bfloat16_and_float8_come_from_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    values = torch.arange(6.0).reshape(2, 3)
    for dtype in (torch.bfloat16, torch.float16, torch.uint8, torch.int64, torch.bool):
        safetensors.save_file({"x": values.to(dtype)}, tmp_path / "x.safetensors")
        (batch,) = open_data(tmp_path / "x.safetensors")
        assert torch.equal(batch, values.to(dtype))
