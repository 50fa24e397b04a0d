"""These rules tell which dim of an output holds its channels, under channel_dim="auto".

The rule, by module type:

- convolutions, their transposes, pooling, instance norm, folding: the dim before the spatial ones
  (dim 1 of a batch, dim 0 of an unbatched sample); batch and group norm, upsampling: dim 1;
- Linear, LayerNorm, RMSNorm, Embedding, attention, transformer blocks, recurrent layers: the last;
- anything else (activations, dropout, reshaping, blocks, unknown types) follows another layer: a
  block its last layer with a rule, a leaf the nearest one registered before
  it (the first of all, if none is). After a convolution,
  tensors of four or more dims have their channels in dim 1; after a Linear they come last if they
  are as many as the Linear has, else in dim 1 (attention weights). Of three dims, the one of the
  right size is taken.

For `of="input"` a block follows its first layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

from fmstats.models.wrappers import named_modules, read_attribute

_SPATIAL: tuple[tuple[int, tuple[str, ...]], ...] = (
    (1, ("Conv1d", "ConvTranspose1d", "MaxPool1d", "AvgPool1d", "AdaptiveAvgPool1d")),
    (2, ("Conv2d", "ConvTranspose2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d")),
    (3, ("Conv3d", "ConvTranspose3d", "MaxPool3d", "AvgPool3d", "AdaptiveAvgPool3d")),
    (1, ("AdaptiveMaxPool1d", "LPPool1d")),
    (2, ("AdaptiveMaxPool2d", "LPPool2d", "FractionalMaxPool2d", "PixelShuffle")),
    (3, ("AdaptiveMaxPool3d", "LPPool3d", "FractionalMaxPool3d")),
    (1, ("InstanceNorm1d", "MaxUnpool1d", "Unfold")),
    (2, ("InstanceNorm2d", "MaxUnpool2d", "Fold", "PixelUnshuffle")),
    (3, ("InstanceNorm3d", "MaxUnpool3d")),
)
_SPATIAL_DIMS = {getattr(nn, name): dims for dims, names in _SPATIAL for name in names}
_DIM_ONE = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.Upsample,
)
_LAST = (
    nn.Linear,
    nn.Bilinear,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.RNNBase,
)
# Where a module keeps its number of output channels.
_SIZES = (
    "out_channels",
    "out_features",
    "num_features",
    "num_channels",
    "embedding_dim",
    "embed_dim",
)


@dataclass(frozen=True)
class ChannelRule:
    """A rule tells where to look for the channels of a tensor.

    Attributes:
        dim: the dim, negative where it is counted from the end; -1 means channels come last.
        size: the number of channels expected there, if known.
        own: whether the module's own type says so; else the rule is followed from another module.
        norm: whether the size is the module's own all the same: a norm of an unknown type.
    """

    dim: int
    size: int | None = None
    own: bool = True
    norm: bool = False

    def fits(self, shape: Sequence[int]) -> bool:
        """Return whether the rule's dim has the size that its type tells, where it does."""
        count = len(shape)
        dim = self.dim if -count <= self.dim < count else -1
        return self.size in (None, shape[dim])

    def resolve(self, shape: Sequence[int]) -> int:
        """Return the channel dim of a tensor of this shape, which has at least one dim."""
        n = len(shape)
        last = n - 1
        usual = self.dim % n if -n <= self.dim < n else last
        if n == 1 or (n == 2 and not self.own):
            return last
        if self.dim == -1:
            if self.size in (None, shape[last]):
                moved = self.size is None and not self.own and n >= 4
                return 1 if moved else last
            # A norm or block that puts its channels first, or attention weights after a Linear.
            return 1 if shape[1] == self.size or (n >= 4 and not self.own) else last
        if self.own:
            return usual
        if n == -self.dim and self.size == shape[0] != shape[1]:
            return 0  # an unbatched sample
        if n >= 4:
            moved = self.norm and shape[1] != self.size and shape[last] == self.size
            return last if moved else 1
        if self.size in (shape[1], shape[last]):  # tokens made from an image, say
            return 1 if shape[1] == self.size else last
        return 1 if self.dim in (1, -2) else usual


def channel_rules(model: nn.Module, of: str = "output") -> dict[str, ChannelRule]:
    """Return the rule of every module of a model, by name, for its "output" or "input"."""
    rules: dict[str, ChannelRule] = {}
    # What comes before the first layer with a rule has that layer's input.
    nearest = replace(_rule_inside(model, 0) or ChannelRule(1, own=False), size=None)
    for name, module in named_modules(model).items():
        own = _own_rule(module)
        shape = _normalized_shape(module)
        if len(shape) > 1 and shape[0] == nearest.size and nearest.dim != -1:
            own = ChannelRule(-len(shape), shape[0], own=False)  # a LayerNorm over (C, H, W)
        following = nearest
        if own is not None:
            pooled = "Pool" in type(module).__name__  # which has as many as go in
            nearest = replace(own, own=False, size=nearest.size if pooled else own.size)
        elif next(module.children(), None) is not None:
            own = _rule_inside(module, 0 if of == "input" else -1)
        else:
            size = _weights_of(module)
            if size > 1:  # a norm of its own kind; not the one number of a PReLU
                own = replace(nearest, size=size, norm=True)
        if own is not None and of == "input":
            own = replace(own, size=None)  # sizes are of outputs
        rules[name] = own or following
    return rules


def _own_rule(module: nn.Module) -> ChannelRule | None:
    size = _size_of(module)
    for kind, dims in _SPATIAL_DIMS.items():
        if isinstance(module, kind):
            return ChannelRule(-1 - dims, size)
    if isinstance(module, _DIM_ONE):
        return ChannelRule(1, size)
    if isinstance(module, _LAST):
        # Norms of transformers' ConvNeXt say so where they put channels first; those of
        # torchvision and timm are of a type of their own.
        first = read_attribute(module, "data_format") == "channels_first"
        first = first or type(module).__name__ == "LayerNorm2d"
        return ChannelRule(1 if first else -1, size)
    features = read_attribute(module, "nf")
    if type(module).__name__ == "Conv1D" and isinstance(features, int):  # GPT-2's Linear
        return ChannelRule(-1, features)
    return None


def _rule_inside(block: nn.Module, which: int) -> ChannelRule | None:
    rules = [rule for child in block.modules() if (rule := _own_rule(child)) is not None]
    return replace(rules[which], own=False) if rules else None


def _size_of(module: nn.Module) -> int | None:
    if isinstance(module, nn.RNNBase):
        return (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
    shape = _normalized_shape(module)
    if shape:
        return shape[-1]
    for attribute in _SIZES:
        size = read_attribute(module, attribute)
        if isinstance(size, int) and size > 0:  # lazy modules say 0 until they have run
            return size
    return None


def _normalized_shape(module: nn.Module) -> tuple[int, ...]:
    return module.normalized_shape if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) else ()


def _weights_of(module: nn.Module) -> int:
    """Count the numbers of a module's weight, if it is a vector; else 0."""
    weight = read_attribute(module, "weight")
    if not isinstance(weight, Tensor) or is_lazy(weight) or weight.dim() != 1:
        return 0
    return len(weight)
