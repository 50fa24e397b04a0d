"""The mode of a model while it is looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def evaluate(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module has its own training flag again."""
    flags = [(module, module.training) for module in model.modules()]
    was_training = model.training
    try:
        try:
            model.eval()
        except NotImplementedError:  # An exported program keeps the mode it was exported in.
            for module, _ in flags:
                module.training = False
        yield
    finally:
        if was_training:
            # Not by flags alone: some models merge weights in eval() and part them in train().
            with contextlib.suppress(NotImplementedError):
                model.train()
        for module, flag in flags:
            module.training = flag
