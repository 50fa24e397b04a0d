"""Stored tensors come back in batches, unchanged, and wrong files give one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmstats.errors import FmstatsError
from fmstats.sources import open_data
from fmstats.sources.arrays import is_array_spec, open_array

VALUES = np.arange(70, dtype=np.float32).reshape(7, 2, 5)


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x.npy", VALUES)
    np.savez(tmp_path / "one.npz", only=VALUES)
    np.savez_compressed(tmp_path / "two.npz", images=VALUES, labels=np.arange(7))
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object))
    np.save(tmp_path / "scalar.npy", np.float32(3))
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    return tmp_path


@pytest.mark.parametrize("name", ["x.npy", "one.npz", "one.npz:only", "two.npz:images"])
@pytest.mark.parametrize(("batch_size", "limit"), [(3, None), (3, 5), (100, None), (1, 2), (7, 99)])
def test_batches(folder, name, batch_size, limit):
    source = open_data(f"{folder}/{name}", batch_size=batch_size, limit=limit)
    expected = VALUES[:limit]
    assert source.samples == len(expected)
    assert source.description.startswith(f"{len(expected)} samples of shape (2, 5) in ")
    for _ in range(2):  # A source can be run through again.
        batches = list(source)
        assert {len(batch) for batch in batches[:-1]} <= {batch_size}
        assert np.array_equal(torch.cat(batches).numpy(), expected)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "uint8", "bool", ">f4"])
def test_dtypes_are_kept(tmp_path, dtype):
    np.save(tmp_path / "x.npy", VALUES.astype(dtype))
    (batch,) = open_data(tmp_path / "x.npy")
    assert batch.numpy().dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(batch.numpy(), VALUES.astype(dtype))


@pytest.mark.parametrize("name", ["x.npy", "one.npz"])
def test_a_model_that_writes_to_its_input_changes_no_later_pass(folder, name):
    source = open_data(folder / name)
    for _ in range(2):
        (batch,) = source
        assert np.array_equal(batch.numpy(), VALUES)
        batch.zero_()


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    values = torch.from_numpy(VALUES).bfloat16()
    safetensors.save_file({"only": values}, tmp_path / "one.safetensors")
    safetensors.save_file({"a": values, "b": values + 1}, tmp_path / "two.safetensors")
    assert torch.equal(
        torch.cat(list(open_data(tmp_path / "one.safetensors", batch_size=2))), values
    )
    (batch,) = open_data(f"{tmp_path}/two.safetensors:b")
    assert torch.equal(batch, values + 1)
    with pytest.raises(FmstatsError, match=r"holds 2 arrays \(a, b\): choose one with '.*:KEY'"):
        open_data(tmp_path / "two.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    with pytest.raises(FmstatsError, match=r"cut.safetensors' cannot be read"):
        open_data(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.npy", r"there is no file '.*absent.npy'"),
        ("two.npz", r"two.npz' holds 2 arrays \(images, labels\): choose one with '.*two.npz:KEY'"),
        ("two.npz:image", r"two.npz' has no array 'image'; closest: images"),
        ("x.npy:key", r"a .npy file holds one array and no keys"),
        ("text.npy", r"dtype <U1 cannot be a tensor: give numbers or booleans"),
        ("objects.npy", r"objects.npy' cannot be read: ValueError: .* Python objects in dtype.$"),
        ("scalar.npy", r"has the shape \(\): its first dimension must run along at least one"),
        ("none.npy", r"has the shape \(0, 3\): its first dimension must run along at least one"),
        ("cut.npy", r"cut.npy' cannot be read"),
    ],
)
def test_wrong_files(folder, name, message):
    with pytest.raises(FmstatsError, match=message):
        open_data(f"{folder}/{name}")


def test_specs():
    assert is_array_spec("C:\\data\\x.NPZ:key")
    assert is_array_spec("x.safetensors")
    assert not is_array_spec("x.py:npy")
    assert not is_array_spec("folder.npy/x.png")
    with pytest.raises(FmstatsError, match=r"'x.png' ends in none of .npy, .npz, .safetensors"):
        open_array("x.png")
