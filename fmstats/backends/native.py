"""The cpu and the cuda backend share one compiled module."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch  # noqa: F401  # loaded first: they share one OpenMP runtime, hence one pool of threads

from fmstats.statistic.fields import FIELDS


def load_native() -> ModuleType | None:
    """Return the module, or None where `why_no_native` says why there is none."""
    found = _load()
    return None if isinstance(found, str) else found


def why_no_native() -> str | None:
    """Tell why the module cannot be used; None if it can."""
    found = _load()
    return found if isinstance(found, str) else None


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
    if native.FIELDS != FIELDS:
        return (
            "its native module was built for other fields of the statistic than csrc/fields.h "
            "declares: build it again (pip install .)"
        )
    return native
