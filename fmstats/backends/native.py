"""The compiled module, which the cpu and the cuda backend share."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch  # noqa: F401  # loaded first: they share one OpenMP runtime, hence one pool of threads

_NAME = "fmstats._native"


def load_native() -> ModuleType | None:
    """The module, or None where `why_no_native` says why there is none."""
    try:
        return importlib.import_module(_NAME)
    except ImportError:
        return None


def why_no_native() -> str | None:
    """Why the module cannot be used; None if it can."""
    try:
        importlib.import_module(_NAME)
    except ModuleNotFoundError:
        return "fmstats was built without its native module (FMSTATS_NATIVE=0)"
    except ImportError as error:  # it is there, but a library that it needs is not
        return f"its native module cannot be loaded: {error}"
    return None
