"""Switch off, during a watched pass, what would disturb it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def without_logs() -> Iterator[None]:
    """Suppress the logged tracebacks of shapes that do not fit; an error reports them too."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


@contextlib.contextmanager
def without_fast_paths() -> Iterator[None]:
    """Have Transformer encoder layers call their parts one by one, so that they are seen."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
