"""The CUDA driver loads compiled kernels, through NVIDIA's own bindings.

Launching, which happens in every hook, is the native module's (csrc/cuda/driver.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fmstats.backends.cuda.nvrtc import ENTRY, bindings
from fmstats.errors import FmstatsError


def open_context(index: int) -> int:
    """Return the handle of the context that torch uses on GPU number `index`.

    Raises:
        FmstatsError: no driver, no such GPU.
    """
    _call("cuInit", 0)
    (device,) = _call("cuDeviceGet", index)
    (context,) = _call("cuDevicePrimaryCtxRetain", device)
    return int(context)


def load_kernel(code: bytes, context: int) -> int:
    """Load the one kernel in a cubin or PTX into a context; return its handle.

    It stays loaded: graphs that hold it may be replayed at any time.

    Raises:
        FmstatsError: the driver refuses it.
    """
    (library,) = _call("cuLibraryLoadData", code, [], [], 0, [], [], 0)
    (kernel,) = _call("cuLibraryGetKernel", library, ENTRY.encode())
    # Into the context now: the driver would do it at the first launch, which may be in a capture.
    with _current(context):
        (function,) = _call("cuKernelGetFunction", kernel)
    return int(function)


def capture_of(stream: int, context: int) -> int | None:
    """Return the number of the graph capture that a stream takes part in, or None."""
    driver = bindings("driver")
    with _current(context):
        status, number, *_ = _call("cuStreamGetCaptureInfo", driver.CUstream(stream))
    active = driver.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE
    return int(number) if status == active else None


@contextmanager
def _current(context: int) -> Iterator[None]:
    _call("cuCtxPushCurrent", bindings("driver").CUcontext(context))
    try:
        yield
    finally:
        _call("cuCtxPopCurrent")


def _call(name: str, *args: Any) -> tuple[Any, ...]:
    """Call a function of the driver; return what it gives after its result."""
    driver = bindings("driver")
    try:
        result, *values = getattr(driver, name)(*args)
    except (RuntimeError, OSError) as error:  # the bindings did not find libcuda
        raise FmstatsError(f"the CUDA driver cannot be loaded: {error}") from error
    if result != driver.CUresult.CUDA_SUCCESS:
        _, text = driver.cuGetErrorString(result)
        raise FmstatsError(
            f"{name} failed: {result.name} ({text.decode() if text else 'no description'})"
        )
    return tuple(values)
