"""This package has the backends, and chooses between them here.

A backend updates a state with a tensor on the tensor's device. Which one serves a device by default
is the order of `BACKENDS`; a backend asked for by name is used or is an error, never replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fmstats.backends.base import DTYPES, Backend
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.cuda.backend import CudaBackend
from fmstats.backends.pytorch import TorchBackend
from fmstats.backends.reference import ReferenceBackend
from fmstats.backends.triton.backend import TritonBackend
from fmstats.errors import FmstatsError

__all__ = [
    "BACKENDS",
    "DTYPES",
    "Backend",
    "BackendInfo",
    "choose_backend",
    "list_backends",
    "why_chosen",
]

# Best first: "auto" takes the first that is usable and serves the device.
BACKENDS: tuple[Backend, ...] = (
    CpuBackend(),
    CudaBackend(),
    TritonBackend(),
    TorchBackend(),
    ReferenceBackend(),
)


@dataclass(frozen=True)
class BackendInfo:
    """One `BackendInfo` is a line of `fmstats backends`.

    Attributes:
        devices: the device types it serves.
        detail: what it will run with, or why it cannot be used here.
    """

    name: str
    usable: bool
    devices: str
    detail: str


def list_backends() -> list[BackendInfo]:
    """List every backend: whether it can be used here, and with what or why not."""
    rows = []
    for backend in BACKENDS:
        why_not = backend.why_not()
        rows.append(
            BackendInfo(
                backend.name,
                why_not is None,
                ", ".join(backend.devices) or "any",
                why_not or backend.describe(),
            )
        )
    return rows


def choose_backend(name: str, device: torch.device | None) -> Backend:
    """Return the backend called `name`, or for "auto" the best usable one for `device`.

    Args:
        name: one of `list_backends()`, or "auto".
        device: whose tensors it is to serve; None where that is not known yet: then a named backend
            has to be usable for devices of its own.

    Raises:
        FmstatsError: unknown, not usable here, or not for this device.
    """
    usable = [
        b for b in BACKENDS if (device is None or b.serves(device)) and b.why_not(device) is None
    ]
    choices = ", ".join(b.name for b in usable)
    if name == "auto":
        return usable[0]
    for backend in BACKENDS:
        if backend.name != name:
            continue
        why_not = (
            backend.why_not(device)
            if device is None or backend.serves(device)
            else backend.why_not()
            or f"it serves {', '.join(backend.devices)} tensors, this one is on {device}"
        )
        if why_not is not None:
            raise FmstatsError(
                f"backend {name!r} cannot be used: {why_not}; usable here: {choices}"
            )
        return backend
    raise FmstatsError(f"no backend is called {name!r}; usable here: auto, {choices}")


def why_chosen(asked: str, device: torch.device) -> str:
    """Tell people why `choose_backend(asked, device)` chose as it did."""
    if asked != "auto":
        return "asked for by name"
    reasons = []
    for backend in BACKENDS:
        if backend.serves(device):
            why_not = backend.why_not(device)
            if why_not is None:
                break
            reasons.append(f"{backend.name} cannot be used: {why_not}")
    return "; ".join(reasons) or f"the best for {device.type}"
