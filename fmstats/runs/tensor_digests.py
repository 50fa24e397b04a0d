"""Digest all values of a tensor with SHA-256, block by block, in a few threads.

Shape and dtype are part of it, strides and devices are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

_BLOCK = 1 << 22  # bytes that a thread takes at once, and that a device copies at once


class NoValuesError(Exception):
    """Reports a tensor whose values are not available."""


def digest_tensor(tensor: Tensor) -> bytes:
    """Return 16 bytes that identify a tensor's values, shape, dtype and kind.

    Raises:
        NoValuesError: it has no values yet, or is of an unknown kind.
    """
    digest = hashlib.sha256()
    try:
        with torch.no_grad():
            for part in _parts(tensor):
                digest.update(part if isinstance(part, bytes) else _digest_plain(part))
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as error:
        raise NoValuesError(f"{type(tensor).__name__}: {error}") from error
    return digest.digest()[:16]


def _parts(tensor: Tensor) -> Iterator[bytes | Tensor]:
    """Yield the plain tensors and texts that a tensor of any kind consists of."""
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
    blocks = torch.split(plain.contiguous().reshape(-1).view(torch.uint8), _BLOCK)
    threads = min(torch.get_num_threads(), len(blocks))
    if threads <= 1:
        return b"".join(map(_digest_block, blocks))
    with ThreadPoolExecutor(threads) as pool:  # hashlib lets go of the interpreter's lock
        return b"".join(pool.map(_digest_block, blocks))


def _digest_block(block: Tensor) -> bytes:
    return hashlib.sha256(block.cpu().numpy().data).digest()
