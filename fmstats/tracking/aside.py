"""`aside` lets the operations of a tracker run unseen by what watches those of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import _disable_current_modes


@contextmanager
def aside() -> Iterator[None]:
    """Within it, no mode of others sees an operation; theirs could make fake tensors of states."""
    with torch._C.DisableTorchFunction():
        if torch._C._len_torch_dispatch_stack():
            with _disable_current_modes():
                yield
        else:
            yield
