"""How a model runs while it is looked at: in which mode, and whether as graphs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode; afterwards each module has its own training flag again."""
    flags = [(module, module.training) for module in model.modules()]
    before = model.training
    try:
        _switch(model, training)
        yield
    finally:
        if before != training:
            # Not by flags alone: some models merge weights in eval() and part them in train().
            _switch(model, before)
        for module, flag in flags:
            module.training = flag


def _switch(model: nn.Module, training: bool) -> None:
    try:
        model.train() if training else model.eval()
    except NotImplementedError:  # An exported program keeps the mode it was exported in.
        for module in model.modules():
            module.training = training


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """What `torch.compile` made runs as it was before: graphs do not see new hooks."""
    if "torch._dynamo" not in sys.modules:  # slow to load, and then nothing is compiled
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
