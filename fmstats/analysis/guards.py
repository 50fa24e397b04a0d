"""What must not get in the way of a watched pass, for the time of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def without_logs() -> Iterator[None]:
    """Shapes that do not fit are logged with a traceback, beside the error that says so."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


@contextlib.contextmanager
def without_fast_paths() -> Iterator[None]:
    """Transformer encoder layers call their parts one by one, where they can be seen."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
