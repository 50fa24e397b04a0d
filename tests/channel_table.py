"""What a table of models says: how a model is made and run, and where its layers have channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from torch import Tensor, nn

LAST = -1
ONE = None  # all of a tensor is one channel

# Where the documentation of PyTorch has the channels of what a module returns.
FIRST_TYPES = (
    *(nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.Upsample),
    *(nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.PixelShuffle),
    *(nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd),
)
LAST_TYPES = (nn.Linear, nn.Embedding, nn.LayerNorm, nn.RNNBase, nn.MultiheadAttention)


@dataclass(frozen=True)
class Entry:
    """A model of the table.

    Attributes:
        build: makes it.
        inputs: makes its keyword arguments, for a number of samples.
        batches: numbers of samples that equal widths, lengths or numbers of heads.
        want: where its layers have their channels, by the first pattern that fits a name: a dim,
            or ONE. Layers that none fits have them where the documentation of PyTorch says, or
            else in `rest`.
        guessed: the layers that nothing tells about in its operations, and why.
        silent: the layers that do not run.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, Tensor]]
    batches: tuple[int, ...]
    want: Mapping[str, int | None] = field(default_factory=dict)
    rest: int = LAST
    guessed: Mapping[str, str] = field(default_factory=dict)
    silent: tuple[str, ...] = ()

    def expect(self, name: str, module: nn.Module) -> int | None:
        for pattern, dim in self.want.items():
            if fnmatch(name, pattern):
                return dim
        if isinstance(module, FIRST_TYPES):
            return 1
        return LAST if isinstance(module, LAST_TYPES) else self.rest


class Net(nn.Module):
    """Parts, and a function of these and the input."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def given(*shape: int, name: str = "x") -> Callable[[int], dict[str, Tensor]]:
    """Inputs of a shape, whose first dim are the samples."""
    return lambda batch: {name: torch.randn(batch, *shape)}


def hugging(kind: str, config: Mapping[str, Any], head: str = "Model") -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        transformers = pytest.importorskip("transformers", reason="needs transformers")
        made = getattr(transformers, f"{kind}Config")(**config)
        return getattr(transformers, kind + head)(made)  # type: ignore[no-any-return]

    return build
