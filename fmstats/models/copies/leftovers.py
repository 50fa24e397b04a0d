"""`check_leftovers` tells whether fake tensors of a look are still held, and by whom."""

from __future__ import annotations

import functools
import gc
import types
import warnings

from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


def check_leftovers(mode: FakeTensorMode) -> None:
    """Empty caches of `functools` that hold fake tensors of `mode`; warn of any other holder.

    Caches that the model's code names have been set aside; these are found in no such way.
    """
    if not _alive(mode):
        return
    gc.collect()
    left = _alive(mode)
    holders: set[str] = set()
    for tensor in left:
        for holder in gc.get_referrers(tensor):
            if isinstance(holder, functools._lru_cache_wrapper):
                holder.cache_clear()
            elif holder is not left and not isinstance(holder, types.FrameType):
                holders.add(f"a {type(holder).__name__}")
    if holders:
        warnings.warn(
            f"fake tensors of analyze(), {len(left)} of them, are held by what it could not "
            f"reach, {', '.join(sorted(holders))}: whoever reads them there gets no values",
            stacklevel=2,
        )


def _alive(mode: FakeTensorMode) -> list[FakeTensor]:
    # An object refers to its type: found so, in half the time that a list of all objects takes.
    found = gc.get_referrers(FakeTensor)
    return [t for t in found if type(t) is FakeTensor and t.fake_mode is mode]
