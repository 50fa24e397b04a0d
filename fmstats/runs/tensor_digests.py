"""A digest of all values of a tensor, computed where the tensor is.

Whole rows of `_WORDS` 64-bit words are reduced on the tensor's device to a number each: the sum of
its words, each mixed with a key of its place (two odd multiplications around a shift, so that no
two changes cancel but by chance). What is left over, and small tensors, go through BLAKE2b as they
are. Names, shapes and dtypes are part of the digest, strides and devices are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

_WORDS = 1 << 15  # in a row: 256 KiB and the two buffers beside it stay in a core's cache
_ROWS = 64  # of which an accelerator is given so many at once
_SEED = 20260
_MIX = (-7046029254386353131, -4417276706812531889)  # odd: no information is lost


class NoValuesError(Exception):
    """A tensor whose values cannot be had."""


def digest_tensor(tensor: Tensor) -> bytes:
    """16 bytes that tell a tensor's values, shape, dtype and kind.

    Raises:
        NoValuesError: it has no values yet, or is of an unknown kind.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with torch.no_grad():
            for part in _parts(tensor):
                digest.update(part if isinstance(part, bytes) else _digest_plain(part))
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        raise NoValuesError(f"{type(tensor).__name__}: {error}") from error
    return digest.digest()


def _parts(tensor: Tensor) -> Iterator[bytes | Tensor]:
    """Plain tensors and texts that a tensor of any kind consists of."""
    kind: Any = type(tensor)
    if is_lazy(tensor):
        raise NoValuesError("it gets its values in the first pass")
    if kind.__name__ == "FakeTensor":
        yield f"fake {tuple(tensor.shape)} {tensor.dtype}".encode()
        return
    if hasattr(kind, "__tensor_flatten__"):
        names, context = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
        yield f"{kind.__qualname__} {tuple(tensor.shape)} {context}".encode()
        for name in names:
            yield from _parts(getattr(tensor, name))
        return
    yield f"{tuple(tensor.shape) if not tensor.is_nested else 'nested'} {tensor.dtype} ".encode()
    if tensor.device.type == "meta":
        yield b"meta"
    elif tensor.is_nested:
        for part in tensor.unbind():
            yield from _parts(part)
    elif tensor.is_quantized:
        yield f"{tensor.qscheme()} ".encode()
        yield from _quantisation(tensor)
        yield tensor.int_repr()
    elif tensor.layout == torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        yield from (tensor.ccol_indices(), tensor.row_indices(), tensor.values())
    else:
        yield tensor if tensor.layout == torch.strided else tensor.to_dense()


def _quantisation(tensor: Tensor) -> Iterable[bytes | Tensor]:
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [f"{tensor.q_scale()!r} {tensor.q_zero_point()} ".encode()]
    places = [tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()]
    return [f"{tensor.q_per_channel_axis()} ".encode(), *places]


def _digest_plain(tensor: Tensor) -> bytes:
    plain = tensor.detach().as_subclass(Tensor).resolve_conj().resolve_neg()
    if plain.is_complex():
        plain = torch.view_as_real(plain)
    flat = plain.contiguous().reshape(-1).view(torch.uint8)
    whole = flat.numel() // (8 * _WORDS) * (8 * _WORDS)
    digest = hashlib.blake2b(flat[whole:].cpu().numpy().tobytes(), digest_size=16)
    if whole:
        if flat.data_ptr() % 8 or flat.storage_offset() % 8:  # cannot be seen as words
            flat = flat[:whole].clone()
        sums = _sum_rows(flat[:whole].view(torch.int64).view(-1, _WORDS))
        digest.update(sums.cpu().numpy().tobytes())
    return digest.digest()


def _sum_rows(words: Tensor) -> Tensor:
    keys = _keys(words.device)
    if words.device.type != "cpu":
        return torch.cat([_mix(block, keys) for block in torch.split(words, _ROWS)])
    threads = min(torch.get_num_threads(), len(words))
    if threads == 1:
        return torch.cat([_mix(row, keys) for row in torch.split(words, 1)])
    # An operation on a row is too small for threads of its own.
    with ThreadPoolExecutor(threads) as pool:
        return torch.cat(list(pool.map(lambda row: _mix(row, keys), torch.split(words, 1))))


def _mix(rows: Tensor, keys: Tensor) -> Tensor:
    mixed = torch.bitwise_xor(rows, keys).mul_(_MIX[0])
    return mixed.bitwise_xor_(mixed >> 32).mul_(_MIX[1]).sum(1)


@lru_cache(maxsize=4)
def _keys(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(_SEED)
    # Outside of any mode: the keys stay for other threads and runs.
    with torch.inference_mode(False), torch.no_grad():
        keys = torch.randint(-(2**63), 2**63 - 1, (_WORDS,), generator=generator, device="cpu")
        return keys.to(device)
