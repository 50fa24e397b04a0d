"""The cpu and the cuda backend share one compiled module."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch  # noqa: F401  # loaded first: they share one OpenMP runtime, hence one pool of threads

from fmstats.statistic.fields import FIELDS, REQUESTED
from fmstats.statistic.state import State


def load_native() -> ModuleType | None:
    """Return the module, or None where `why_no_native` says why there is none."""
    found = _load()
    return None if isinstance(found, str) else found


def why_no_native() -> str | None:
    """Tell why the module cannot be used; None if it can."""
    found = _load()
    return found if isinstance(found, str) else None


def requested_of(state: State) -> tuple[int, int, int, int, int]:
    """Return where a state has what is measured on request, as csrc/requested.h takes it.

    Returns:
        The addresses of `sum_abs`, `m3` and the bins, 0 for what it has not; whether each channel
        has a histogram; and the resolution of bins.
    """
    fields = state.measures.requested
    sums = [state[f].data_ptr() if f in fields else 0 for f in ("sum_abs", "m3")]
    bins = state.measures.bins
    if bins is None or state.bins is None:
        return sums[0], sums[1], 0, 0, 0
    return sums[0], sums[1], state.bins.data_ptr(), int(bins.scope == "channel"), bins.resolution


@functools.cache
def _load() -> ModuleType | str:
    try:
        native = importlib.import_module("fmstats._native")
    except ModuleNotFoundError:
        return (
            "fmstats has no native module: built with FMSTATS_NATIVE=0, or not yet (pip install .)"
        )
    except ImportError as error:  # it is there, but a library that it needs is not
        return f"its native module cannot be loaded: {error}"
    if (*FIELDS, *(f for some in REQUESTED.values() for f in some)) != native.FIELDS:
        return (
            "its native module was built for other fields of the statistic than csrc/fields.h "
            "declares: build it again (pip install .)"
        )
    return native
